//! The topics that a measurement reads and writes: made, filled, and deleted after it, since their events lie in memory.

use std::cell::RefCell;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use midplane::kafka::settings::{BATCH_BYTES_MAX, PRODUCER_BUFFER_BYTES, RECORD_BYTES_MAX};
use midplane::kafka::{
    AdminSettings, Connection, NewTopic, Outgoing, ProduceError, Producer, ProducerSettings, Report, Topics,
};

use crate::{Failure, Options};

/// How long the broker may take for one thing that it is asked.
const PATIENCE: Duration = Duration::from_secs(30);

/// Topics of one measurement.
pub(crate) struct Input {
    servers: String,
    topics: Topics,
    /// Deletes topics.
    midplane: PathBuf,
    made: RefCell<Vec<String>>,
}

impl Input {
    pub(crate) fn new(options: &Options) -> Result<Self, Failure> {
        let settings = AdminSettings { connection: connection(options.servers()?), client_id: "bench".to_owned() };
        Ok(Self {
            servers: options.servers()?.to_owned(),
            topics: Topics::new(&settings)?,
            midplane: options.program("midplane"),
            made: RefCell::default(),
        })
    }

    /// Makes topics, of so many partitions each.
    pub(crate) fn create(&self, names: &[String], partitions: i32) -> Result<(), Failure> {
        let new = |name: &String| NewTopic {
            name: name.clone(),
            partitions: Some(partitions),
            replication: Some(1),
            config: Vec::new(),
        };
        self.topics.create(&names.iter().map(new).collect::<Vec<_>>(), PATIENCE)?;
        self.made.borrow_mut().extend_from_slice(names);
        Ok(())
    }

    /// Deletes topics. One that stays costs memory, not the measurement: it is only said.
    pub(crate) fn delete(&self, names: &[String]) {
        let mut command = Command::new(&self.midplane);
        command.args(["topic", "delete", "--bootstrap-servers", &self.servers]).args(names);
        match command.stdin(Stdio::null()).stdout(Stdio::null()).status() {
            Ok(status) if status.success() => {}
            failed => eprintln!("bench: topics could not be deleted: {failed:?}"),
        }
        self.made.borrow_mut().retain(|made| !names.contains(made));
    }

    /// Writes the events of these numbers, in turn to each of the topics.
    pub(crate) fn fill(
        &self,
        names: &[String],
        numbers: std::ops::Range<usize>,
        value: impl Fn(usize, &mut Vec<u8>),
    ) -> Result<(), Failure> {
        let mut producer = Producer::new(&ProducerSettings {
            connection: connection(&self.servers),
            client_id: "bench".to_owned(),
            transactional_id: None,
            buffer_bytes: PRODUCER_BUFFER_BYTES,
            record_bytes_max: RECORD_BYTES_MAX,
            batch_bytes_max: BATCH_BYTES_MAX,
        })?;
        let topics = names.iter().map(|name| producer.topic(name)).collect::<Result<Vec<_>, _>>()?;
        let mut failed = None;
        let mut report = |report: Report| failed = failed.or(report.error);
        let mut bytes = Vec::new();
        for number in numbers {
            let key = format!("{:016x}", (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
            value(number, &mut bytes);
            let record =
                Outgoing { partition: None, key: Some(key.as_bytes()), value: Some(&bytes), timestamp: 0, opaque: 0 };
            while let Err(error) = producer.produce(topics[number % topics.len()], record, &mut None) {
                if error != ProduceError::Full {
                    return Err(error.into());
                }
                producer.poll(Duration::from_millis(1), &mut report)?;
            }
        }
        let all = producer.flush(Instant::now() + PATIENCE, &mut report)?;
        match failed {
            None if all => Ok(()),
            _ => Err(format!("the input couldn't be written ({failed:?})").into()),
        }
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        let left = self.made.take();
        if !left.is_empty() {
            self.delete(&left);
        }
    }
}

/// A connection that only says where.
pub(crate) fn connection(servers: &str) -> Connection {
    Connection { bootstrap: servers.to_owned(), client: Default::default() }
}

/// A name that nobody had before.
pub(crate) fn unique(stem: &str) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    format!("{stem}-{:x}", now.as_nanos())
}
