//! An event as a plugin sees it: borrowed from the batch, nothing parsed before it is asked for.

use std::fmt;

use serde::Deserialize;

use crate::Failure;
use crate::columns::{Batch, Context, EventRow, HeaderBlock};

/// One event of a topic. Everything in it is borrowed, and copying it is cheap.
///
/// Where a plugin comes later in a route's chain, topic, partition, offset and timestamp are those of the event that
/// entered the route; key, value and headers are what the plugin before it sent.
#[derive(Clone, Copy)]
pub struct Event<'a> {
    context: &'a Context,
    batch: &'a Batch,
    row: EventRow<'a>,
}

impl<'a> Event<'a> {
    pub(crate) fn new(context: &'a Context, batch: &'a Batch, row: EventRow<'a>) -> Self {
        Self { context, batch, row }
    }

    pub(crate) fn header_block(&self) -> HeaderBlock<'a> {
        self.row.headers
    }

    /// Its topic.
    pub fn topic(&self) -> &'a str {
        &self.batch.topic
    }

    /// Its partition.
    pub fn partition(&self) -> i32 {
        self.batch.partition
    }

    /// Its offset.
    pub fn offset(&self) -> i64 {
        self.row.offset
    }

    /// Milliseconds since the Unix epoch; none where the record carries none.
    pub fn timestamp(&self) -> Option<i64> {
        (self.row.timestamp >= 0).then_some(self.row.timestamp)
    }

    /// Its key, if it has one.
    pub fn key(&self) -> Option<&'a [u8]> {
        self.row.key
    }

    /// Its value, if it has one: a tombstone has none.
    pub fn value(&self) -> Option<&'a [u8]> {
        self.row.value
    }

    /// Its value as UTF-8.
    ///
    /// # Errors
    /// Permanent, where there is no value or it isn't UTF-8.
    pub fn text(&self) -> Result<&'a str, Failure> {
        std::str::from_utf8(self.some_value()?)
            .map_err(|error| Failure::permanent(format!("the value is not UTF-8: {error}")))
    }

    /// Its value, parsed as JSON. Text is borrowed from the event by `Cow<str>` fields with
    /// `#[serde(borrow)]`; a `&str` refuses text that JSON escapes.
    ///
    /// # Errors
    /// Permanent, where there is no value or it isn't JSON of this shape.
    pub fn json<T: Deserialize<'a>>(&self) -> Result<T, Failure> {
        serde_json::from_slice(self.some_value()?)
            .map_err(|error| Failure::permanent(format!("the value is not the JSON expected: {error}")))
    }

    fn some_value(&self) -> Result<&'a [u8], Failure> {
        self.value().ok_or_else(|| Failure::permanent("the event has no value"))
    }

    /// Its headers, in their order; names may repeat.
    pub fn headers(&self) -> Headers<'a> {
        Headers { block: self.row.headers }
    }

    /// The value of the last header of a name, where there is one and it isn't null.
    pub fn header(&self, name: &str) -> Option<&'a [u8]> {
        self.headers().filter(|header| header.name == name.as_bytes()).last()?.value
    }

    /// The route that offers the event.
    pub fn route(&self) -> &'a str {
        &self.context.route
    }

    /// The generation of configuration and plugins that is live.
    pub fn generation(&self) -> u64 {
        self.context.generation
    }

    /// 1 the first time that the event is offered, more after transient failures.
    pub fn attempt(&self) -> u32 {
        self.context.attempt
    }
}

impl fmt::Debug for Event<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Where it comes from, and nothing of what it holds: that may be personal.
        write!(f, "Event({}/{}/{})", self.topic(), self.partition(), self.offset())
    }
}

/// A header of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header<'a> {
    /// Its name: bytes, since nothing in Kafka makes it UTF-8.
    pub name: &'a [u8],
    /// Its value; may be null.
    pub value: Option<&'a [u8]>,
}

/// The headers of an event, in their order.
#[derive(Debug, Clone, Copy)]
pub struct Headers<'a> {
    block: HeaderBlock<'a>,
}

impl<'a> Iterator for Headers<'a> {
    type Item = Header<'a>;

    fn next(&mut self) -> Option<Header<'a>> {
        self.block.next().map(|(name, value)| Header { name, value })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.block.count as usize, Some(self.block.count as usize))
    }
}

impl ExactSizeIterator for Headers<'_> {}
