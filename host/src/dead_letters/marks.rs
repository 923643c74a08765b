//! What was redriven: a record for each letter, in a topic of its own beside the letters', written in one transaction with what
//! the letter led to. Never decides whether a letter is redriven.
//!
//! `TOPIC.redriven` is compacted where the broker does that; its keys are `PARTITION/OFFSET` of the letters in `TOPIC`.

use std::collections::HashMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::log::Log;
use super::place::Place;
use super::{Error, Letter};
use crate::kafka::{self, Code, Connection, NewTopic, TopicInfo, Topics};

/// The form of marks that this version writes and reads.
const FORM: u32 = 1;
/// The end of the topic's name.
const SUFFIX: &str = ".redriven";

/// The topic of the marks of a topic of letters.
pub fn topic_of(letters: &str) -> String {
    format!("{letters}{SUFFIX}")
}

/// What the topic has to be told, where the broker takes it.
pub const SETTING: (&str, &str) = ("cleanup.policy", "compact");

/// Makes the topic of the marks of a topic of letters; somebody else may do so at the same moment.
///
/// # Errors
/// Where it can't be made.
pub fn make(topics: &Topics, letters: &str, timeout: Duration) -> Result<(), kafka::Error> {
    let (name, value) = SETTING;
    let mut topic = NewTopic {
        name: topic_of(letters),
        partitions: Some(1),
        replication: None,
        config: vec![(name.to_owned(), value.to_owned())],
    };
    let mut made = topics.create(std::slice::from_ref(&topic), timeout);
    let is = |made: &Result<(), kafka::Error>, code| made.as_ref().is_err_and(|error| error.code() == Some(code));
    // A broker that compacts nothing keeps records for a time from when they were written: marks outlast their letters.
    if is(&made, Code::INVALID_CONFIG) {
        topic.config.clear();
        made = topics.create(std::slice::from_ref(&topic), timeout);
    }
    if is(&made, Code::TOPIC_ALREADY_EXISTS) { Ok(()) } else { made }
}

/// What came of a letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Outputs.
    Outputs,
    /// The plugins, or the route's policy, dropped the event.
    Dropped,
    /// The route's filter could be evaluated this time, and doesn't take the event.
    NotTaken,
    /// It failed again, and there is another letter.
    FailedAgain,
}

/// That a letter was redriven.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// The form of this record.
    v: u32,
    /// When the letter was written. With the event's place it tells a letter from that of a topic which had the same name.
    written: i64,
    /// Where the event was.
    event: String,
    /// When it was redriven, in milliseconds since the Unix epoch.
    pub at: i64,
    /// The route, by its id.
    pub route: String,
    /// How often that has had the event back, this time included.
    pub times: u32,
    /// What came of it.
    pub outcome: Outcome,
}

impl Mark {
    /// That a letter is redriven, now.
    pub fn new(letter: &Letter<'_>, route: &str, times: u32, outcome: Outcome) -> Self {
        Self {
            v: FORM,
            written: letter.said.timestamp,
            event: letter.origin().to_string(),
            at: jiff::Timestamp::now().as_millisecond(),
            route: route.to_owned(),
            times,
            outcome,
        }
    }

    /// The record's key.
    pub fn key(letter: &Letter<'_>) -> String {
        format!("{}/{}", letter.partition, letter.offset)
    }

    /// The record's value.
    pub fn value(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a mark is plain JSON")
    }

    fn is_of(&self, letter: &Letter<'_>) -> bool {
        self.written == letter.said.timestamp && self.event == letter.origin().to_string()
    }
}

/// What was redriven of a topic of letters.
#[derive(Debug, Default)]
pub struct Marks(HashMap<(i32, i64), Mark>);

impl Marks {
    /// Reads all that are committed. None where there is no topic of them.
    ///
    /// # Errors
    /// Where they can't be read, or aren't understood: whoever took that for "not redriven" would redrive twice.
    pub fn read(connection: &Connection, topic: Option<&TopicInfo>, timeout: Duration) -> Result<Self, Error> {
        let mut marks = Self::default();
        let Some(topic) = topic else { return Ok(marks) };
        let mut log = Log::open(connection, topic, |_| 0..i64::MAX, timeout)?;
        while log.read()? {
            for record in log.records() {
                let taken = marks.take(record.key(), record.value());
                taken.map_err(|reason| {
                    let (partition, offset) = (record.partition(), record.offset());
                    Error::UnknownMark { place: Place { topic: topic.name.clone(), partition, offset }, reason }
                })?;
            }
        }
        Ok(marks)
    }

    fn take(&mut self, key: Option<&[u8]>, value: Option<&[u8]>) -> Result<(), String> {
        let key = key.and_then(|key| std::str::from_utf8(key).ok()).and_then(|key| key.split_once('/'));
        let numbers = key.and_then(|(partition, offset)| Some((partition.parse().ok()?, offset.parse().ok()?)));
        let place = numbers.ok_or("its key is not PARTITION/OFFSET")?;
        match value {
            Some(value) => {
                let mark: Mark = serde_json::from_slice(value).map_err(|error| error.to_string())?;
                if mark.v != FORM {
                    return Err(format!("it has form {}, expected {FORM}", mark.v));
                }
                self.0.insert(place, mark);
            }
            // Somebody took it back.
            None => drop(self.0.remove(&place)),
        }
        Ok(())
    }

    /// That a letter was redriven, if it was.
    pub fn of(&self, letter: &Letter<'_>) -> Option<&Mark> {
        self.0.get(&(letter.partition, letter.offset)).filter(|mark| mark.is_of(letter))
    }

    /// A letter was redriven.
    pub fn add(&mut self, letter: &Letter<'_>, mark: Mark) {
        self.0.insert((letter.partition, letter.offset), mark);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::letter;
    use super::*;

    #[test]
    fn a_mark_is_of_its_letter_alone() {
        let redriven = letter(5, &[], "{}");
        let mark = Mark::new(&redriven, "r", 2, Outcome::FailedAgain);
        let mut marks = Marks::default();
        marks.take(Some(Mark::key(&redriven).as_bytes()), Some(&mark.value())).expect("it was written just now");
        assert_eq!(marks.of(&redriven), Some(&mark));
        assert_eq!(marks.of(&letter(6, &[], "{}")), None);
        // The topic was deleted and made again, and another letter has the place.
        assert_eq!(marks.of(&letter(5, &[("timestamp", "77")], "{}")), None);
        assert_eq!(marks.of(&letter(5, &[("offset", "2")], "{}")), None);
        marks.take(Some(b"0/5"), None).expect("a tombstone");
        assert_eq!(marks.of(&redriven), None);
    }

    #[test]
    fn what_is_not_understood_is_not_passed_over() {
        let check = |key: &str, value: &str, expected: &str| {
            let error = Marks::default().take(Some(key.as_bytes()), Some(value.as_bytes())).expect_err("refused");
            assert!(error.contains(expected), "{error}");
        };
        let mark = Mark::new(&letter(5, &[], ""), "r", 1, Outcome::Outputs);
        let value = String::from_utf8(mark.value()).expect("text");
        check("5", &value, "its key is not PARTITION/OFFSET");
        check("0/x", &value, "its key is not PARTITION/OFFSET");
        check("0/5", "redriven", "expected value");
        check("0/5", &value.replace("\"v\":1", "\"v\":2"), "it has form 2, expected 1");
        check("0/5", &value.replace("outputs", "something"), "unknown variant `something`");
    }
}
