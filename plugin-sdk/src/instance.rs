//! An instance of a plugin and its calls, the same natively and in WebAssembly: JSON to configuration, columns to
//! events, results to outputs and failures.

use crate::columns::{Batch, Context, EVENT_WORDS, EventRow};
use crate::outputs::Buffer;
use crate::{Event, FromConfig, Outputs, Plugin, Ports, imports};

/// A configured plugin and the buffers that it reuses.
#[derive(Debug)]
pub(crate) struct Instance<P> {
    plugin: P,
    outputs: Buffer,
}

impl<P: Plugin> Instance<P> {
    /// Configures a plugin.
    pub(crate) fn configure(config: &str, ports: Vec<String>) -> Result<Self, String> {
        let plugin = P::configure(P::Config::from_json(config)?, &Ports::new(ports))?;
        Ok(Self { plugin, outputs: Buffer::default() })
    }

    /// Answers each event of a batch through the imports. Returns their number.
    pub(crate) fn process(&mut self, context: &Context, batch: &Batch) -> u32 {
        let mut bytes = batch.bytes.as_slice();
        let (rows, _) = batch.rows.as_chunks::<EVENT_WORDS>();
        for (index, row) in (0..).zip(rows) {
            let event = Event::new(context, batch, EventRow::decode(row, &mut bytes));
            let mut outputs = Outputs::new(&mut self.outputs, P::PORTS, index, event.header_block());
            if let Err(failure) = self.plugin.process(event, &mut outputs) {
                // What the event sent is the host's to discard, before this call or after.
                imports::fail(index, failure);
            }
        }
        self.outputs.flush();
        rows.len() as u32
    }
}
