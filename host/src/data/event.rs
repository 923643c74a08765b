//! An event as the data plane sees it: borrowed from the client's buffers, never copied to be looked at.

use std::ops::Range;

use super::plugin::verdicts::Verdicts;

/// One record of a topic. In a chain, a later plugin sees the origin's topic, partition, offset and timestamp with the
/// key, value and headers of the output before.
#[derive(Debug, Clone, Copy)]
pub struct Event<'a> {
    /// Its topic.
    pub topic: &'a str,
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// Milliseconds since the Unix epoch, or -1 where the record carries none.
    pub timestamp: i64,
    /// Its key, if any.
    pub key: Option<&'a [u8]>,
    /// Its value, if any.
    pub value: Option<&'a [u8]>,
    /// Its headers, in their order.
    pub headers: Headers<'a>,
}

/// A header: its name as bytes, since nothing makes it UTF-8, and its value, which may be null.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header<'a> {
    /// May repeat.
    pub name: &'a [u8],
    /// May be null.
    pub value: Option<&'a [u8]>,
}

/// The headers of an event, wherever they are kept.
#[derive(Debug, Clone, Copy, Default)]
pub enum Headers<'a> {
    /// None at all: the usual case, and free.
    #[default]
    Empty,
    /// In memory of ours.
    Slice(&'a [Header<'a>]),
    /// In librdkafka's memory.
    Native(crate::kafka::HeadersRef<'a>),
    /// Of an output of the plugin before, in a chain.
    Output(OutputHeaders<'a>),
}

/// The headers that a plugin gave one of its outputs.
#[derive(Debug, Clone, Copy)]
pub struct OutputHeaders<'a> {
    verdicts: &'a Verdicts,
    start: u32,
    end: u32,
}

impl<'a> OutputHeaders<'a> {
    /// A range of the headers of these verdicts.
    pub fn new(verdicts: &'a Verdicts, range: Range<u32>) -> Self {
        Self { verdicts, start: range.start, end: range.end }
    }
}

impl<'a> Headers<'a> {
    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Headers::Empty => 0,
            Headers::Slice(slice) => slice.len(),
            Headers::Native(native) => native.len(),
            Headers::Output(output) => (output.end - output.start) as usize,
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The header at an index, if there is one.
    pub fn get(&self, index: usize) -> Option<Header<'a>> {
        match self {
            Headers::Empty => None,
            Headers::Slice(slice) => slice.get(index).copied(),
            Headers::Native(native) => native.get(index),
            Headers::Output(output) => output.verdicts.headers(output.start..output.end).nth(index),
        }
    }

    /// All of them, in their order.
    pub fn iter(self) -> impl DoubleEndedIterator<Item = Header<'a>> {
        (0..self.len()).filter_map(move |index| self.get(index))
    }

    /// The last one of a name.
    pub fn last(&self, name: &[u8]) -> Option<Header<'a>> {
        self.iter().rev().find(|header| header.name == name)
    }
}
