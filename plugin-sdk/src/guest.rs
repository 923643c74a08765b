//! What a plugin's component exports, between wit-bindgen's types and the SDK's.

use std::cell::RefCell;
use std::sync::Once;

use crate::bindings::exports::midplane::plugin::batch_processor as wit;
use crate::columns::{Batch, Context};
use crate::instance::Instance;
use crate::{Plugin, log};

/// Where the macro keeps a component's instance.
#[derive(Debug)]
pub struct Slot<P>(RefCell<Option<Instance<P>>>);

impl<P> Slot<P> {
    /// Before `configure`.
    pub const fn empty() -> Self {
        Self(RefCell::new(None))
    }
}

/// `describe`.
pub fn describe<P: Plugin>() -> wit::Description {
    report_panics();
    wit::Description {
        ports: P::PORTS.iter().map(|port| (*port).to_owned()).collect(),
        config_schema: P::config_schema().map(str::to_owned),
    }
}

/// `configure`.
pub fn configure<P: Plugin>(slot: &Slot<P>, config: &str, ports: Vec<String>) -> Result<(), String> {
    report_panics();
    *slot.0.borrow_mut() = Some(Instance::configure(config, ports)?);
    Ok(())
}

/// `process`.
pub fn process<P: Plugin>(slot: &Slot<P>, context: wit::Context, batch: wit::Batch) -> u32 {
    let context = Context { route: context.route, generation: context.generation, attempt: context.attempt };
    let batch = Batch { topic: batch.topic, partition: batch.partition, rows: batch.rows, bytes: batch.bytes };
    slot.0.borrow_mut().as_mut().expect("`configure` comes before `process`").process(&context, &batch)
}

/// A panic becomes a trap, which says nothing: its message goes to the log before.
fn report_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        std::panic::set_hook(Box::new(|panic| {
            let place = panic.location().map(ToString::to_string).unwrap_or_default();
            let message = panic.payload_as_str().unwrap_or("no message");
            log::error("Plugin panicked.", &[("panic", &message), ("at", &place)]);
        }));
    });
}
