//! Dead letters after they were written: read back, chosen, counted, and sent through their routes once more. Never joins a
//! group, never writes to a topic that a route reads, and knows neither arguments nor how a listing looks.
//!
//! [`archive`] reads a topic's letters ([`log`]) together with what is known to have been redriven of them ([`marks`]);
//! [`selection`] says which are meant, [`groups`] counts them. [`chains`] builds their routes at chosen versions of the
//! plugins, and [`redrive`] passes the letters through those: outputs, new letters and marks become visible together
//! ([`writer`]), or not at all.

pub mod archive;
pub mod chains;
pub mod groups;
mod log;
pub mod marks;
pub mod pace;
pub mod place;
pub mod redrive;
pub mod selection;
pub mod tally;
mod writer;

use crate::data::event::Event;
use crate::data::letter::Said;
use crate::kafka::{self, Record, TransactionError};
use place::Place;

pub use marks::{Mark, Marks};
pub use selection::Selection;

/// Why letters can't be read or redriven.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The broker, or a client.
    #[error(transparent)]
    Kafka(#[from] kafka::Error),
    /// The broker was silent for as long as it may be.
    #[error("no answer from the broker for {0:?}")]
    Silent(std::time::Duration),
    /// Letters were deleted while they were read.
    #[error("letters of `{0}` were deleted while they were read; the same command reads those that are left")]
    Deleted(String),
    /// What the broker keeps is damaged.
    #[error("what stands behind `{place}` can't be read: {message}")]
    Damaged {
        /// Where.
        place: Place,
        /// The client's words.
        message: String,
    },
    /// What was redriven isn't known.
    #[error("`{place}` says of a letter that it was redriven, in a form that this version doesn't know: {reason}")]
    UnknownMark {
        /// Where.
        place: Place,
        /// What is wrong with it.
        reason: String,
    },
    /// Another process redrives the same letters.
    #[error("another redrive of `{topic}` has begun, and goes on in place of this one ({message})")]
    Fenced {
        /// The letters' topic.
        topic: String,
        /// The client's words.
        message: String,
    },
    /// Nothing could be written for as long as that is tried.
    #[error("nothing could be written for {waited:?}: {reason}")]
    NotWritten {
        /// For how long it was tried.
        waited: std::time::Duration,
        /// What went wrong last.
        reason: String,
    },
    /// The producer can't be had.
    #[error("the letters of `{topic}` can't be redriven: {error}")]
    Transaction {
        /// The letters' topic.
        topic: String,
        /// What the client said.
        error: TransactionError,
    },
}

impl Error {
    /// Whether it is the broker's silence.
    pub fn is_silence(&self) -> bool {
        matches!(self, Self::Silent(_) | Self::Kafka(kafka::Error::Unreachable { .. }))
    }
}

/// A letter, lent out by what was read.
#[derive(Debug, Clone, Copy)]
pub struct Letter<'a> {
    /// Its partition in the topic of the letters.
    pub partition: i32,
    /// Its offset there.
    pub offset: i64,
    /// What it says.
    pub said: Said<'a>,
    /// The event, at the place where it was, with all of the letter's headers.
    pub event: Event<'a>,
}

impl<'a> Letter<'a> {
    /// What a record is, if it is a letter.
    pub fn of(record: Record<'a>) -> Option<Self> {
        let headers = record.headers();
        let said = Said::read(headers)?;
        let event = Event {
            topic: said.topic,
            partition: said.partition,
            offset: said.offset,
            timestamp: said.event_timestamp.unwrap_or(record.timestamp()),
            key: record.key(),
            value: record.value(),
            headers,
        };
        Some(Self { partition: record.partition(), offset: record.offset(), said, event })
    }

    /// Where its event was: `TOPIC/PARTITION/OFFSET`.
    pub fn origin(&self) -> Place {
        Place { topic: self.said.topic.to_owned(), partition: self.said.partition, offset: self.said.offset }
    }
}

#[cfg(test)]
mod testing {
    //! A letter as tests want it.

    use super::Letter;
    use crate::data::event::{Event, Header, Headers};
    use crate::data::letter::Said;

    /// The headers of a letter about `in/3/OFFSET`, which stays for as long as the process does.
    pub(super) fn letter(offset: i64, headers: &[(&str, &str)], value: &str) -> Letter<'static> {
        let leak = |text: &str| -> &'static [u8] { Box::leak(text.to_owned().into_boxed_str()).as_bytes() };
        let mut all = vec![
            ("partition", "3".to_owned()),
            ("offset", (1000 + offset).to_string()),
            ("topic", "in".to_owned()),
            ("route", "r".to_owned()),
            ("kind", "permanent".to_owned()),
            ("message", "no".to_owned()),
            ("timestamp", offset.to_string()),
        ];
        for (name, value) in headers {
            all.retain(|(known, _)| known != name);
            all.push((name, (*value).to_owned()));
        }
        all.sort_by_key(|(name, _)| *name != "partition");
        let header = |(name, value): &(&str, String)| Header {
            name: leak(&format!("midplane-error-{name}")),
            value: Some(leak(value)),
        };
        let headers: Vec<_> = all.iter().map(header).collect();
        let headers = Headers::Slice(headers.leak());
        let said = Said::read(headers).expect("a letter");
        let event = Event {
            topic: said.topic,
            partition: said.partition,
            offset: said.offset,
            timestamp: 7,
            key: Some(b"key"),
            value: Some(leak(value)),
            headers,
        };
        Letter { partition: 0, offset, said, event }
    }
}
