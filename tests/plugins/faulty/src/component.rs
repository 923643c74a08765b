//! What `midplane_plugin::plugin!` would export, but for the answer of `process`, which orders can falsify.

use midplane_plugin::bindings::exports::midplane::plugin::batch_processor::{Batch, Context, Description, Guest};
use midplane_plugin::guest::{self, Slot};

use crate::{Faulty, protocol};

struct Component;

thread_local! {
    static INSTANCE: Slot<Faulty> = const { Slot::empty() };
}

impl Guest for Component {
    fn describe() -> Description {
        guest::describe::<Faulty>()
    }

    fn configure(config: String, ports: Vec<String>) -> Result<(), String> {
        INSTANCE.with(|slot| guest::configure(slot, &config, ports))
    }

    fn process(context: Context, batch: Batch) -> u32 {
        let answered = INSTANCE.with(|slot| guest::process(slot, context, batch));
        answered.wrapping_add_signed(protocol::take_miscount())
    }
}

midplane_plugin::bindings::export!(Component with_types_in midplane_plugin::bindings);
