//! Plugins: loading, verifying and compiling them, and calling them with batches under limits.
//!
//! The way of a plugin through this module: [`Runtime::load`] turns bytes into a [`Plugin`] (verified, compiled,
//! described), [`Plugin::prepare`] binds it to a config and to ports ([`Prepared`]), and a [`Worker`] on the shard's own
//! thread owns an [`Instance`] of that and runs batches through it.
//!
//! Whatever a plugin does wrong comes out as a verdict of the event that it did it with, never as an error of the host.
//! Nothing in here knows topics, offsets or other routes.

mod bindings;
mod cache;
mod columnar;
mod deadline;
mod instance;
mod journal;
mod load;
mod pacing;
mod runtime;
mod state;
mod ticker;
mod typed;
pub mod verdicts;
mod verify;
mod wasi;
mod worker;

pub use instance::{Instance, InstanceError, Prepared, Spec};
pub use journal::log_bytes_cut;
pub use load::{LoadError, PLUGIN_BYTES_MAX, Plugin, PluginKind, Reason};
pub use runtime::{Error, Runtime, RuntimeOptions, STACK_BYTES, THREAD_STACK_BYTES};
pub use worker::{Call, HELD_BYTES_MAX, Stats, Worker};
