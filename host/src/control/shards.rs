//! The shards of this host: how many a group has, starting their threads, and stopping them. What they do is theirs.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::status::Status;
use super::topics::{self, Found};
use crate::config::model::Group;
use crate::data::program::Program;
use crate::data::shard::{Command, Ended, Health, Settings, Shard};
use crate::kafka::topics::TopicInfo;
use crate::kafka::{self, Connection};

/// Beyond the drain's own deadline: to leave the group, and to end.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a shard ended before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// One of its clients can't go on.
    #[error("shard {shard} stopped")]
    Kafka {
        /// `GROUP/NUMBER`
        shard: String,
        /// What happened.
        source: kafka::Error,
    },
    /// A fault of the host's.
    #[error("shard {shard} panicked: {message}")]
    Panicked {
        /// `GROUP/NUMBER`
        shard: String,
        /// The panic's words.
        message: String,
    },
    /// It could not be started.
    #[error("the thread of shard {shard} could not be started")]
    Thread {
        /// `GROUP/NUMBER`
        shard: String,
        /// What the system said.
        source: std::io::Error,
    },
}

/// A group that runs.
struct Running {
    program: Arc<Program>,
    topics: Vec<String>,
    commands: Vec<Sender<Command>>,
}

/// All shards.
pub struct Shards {
    groups: Vec<Running>,
    running: usize,
    ended: UnboundedReceiver<Result<Ended, Error>>,
    report: UnboundedSender<Result<Ended, Error>>,
}

impl Default for Shards {
    fn default() -> Self {
        let (report, ended) = unbounded_channel();
        Self { groups: Vec::new(), running: 0, ended, report }
    }
}

/// How many shards a group gets: as many as it says, or its part of the machine's cores; at most one a partition.
pub fn count(group: &Group, groups: usize, cores: usize, partitions: usize) -> usize {
    let wanted = group.shards.map_or(cores / groups.max(1), std::num::NonZero::get);
    wanted.clamp(1, partitions.max(1))
}

impl Shards {
    /// Starts `count` shards of a group.
    ///
    /// # Errors
    /// Where a thread can't be started.
    pub fn start(
        &mut self,
        program: Arc<Program>,
        count: usize,
        connection: &Connection,
        instance: &str,
        found: &Found,
        status: &Status,
    ) -> Result<(), Error> {
        let topics = topics::of_group(&program, &found.present);
        let output = |name: &String| (name.clone(), found.sizes.record_bytes_max(name, connection));
        let outputs: Vec<_> = program.topics.iter().map(output).collect();
        let mut commands = Vec::with_capacity(count);
        for number in 0..count {
            let shard = format!("{}/{number}", program.group);
            let health = Arc::new(Health::default());
            status.shard(shard.clone(), &health);
            let settings = Settings {
                connection: connection.clone(),
                client_id: format!("midplane.{}.{instance}.{number}", program.group),
                consumer_buffer_bytes: kafka::settings::CONSUMER_BUFFER_BYTES,
                producer_buffer_bytes: kafka::settings::PRODUCER_BUFFER_BYTES * 2,
                record_bytes_max: kafka::settings::RECORD_BYTES_MAX,
                batch_bytes_max: found.sizes.batch_bytes_max(&program.topics),
                outputs: outputs.clone(),
                program: program.clone(),
                topics: topics.clone(),
            };
            let (sender, receiver) = channel();
            let report = self.report.clone();
            let name = shard.clone();
            let run = move || {
                let run = AssertUnwindSafe(|| Shard::start(settings, receiver, health).and_then(Shard::run));
                let ended = match std::panic::catch_unwind(run) {
                    Ok(ended) => ended.map_err(|source| Error::Kafka { shard: name, source }),
                    Err(panic) => Err(Error::Panicked { shard: name, message: panic_message(&*panic) }),
                };
                // Nobody listens any more only where the host has given up waiting.
                let _ = report.send(ended);
            };
            let thread = std::thread::Builder::new().name(format!("shard-{shard}"));
            thread.spawn(run).map_err(|source| Error::Thread { shard, source })?;
            self.running += 1;
            commands.push(sender);
        }
        tracing::info!(
            group = program.group,
            shards = count,
            topics = topics.len(),
            "The group's shards have started."
        );
        self.groups.push(Running { program, topics, commands });
        Ok(())
    }

    /// Tells the shards which topics there are, where that changes what they read.
    pub fn topics_changed(&mut self, present: &[TopicInfo]) {
        for group in self.groups.iter_mut().filter(|group| group.program.index.has_patterns()) {
            let topics = topics::of_group(&group.program, present);
            if topics != group.topics {
                tracing::info!(group = group.program.group, topics = topics.len(), "The group reads other topics now.");
                for shard in &group.commands {
                    let _ = shard.send(Command::Subscribe(topics.clone()));
                }
                group.topics = topics;
            }
        }
    }

    /// Waits for a shard that ends by itself, which is never for a good reason. Waits for ever while there is none.
    pub async fn failed(&mut self) -> Error {
        loop {
            match self.ended.recv().await {
                Some(Err(error)) => {
                    self.running -= 1;
                    return error;
                }
                Some(Ok(_)) => self.running -= 1,
                None => std::future::pending().await,
            }
        }
    }

    /// Drains all shards. Whether everything was acknowledged and committed in time.
    pub async fn drain(&mut self, timeout: Duration) -> bool {
        for shard in self.groups.iter().flat_map(|group| &group.commands) {
            let _ = shard.send(Command::Drain { timeout });
        }
        let mut clean = true;
        let all = async {
            while self.running > 0 {
                match self.ended.recv().await {
                    Some(Ok(ended)) => clean &= ended.clean,
                    Some(Err(error)) => {
                        tracing::error!(error = %error_chain(&error), "A shard did not stop as it should.");
                        clean = false;
                    }
                    None => return,
                }
                self.running -= 1;
            }
        };
        if tokio::time::timeout(timeout + LEAVE_TIMEOUT, all).await.is_err() {
            tracing::error!(shards = self.running, "Shards did not stop in time.");
            return false;
        }
        clean
    }
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}

/// An error with what caused it, on one line.
pub fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(&format!(": {error}"));
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::{OutOfRange, Start};

    #[test]
    fn cores_are_divided_among_groups() {
        let check = |shards, groups, cores, partitions, expected| {
            let group = Group {
                name: "g".to_owned(),
                commit_interval: Duration::from_millis(100),
                shards: std::num::NonZero::new(shards),
                start: Start::Earliest,
                out_of_range: OutOfRange::Halt,
                routes: vec![0],
            };
            assert_eq!(count(&group, groups, cores, partitions), expected);
        };
        check(0, 1, 8, 100, 8);
        check(0, 3, 8, 100, 2);
        check(0, 20, 8, 100, 1);
        check(0, 1, 8, 4, 4);
        check(5, 1, 2, 100, 5);
        check(5, 1, 2, 3, 3);
        check(0, 1, 8, 0, 1);
    }
}
