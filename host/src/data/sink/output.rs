//! One topic that a sink writes to: what is known of it, and what an error that a record met there means for its event.
//! Writes nothing.

use std::time::{Duration, Instant};

use super::Kind;
use crate::data::engine::{Outcome, Refusal};
use crate::kafka::{Code, Topic};

/// The smallest record whose refusal says what its topic takes.
const LEARNED_BYTES_MIN: usize = 1 << 10;
/// How often the log says the same of a topic, at most.
const SAY_INTERVAL: Duration = Duration::from_secs(1);

/// One output topic.
#[derive(Debug)]
pub(super) struct Output {
    pub(super) name: String,
    pub(super) topic: Topic,
    pub(super) bytes_in_flight: usize,
    pub(super) record_bytes_max: usize,
    /// Whether it has refused a letter under its event's time, by whether that was ahead of the clock.
    pub(super) refuses_times: [bool; 2],
    /// How many partitions it has, at least; where that was ever asked.
    pub(super) partitions: Option<u32>,
    /// When it was asked.
    pub(super) looked: Option<Instant>,
    /// What the log said of it last, and how often it would have since.
    said: Option<(Instant, Code)>,
    unsaid: u64,
}

impl Output {
    /// One that takes records of so many bytes, as far as is known.
    pub(super) fn new(name: &str, topic: Topic, record_bytes_max: usize) -> Self {
        Self {
            name: name.to_owned(),
            topic,
            bytes_in_flight: 0,
            record_bytes_max,
            refuses_times: [false; 2],
            partitions: None,
            looked: None,
            said: None,
            unsaid: 0,
        }
    }

    /// What the error that one record met means for its event. Of an output that can never be written, that it was refused;
    /// of everything else, and of a letter whatever it is, that it is to be tried again.
    pub(super) fn outcome(&mut self, number: u16, code: Code, bytes: usize, kind: Kind) -> Outcome {
        let reason = match code {
            Code::MESSAGE_TOO_LARGE => {
                // What the topic takes is known from here on: the next one like it isn't tried, and a letter goes without
                // value. Of small records it is their headers that were too large, which says nothing about others.
                if bytes >= LEARNED_BYTES_MIN {
                    self.record_bytes_max = self.record_bytes_max.min(bytes);
                }
                Refusal::TooLarge
            }
            // Of a batch, the client gives these to the guilty records alone.
            Code::INVALID_RECORD | Code::UNKNOWN_PARTITION => Refusal::Rejected,
            Code::INVALID_TIMESTAMP => {
                if let Kind::Letter { ahead } = kind {
                    self.refuses_times[usize::from(ahead)] = true;
                }
                Refusal::Rejected
            }
            _ => {
                if let Some(more) = self.say(code) {
                    tracing::warn!(topic = self.name, error = %code, ?kind, more, "A message was not written: its event runs again.");
                }
                return Outcome::Failed;
            }
        };
        if let Some(more) = self.say(code) {
            tracing::warn!(topic = self.name, error = %code, bytes, ?kind, more, "A message was refused.");
        }
        match kind {
            Kind::Letter { .. } => Outcome::Failed,
            Kind::Output => Outcome::Refused { output: number, reason },
        }
    }

    /// Whether the log is to say that a message met an error, and how many others met it since it last did.
    fn say(&mut self, code: Code) -> Option<u64> {
        if self.said.is_some_and(|(at, said)| said == code && at.elapsed() < SAY_INTERVAL) {
            self.unsaid += 1;
            return None;
        }
        self.said = Some((Instant::now(), code));
        Some(std::mem::take(&mut self.unsaid))
    }
}
