//! What a plugin says of a batch: one verdict for each event, outputs and all in buffers that the next batch reuses.

use std::ops::Range;

use crate::data::event::Header;
use crate::data::failure::Failure;

/// A range of the verdicts' bytes. 32 bits, since the outputs of a batch are bounded far below 4 GiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// First byte.
    pub start: u32,
    /// How many.
    pub length: u32,
}

/// A key or a value of an output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// The event's own, never copied through the plugin.
    Inherited,
    /// Null.
    Null,
    /// The plugin's.
    Bytes(Span),
}

/// The headers of an output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeaderList {
    /// The event's own, byte for byte.
    Inherited,
    /// The plugin's: a range of [`Verdicts::headers`]; may be empty.
    List(Range<u32>),
}

/// What an output takes beside its bytes: its place here, as an event of the next plugin, and ready to be produced.
const OUTPUT_WEIGHT: usize = 256;
/// What a header takes beside its bytes.
const HEADER_WEIGHT: usize = size_of::<(Span, Option<Span>)>();

/// One output of one event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Index into the ports that the plugin describes. Always one that the route binds.
    pub port: u16,
    /// Its key.
    pub key: Field,
    /// Its value.
    pub value: Field,
    /// Its headers.
    pub headers: HeaderList,
    /// None: the event's own.
    pub timestamp: Option<i64>,
    /// None: by the key.
    pub partition: Option<u32>,
}

/// What a plugin says of one event.
#[derive(Debug)]
pub enum Verdict<'a> {
    /// Its outputs; none is a deliberate drop.
    Outputs(&'a [Output]),
    /// It failed, for the reason given.
    Failed(&'a Failure),
}

/// A place in [`Verdicts`].
#[derive(Debug, Clone, Copy)]
pub struct Mark {
    answers: usize,
    outputs: usize,
    headers: usize,
    bytes: usize,
}

/// The verdicts of a batch, in the order of its events.
#[derive(Debug, Default)]
pub struct Verdicts {
    answers: Vec<Answer>,
    outputs: Vec<Output>,
    headers: Vec<(Span, Option<Span>)>,
    bytes: Vec<u8>,
}

#[derive(Debug)]
enum Answer {
    Outputs(Range<u32>),
    Failed(Failure),
}

impl Verdicts {
    /// Empties all buffers and keeps their memory.
    pub fn clear(&mut self) {
        self.answers.clear();
        self.outputs.clear();
        self.headers.clear();
        self.bytes.clear();
    }

    /// Where the buffers stand, to come back to with [`Verdicts::rewind`].
    pub fn mark(&self) -> Mark {
        Mark {
            answers: self.answers.len(),
            outputs: self.outputs.len(),
            headers: self.headers.len(),
            bytes: self.bytes.len(),
        }
    }

    /// Forgets whatever came after a mark that was set on this same content.
    pub fn rewind(&mut self, mark: Mark) {
        self.answers.truncate(mark.answers);
        self.outputs.truncate(mark.outputs);
        self.headers.truncate(mark.headers);
        self.bytes.truncate(mark.bytes);
    }

    /// How many bytes the outputs hold so far.
    pub fn bytes_len(&self) -> usize {
        self.bytes.len()
    }

    /// What the outputs take in memory, roughly: also those without a byte of their own.
    pub fn weight(&self) -> usize {
        self.bytes.len() + self.outputs.len() * OUTPUT_WEIGHT + self.headers.len() * HEADER_WEIGHT
    }

    /// How many events were answered.
    pub fn len(&self) -> usize {
        self.answers.len()
    }

    /// Whether none was.
    pub fn is_empty(&self) -> bool {
        self.answers.is_empty()
    }

    /// The verdict of the event at an index below [`Verdicts::len`].
    pub fn get(&self, index: usize) -> Verdict<'_> {
        match &self.answers[index] {
            Answer::Outputs(range) => Verdict::Outputs(&self.outputs[range.start as usize..range.end as usize]),
            Answer::Failed(failure) => Verdict::Failed(failure),
        }
    }

    /// The bytes of a span that one of the outputs holds.
    pub fn bytes(&self, span: Span) -> &[u8] {
        &self.bytes[span.start as usize..][..span.length as usize]
    }

    /// The headers of an output that has its own.
    pub fn headers(&self, range: Range<u32>) -> impl ExactSizeIterator<Item = Header<'_>> {
        self.headers[range.start as usize..range.end as usize]
            .iter()
            .map(|(name, value)| Header { name: self.bytes(*name), value: value.map(|span| self.bytes(span)) })
    }

    /// Adds bytes, for outputs to name.
    pub fn push_bytes(&mut self, bytes: &[u8]) -> Span {
        let start = self.bytes.len() as u32;
        self.bytes.extend_from_slice(bytes);
        Span { start, length: bytes.len() as u32 }
    }

    /// Adds a header to those of the next output; `headers_len` before and after gives its range.
    pub fn push_header(&mut self, name: Span, value: Option<Span>) {
        self.headers.push((name, value));
    }

    /// How many headers there are so far.
    pub fn headers_len(&self) -> u32 {
        self.headers.len() as u32
    }

    /// Adds an output to those of the event that is answered next.
    pub fn push_output(&mut self, output: Output) {
        self.outputs.push(output);
    }

    /// How many outputs there are so far.
    pub fn outputs_len(&self) -> u32 {
        self.outputs.len() as u32
    }

    /// Answers the next event with the outputs from an index on.
    pub fn answer(&mut self, first_output: u32) {
        self.answers.push(Answer::Outputs(first_output..self.outputs.len() as u32));
    }

    /// Answers the next event with a failure, and forgets the outputs from an index on.
    pub fn fail(&mut self, first_output: u32, failure: Failure) {
        self.outputs.truncate(first_output as usize);
        self.answers.push(Answer::Failed(failure));
    }

    /// Makes the answer to an event that was already answered a failure. Its outputs are no one's from then on.
    pub fn overrule(&mut self, index: usize, failure: Failure) {
        self.answers[index] = Answer::Failed(failure);
    }
}
