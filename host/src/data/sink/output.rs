//! One topic that a sink writes to: what is known of it, and what an error that a record met there means for its event.
//! Writes nothing.

use std::time::{Duration, Instant};

use super::{Kind, Message, Time};
use crate::data::engine::{Outcome, Refusal, Refused};
use crate::data::letter::Cut;
use crate::kafka::{Code, Topic};

/// How often the log says the same of a topic, at most.
const SAY_INTERVAL: Duration = Duration::from_secs(1);

/// One output topic.
#[derive(Debug)]
pub(super) struct Output {
    pub(super) name: String,
    pub(super) topic: Topic,
    /// Of what is in flight.
    pub(super) weight: usize,
    pub(super) record_bytes_max: usize,
    /// Whether it has refused a letter under its event's time: behind the clock, and ahead of it.
    refuses_times: [bool; 2],
    /// How many partitions it has, at least; where that was ever asked.
    pub(super) partitions: Option<u32>,
    /// When it was asked.
    pub(super) looked: Option<Instant>,
    /// What the log said of it, when it did last, and how often it would have since.
    said: Vec<(Code, Instant, u64)>,
}

impl Output {
    /// One that takes records of so many bytes, as far as is known.
    pub(super) fn new(name: &str, topic: Topic, record_bytes_max: usize) -> Self {
        Self {
            name: name.to_owned(),
            topic,
            weight: 0,
            record_bytes_max,
            refuses_times: [false; 2],
            partitions: None,
            looked: None,
            said: Vec::new(),
        }
    }

    /// Whether it is known to refuse letters of this time.
    pub(super) fn refuses(&self, time: Time) -> bool {
        match time {
            Time::Now => false,
            Time::Behind => self.refuses_times[0],
            Time::Ahead => self.refuses_times[1],
        }
    }

    /// What the error that one record met means for its event. Of an output that can never be written, that it was refused; of
    /// a letter, too, where it can go without more of its event; of everything else, that it is to be tried again.
    pub(super) fn outcome(&mut self, number: u16, code: Code, bytes: usize, message: &Message) -> Outcome {
        let Message { kind, route, .. } = *message;
        let reason = match code {
            Code::MESSAGE_TOO_LARGE => Some(Refusal::TooLarge),
            // Of a batch, only the guilty records have these.
            Code::INVALID_RECORD | Code::INVALID_TIMESTAMP | Code::UNKNOWN_PARTITION => Some(Refusal::Rejected),
            _ => None,
        };
        if let Some(more) = self.say(code) {
            match reason {
                Some(_) => {
                    tracing::warn!(topic = self.name, error = %code, bytes, ?kind, more, "A message was refused.");
                }
                None => {
                    tracing::warn!(topic = self.name, error = %code, ?kind, more, "A message was not written: its event runs again.");
                }
            }
        }
        let reason = match (kind, reason) {
            (Kind::Output, Some(reason)) => reason,
            (Kind::Letter { cut, .. }, Some(Refusal::TooLarge)) if cut != Cut::Event => {
                Refusal::LetterTooLarge { cut: cut == Cut::Value }
            }
            (Kind::Letter { time, .. }, Some(Refusal::Rejected)) => {
                match time {
                    Time::Now => {}
                    Time::Behind => self.refuses_times[0] = true,
                    Time::Ahead => self.refuses_times[1] = true,
                }
                return Outcome::Failed;
            }
            _ => return Outcome::Failed,
        };
        // Of a route that is gone nothing has to be remembered: its events run by other routes now.
        route.map_or(Outcome::Failed, |route| Outcome::Refused(Refused { route, output: number, reason }))
    }

    /// Whether the log is to say that a message met an error, and how many others met it since it last did.
    fn say(&mut self, code: Code) -> Option<u64> {
        let now = Instant::now();
        match self.said.iter_mut().find(|(said, ..)| *said == code) {
            Some((_, at, unsaid)) if now.duration_since(*at) < SAY_INTERVAL => {
                *unsaid += 1;
                None
            }
            Some((_, at, unsaid)) => {
                *at = now;
                Some(std::mem::take(unsaid))
            }
            None => {
                self.said.push((code, now, 0));
                Some(0)
            }
        }
    }
}
