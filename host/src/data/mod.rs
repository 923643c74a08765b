//! The data plane: the path of an event, one module a step.
//!
//! `source → route → plugin → sink → offset`, on one shard's thread, in batches, with no lock and no hand-off. What is
//! decided about events (settled, committed, retried, parked) is decided by [`engine`], which does no I/O.

pub mod answers;
pub mod canary;
pub mod chain;
pub mod engine;
pub mod event;
pub mod failure;
pub mod filter;
pub mod handover;
pub mod lane;
pub mod letter;
pub mod note;
pub mod origin;
pub mod plugin;
pub mod program;
pub mod route;
pub mod shadow;
pub mod shard;
pub mod sink;
pub mod size;
pub mod stop;
pub mod trial;
mod window;
