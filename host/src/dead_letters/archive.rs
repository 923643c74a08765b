//! The topics of dead letters on a broker, each read as it is now, with what was redriven of it. Changes nothing
//! of them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::log::Log;
use super::marks::{self, Marks};
use super::selection::{Selection, Verdict};
use super::{Error, Letter, Mark};
use crate::data::filter::Scratch;
use crate::kafka::{Connection, TopicInfo, Topics};

/// How often a topic is looked for that was made a moment ago, and is not in every answer yet.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// What there is on a broker.
pub struct Archive {
    connection: Connection,
    topics: BTreeMap<String, TopicInfo>,
    timeout: Duration,
}

/// What was seen of a topic.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Letters.
    pub letters: u64,
    /// Those of them that are meant.
    pub selected: u64,
    /// Those that the expression can't be evaluated for.
    pub undecided: u64,
    /// Why not, for the first of them.
    pub why: Option<String>,
    /// Records that are no letters.
    pub others: u64,
}

impl Archive {
    /// Looks at the topics that there are.
    ///
    /// # Errors
    /// Where the broker doesn't answer in time.
    pub fn open(connection: Connection, topics: &Topics, timeout: Duration) -> Result<Self, Error> {
        Ok(Self { connection, topics: list(topics, timeout)?, timeout })
    }

    /// Makes the topic of the marks of a topic of letters.
    ///
    /// # Errors
    /// Where it can't be made.
    pub fn make_marks(&mut self, topics: &Topics, letters: &str) -> Result<(), Error> {
        marks::make(topics, letters, self.timeout)?;
        let deadline = Instant::now() + self.timeout;
        while !self.has(&marks::topic_of(letters)) {
            if Instant::now() >= deadline {
                return Err(Error::Silent(self.timeout));
            }
            std::thread::sleep(LOOK_INTERVAL);
            self.topics = list(topics, self.timeout)?;
        }
        Ok(())
    }

    /// Whether there is such a topic.
    pub fn has(&self, topic: &str) -> bool {
        self.topics.get(topic).is_some_and(|topic| topic.partitions > 0)
    }

    /// How it is reached.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// How long it may be silent.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Shows each letter that is meant of a topic that there is, with what is known of its redrive.
    ///
    /// # Errors
    /// Where the topic can't be read.
    pub fn visit(
        &self,
        topic: &str,
        selection: &Selection,
        each: &mut dyn FnMut(&Letter<'_>, Option<&Mark>),
    ) -> Result<Seen, Error> {
        let (mut seen, mut scratch) = (Seen::default(), Scratch::default());
        let marks = self.marks(topic)?;
        let mut log = self.log(topic, selection)?;
        while log.read()? {
            for record in log.records() {
                let Some(letter) = Letter::of(record) else {
                    seen.others += 1;
                    continue;
                };
                seen.letters += 1;
                match selection.judge(topic, &letter, &mut scratch) {
                    Verdict::Selected => {
                        seen.selected += 1;
                        each(&letter, marks.of(&letter));
                    }
                    Verdict::Other => {}
                    Verdict::Undecided(why) => {
                        seen.undecided += 1;
                        seen.why.get_or_insert(why);
                    }
                }
            }
        }
        Ok(seen)
    }

    /// What was redriven of a topic.
    pub(super) fn marks(&self, topic: &str) -> Result<Marks, Error> {
        Marks::read(&self.connection, self.topics.get(&marks::topic_of(topic)), self.timeout)
    }

    /// The part of a topic in which letters may be meant.
    pub(super) fn log(&self, topic: &str, selection: &Selection) -> Result<Log, Error> {
        let within = |partition| selection.within(topic, partition);
        Log::open(&self.connection, &self.topics[topic], within, self.timeout)
    }
}

fn list(topics: &Topics, timeout: Duration) -> Result<BTreeMap<String, TopicInfo>, Error> {
    Ok(topics.list(timeout)?.into_iter().map(|topic| (topic.name.clone(), topic)).collect())
}
