//! Write Midplane plugins in Rust: a callback that takes one event and says what becomes of it.
//!
//! ```
//! use midplane_plugin::{Event, Failure, NoConfig, Outputs, Plugin, Ports, plugin};
//!
//! struct Shout;
//!
//! impl Plugin for Shout {
//!     type Config = NoConfig;
//!
//!     fn configure(_config: NoConfig, _ports: &Ports) -> Result<Self, String> {
//!         Ok(Shout)
//!     }
//!
//!     fn process(&mut self, event: Event<'_>, out: &mut Outputs<'_>) -> Result<(), Failure> {
//!         out.emit("default").value(event.text()?.to_uppercase()).header("shouted", "yes").send();
//!         Ok(())
//!     }
//! }
//!
//! plugin!(Shout);
//!
//! // Tests run natively, without WebAssembly and without a broker.
//! use midplane_plugin::test::{Harness, Record};
//!
//! let mut shout = Harness::<Shout>::new(serde_json::json!({}))?;
//! let output = shout.one(Record::new().key("greeting").value("hello"));
//! assert_eq!(output.text(), "HELLO");
//! assert_eq!(output.header("shouted"), Some("yes"));
//! assert_eq!(output.key_text(), "greeting");
//!
//! // A value that isn't text can't be shouted: a permanent failure, for the dead letters.
//! let failure = shout.failure(Record::new().value([0xff]));
//! assert!(failure.message().starts_with("the value is not UTF-8"));
//! # Ok::<(), String>(())
//! ```
//!
//! A plugin is the only `cdylib` of its crate, built with `cargo build --release --target wasm32-unknown-unknown`, and
//! dropped into the host's plugin directory as it is. Its name is the file's name. `README.md` has the whole way.
//!
//! # What holds for every plugin
//!
//! - **It is a function of its event.** Events come in any batches, on several instances at once, again after a crash,
//!   and in a new instance after a swap. Fields of the plugin keep what `configure` prepared, nothing that events said.
//! - **An output is the event, but for what is changed**: key, value, headers and timestamp are carried on unless
//!   [`Emit`] replaces them. What is carried on is not even copied.
//! - **A port is not a topic.** A plugin names ports ([`Plugin::PORTS`]); routes bind them to topics.
//! - **Every event has one outcome**: its outputs; a drop, which is to send none; or a [`Failure`], which discards what
//!   was sent. A panic fails the one event that caused it, and its message is in the log.
//! - **Time stands still, and chance is seeded**: the host answers both from the events, unless the operator grants the
//!   real ones. `wasm32-unknown-unknown` has neither.

#![deny(missing_docs)]

mod columns;
mod event;
#[cfg(test)]
mod examples;
mod failure;
mod imports;
mod instance;
pub mod log;
mod outputs;
mod plugin;

#[cfg(target_family = "wasm")]
#[doc(hidden)]
pub mod bindings;
#[cfg(target_family = "wasm")]
#[doc(hidden)]
pub mod guest;
#[cfg(not(target_family = "wasm"))]
pub mod test;

pub use event::{Event, Header, Headers};
pub use failure::{Failure, FailureKind};
pub use outputs::{Emit, Outputs};
pub use plugin::{FromConfig, NoConfig, Plugin, Ports};

/// Makes a type that implements [`Plugin`] the plugin of this crate. Once in a crate.
///
/// In WebAssembly it exports what the host calls; natively it only checks the type, so that tests link.
#[macro_export]
macro_rules! plugin {
    ($plugin:ty) => {
        #[cfg(not(target_family = "wasm"))]
        const _: fn() = $crate::__private::is_plugin::<$plugin>;

        #[cfg(target_family = "wasm")]
        const _: () = {
            use $crate::bindings::exports::midplane::plugin::batch_processor as wit;

            struct Component;

            ::std::thread_local! {
                static INSTANCE: $crate::guest::Slot<$plugin> =
                    const { $crate::guest::Slot::empty() };
            }

            impl wit::Guest for Component {
                fn describe() -> wit::Description {
                    $crate::guest::describe::<$plugin>()
                }

                fn configure(
                    config: ::std::string::String,
                    ports: ::std::vec::Vec<::std::string::String>,
                ) -> ::std::result::Result<(), ::std::string::String> {
                    INSTANCE.with(|slot| $crate::guest::configure(slot, &config, ports))
                }

                fn process(context: wit::Context, batch: wit::Batch) -> u32 {
                    INSTANCE.with(|slot| $crate::guest::process(slot, context, batch))
                }
            }

    $crate::bindings::export!(Component with_types_in $crate::bindings);
        };
    };
}

/// What the macro names. Not for use by hand.
#[cfg(not(target_family = "wasm"))]
#[doc(hidden)]
pub mod __private {
    /// Natively, all that is left of [`crate::plugin!`].
    pub fn is_plugin<P: crate::Plugin>() {}
}

/// The README's plugin compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
