//! A host for unit tests: runs a plugin natively, over the same columns as in WebAssembly, and holds it to the host's
//! rules. It has no limits, deadlines or retries; those are the host's.

pub(crate) mod imports;
mod output;
pub(crate) mod record;

pub use imports::LogLine;
pub use output::Output;
pub use record::Record;

pub use serde_json::{Value, json};

use crate::columns::{Batch, Context};
use crate::instance::Instance;
use crate::{Failure, Plugin};

/// A plugin under test. See the crate's first example.
#[derive(Debug)]
pub struct Harness<P> {
    instance: Instance<P>,
    context: Context,
    bound: Vec<String>,
    next_offset: i64,
}

impl<P: Plugin> Harness<P> {
    /// Configures the plugin, with every port bound that it describes.
    ///
    /// # Errors
    /// What the plugin says of its configuration.
    pub fn new(config: Value) -> Result<Self, String> {
        Self::with_ports(config, P::PORTS)
    }

    /// Configures the plugin, with some of its ports bound.
    ///
    /// # Errors
    /// What the plugin says of its configuration.
    ///
    /// # Panics
    /// Where the plugin can't be loaded: it doesn't describe a port that is bound, or its schema isn't JSON.
    pub fn with_ports(config: Value, ports: &[&str]) -> Result<Self, String> {
        for port in ports {
            assert!(P::PORTS.contains(port), "no port `{port}` is described (known: {})", P::PORTS.join(", "));
        }
        if let Some(schema) = P::config_schema() {
            assert!(serde_json::from_str::<Value>(schema).is_ok(), "the schema of the config is not JSON: {schema}");
        }
        let bound: Vec<String> = ports.iter().map(|port| (*port).to_owned()).collect();
        let instance = Instance::configure(&config.to_string(), bound.clone())?;
        let context = Context { route: "test".to_owned(), generation: 1, attempt: 1 };
        Ok(Self { instance, context, bound, next_offset: 0 })
    }

    /// Has the next events be offered for the nth time, as after transient failures.
    pub fn set_attempt(&mut self, attempt: u32) {
        self.context.attempt = attempt;
    }

    /// Offers one event: its outputs, or why it failed.
    ///
    /// # Errors
    /// The plugin's failure.
    ///
    /// # Panics
    /// As [`Harness::batch`].
    pub fn event(&mut self, record: Record) -> Result<Vec<Output>, Failure> {
        self.batch(vec![record]).remove(0)
    }

    /// Offers events in one batch: for each its outputs, or why it failed.
    ///
    /// # Panics
    /// Where an output names a port that the plugin doesn't describe or that isn't bound, and where the records aren't
    /// of one partition.
    pub fn batch(&mut self, mut records: Vec<Record>) -> Vec<Result<Vec<Output>, Failure>> {
        for record in &mut records {
            self.next_offset = *record.offset.get_or_insert(self.next_offset) + 1;
        }
        let batch: Batch = record::encode(&records);
        imports::begin();
        let answered = self.instance.process(&self.context, &batch);
        let results = imports::end();
        assert_eq!(answered as usize, records.len(), "every event is answered");
        let mut answers: Vec<Result<Vec<Output>, Failure>> = records.iter().map(|_| Ok(Vec::new())).collect();
        for (rows, bytes) in &results.pushed {
            for (event, output) in output::decode(rows, bytes, P::PORTS, &records) {
                let port = &output.port;
                assert!(P::PORTS.contains(&port.as_str()), "no port `{port}` (described: {})", P::PORTS.join(", "));
                assert!(self.bound.contains(port), "port `{port}` is not bound (bound: {})", self.bound.join(", "));
                if let Ok(outputs) = &mut answers[event] {
                    outputs.push(output);
                }
            }
        }
        for (event, failure) in results.failures {
            answers[event as usize] = Err(failure);
        }
        answers
    }

    /// Offers an event that must have exactly one output.
    ///
    /// # Panics
    /// Where it has none, several, or fails.
    pub fn one(&mut self, record: Record) -> Output {
        let mut outputs = self.outputs(record);
        assert_eq!(outputs.len(), 1, "one output was expected: {outputs:?}");
        outputs.remove(0)
    }

    /// Offers an event that must not fail.
    ///
    /// # Panics
    /// Where it does.
    pub fn outputs(&mut self, record: Record) -> Vec<Output> {
        self.event(record).unwrap_or_else(|failure| panic!("outputs were expected, not a failure: {failure}"))
    }

    /// Offers an event that must fail.
    ///
    /// # Panics
    /// Where it doesn't.
    pub fn failure(&mut self, record: Record) -> Failure {
        self.event(record).expect_err("a failure was expected")
    }

    /// What the plugin logged on this thread since the last call.
    pub fn logs(&mut self) -> Vec<LogLine> {
        imports::take_logs()
    }
}
