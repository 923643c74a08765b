//! Where a plugin writes its outputs: straight into the columns that cross to the host, in buffers that live as long as
//! the instance. It never decides what becomes of an output; unknown and unbound ports are for the host to judge.

use serde::Serialize;

use crate::columns::{
    FOLLOWS, HAS_PARTITION, HAS_TIMESTAMP, HEADERS_SHIFT, HeaderBlock, INHERITED, KEY_SHIFT, NONE, OUTPUT_WORDS,
    PORT_BY_NAME, VALUE_SHIFT, length, put_header, split,
};
use crate::{Failure, imports};

/// Outputs cross to the host once they hold this many words or bytes: enough for a call to cost nothing, little enough
/// to stay in the processor's cache.
const FLUSH_WORDS: usize = 1024 * OUTPUT_WORDS;
const FLUSH_BYTES: usize = 64 * 1024;

/// What a giant output needed beyond this many bytes is given back.
const KEEP_BYTES: usize = 1024 * 1024;

/// Words of an output's row.
const FLAGS: usize = 1;
const PORT: usize = 2;
const KEY_LENGTH: usize = 3;
const VALUE_LENGTH: usize = 4;
const HEADER_COUNT: usize = 5;
const TIMESTAMP_LOW: usize = 6;
const TIMESTAMP_HIGH: usize = 7;
const PARTITION: usize = 8;

/// The outputs that have not crossed to the host yet. An output that was begun and never sent lies in `bytes` behind
/// `sent`; the next one overwrites it.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    rows: Vec<u32>,
    bytes: Vec<u8>,
    sent: usize,
}

impl Buffer {
    /// Hands over what was sent.
    pub(crate) fn flush(&mut self) {
        if !self.rows.is_empty() {
            imports::push(&self.rows, &self.bytes[..self.sent]);
            self.rows.clear();
            self.bytes.clear();
            self.bytes.shrink_to(KEEP_BYTES);
            self.sent = 0;
        }
    }
}

/// Takes the outputs of one event.
#[derive(Debug)]
pub struct Outputs<'a> {
    buffer: &'a mut Buffer,
    ports: &'a [&'a str],
    event: u32,
    headers: HeaderBlock<'a>,
}

impl<'a> Outputs<'a> {
    pub(crate) fn new(buffer: &'a mut Buffer, ports: &'a [&'a str], event: u32, headers: HeaderBlock<'a>) -> Self {
        Self { buffer, ports, event, headers }
    }

    /// Sends the event as it is to the port `default`. Nothing of it is copied.
    pub fn forward(&mut self) {
        self.emit("default").send();
    }

    /// Begins an output to a port, which is the event as it is until the builder changes it. Nothing is sent before
    /// [`Emit::send`].
    ///
    /// An output to a port that [`crate::Plugin::PORTS`] doesn't name, or that the route doesn't bind, fails the event.
    pub fn emit(&mut self, port: &str) -> Emit<'_> {
        let start = self.buffer.sent;
        self.buffer.bytes.truncate(start);
        let mut row = [0; OUTPUT_WORDS];
        row[0] = self.event;
        row[PORT] = match self.ports.iter().position(|known| *known == port) {
            Some(index) => index as u32,
            None => {
                self.buffer.bytes.extend_from_slice(port.as_bytes());
                PORT_BY_NAME | length(port.as_bytes())
            }
        };
        Emit { row, fields: self.buffer.bytes.len(), inherited: self.headers, buffer: self.buffer }
    }
}

/// An output in the making: the event's key, value, headers and timestamp, but for what is replaced here.
#[derive(Debug)]
#[must_use = "nothing is sent before `send`"]
pub struct Emit<'a> {
    buffer: &'a mut Buffer,
    inherited: HeaderBlock<'a>,
    row: [u32; OUTPUT_WORDS],
    /// Where the key, the value and the headers begin in the buffer's bytes.
    fields: usize,
}

impl Emit<'_> {
    /// Replaces the key.
    pub fn key(mut self, key: impl AsRef<[u8]>) -> Self {
        let key = key.as_ref();
        self.place(self.fields, self.row[KEY_LENGTH], key);
        self.row[KEY_LENGTH] = length(key);
        self.set(KEY_SHIFT, FOLLOWS);
        self
    }

    /// Leaves the key out: the output goes to any partition.
    pub fn no_key(mut self) -> Self {
        self = self.key([]);
        self.set(KEY_SHIFT, NONE);
        self
    }

    /// Replaces the value.
    pub fn value(mut self, value: impl AsRef<[u8]>) -> Self {
        let value = value.as_ref();
        self.place(self.value_start(), self.row[VALUE_LENGTH], value);
        self.row[VALUE_LENGTH] = length(value);
        self.set(VALUE_SHIFT, FOLLOWS);
        self
    }

    /// Leaves the value out: a tombstone, which deletes its key in a compacted topic.
    pub fn no_value(mut self) -> Self {
        self = self.value([]);
        self.set(VALUE_SHIFT, NONE);
        self
    }

    /// Replaces the value by JSON, written straight into the batch.
    ///
    /// # Errors
    /// Permanent, where the value can't be JSON: a map whose keys aren't text, for instance.
    pub fn json<T: Serialize + ?Sized>(mut self, value: &T) -> Result<Self, Failure> {
        let (start, end) = (self.value_start(), self.buffer.bytes.len());
        serde_json::to_writer(&mut self.buffer.bytes, value)
            .map_err(|error| Failure::permanent(format!("the output can't be written as JSON: {error}")))?;
        let written = self.buffer.bytes.len() - end;
        if start < end {
            // Something of this output lies where the value belongs: an earlier value, or headers.
            self.buffer.bytes[start..].rotate_right(written);
            let earlier = start + written;
            self.buffer.bytes.drain(earlier..earlier + self.row[VALUE_LENGTH] as usize);
        }
        self.row[VALUE_LENGTH] = written as u32;
        self.set(VALUE_SHIFT, FOLLOWS);
        Ok(self)
    }

    /// Adds a header behind the others. Readers take the last one of a name.
    pub fn header(self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.add_header(name.as_ref(), Some(value.as_ref()))
    }

    /// Adds a header whose value is null.
    pub fn null_header(self, name: impl AsRef<[u8]>) -> Self {
        self.add_header(name.as_ref(), None)
    }

    /// Leaves out every header so far: the event's own and those added.
    pub fn no_headers(mut self) -> Self {
        let start = self.headers_start();
        self.buffer.bytes.truncate(start);
        self.row[HEADER_COUNT] = 0;
        self.set(HEADERS_SHIFT, NONE);
        self
    }

    /// Leaves out every header of a name so far: the event's own and those added.
    pub fn without_header(mut self, name: impl AsRef<[u8]>) -> Self {
        self.own_headers();
        let name = name.as_ref();
        let headers = self.buffer.bytes.split_off(self.headers_start());
        let mut block = HeaderBlock { count: self.row[HEADER_COUNT], bytes: &headers };
        while let Some(header) = block.next() {
            if header.0 == name {
                self.row[HEADER_COUNT] -= 1;
            } else {
                put_header(&mut self.buffer.bytes, header);
            }
        }
        self
    }

    /// Replaces the timestamp: milliseconds since the Unix epoch.
    pub fn timestamp(mut self, milliseconds: i64) -> Self {
        [self.row[TIMESTAMP_LOW], self.row[TIMESTAMP_HIGH]] = split(milliseconds);
        self.row[FLAGS] |= HAS_TIMESTAMP;
        self
    }

    /// Names the partition, which else follows from the key.
    pub fn partition(mut self, partition: u32) -> Self {
        self.row[PARTITION] = partition;
        self.row[FLAGS] |= HAS_PARTITION;
        self
    }

    /// Sends it.
    pub fn send(self) {
        let buffer = self.buffer;
        buffer.rows.extend_from_slice(&self.row);
        buffer.sent = buffer.bytes.len();
        if buffer.rows.len() >= FLUSH_WORDS || buffer.sent >= FLUSH_BYTES {
            buffer.flush();
        }
    }

    fn add_header(mut self, name: &[u8], value: Option<&[u8]>) -> Self {
        self.own_headers();
        put_header(&mut self.buffer.bytes, (name, value));
        self.row[HEADER_COUNT] += 1;
        self.set(HEADERS_SHIFT, FOLLOWS);
        self
    }

    /// Takes over the event's headers, if that is what the output has so far.
    fn own_headers(&mut self) {
        if (self.row[FLAGS] >> HEADERS_SHIFT) & 3 == INHERITED {
            self.buffer.bytes.extend_from_slice(self.inherited.bytes);
            self.row[HEADER_COUNT] = self.inherited.count;
            self.set(HEADERS_SHIFT, FOLLOWS);
        }
    }

    fn value_start(&self) -> usize {
        self.fields + self.row[KEY_LENGTH] as usize
    }

    fn headers_start(&self) -> usize {
        self.value_start() + self.row[VALUE_LENGTH] as usize
    }

    fn set(&mut self, shift: u32, bits: u32) {
        self.row[FLAGS] = self.row[FLAGS] & !(3 << shift) | bits << shift;
    }

    /// Puts a field where one of `old` bytes was. In the order key, value, headers nothing ever moves.
    fn place(&mut self, start: usize, old: u32, field: &[u8]) {
        let end = start + old as usize;
        if end == self.buffer.bytes.len() {
            self.buffer.bytes.truncate(start);
            self.buffer.bytes.extend_from_slice(field);
        } else {
            self.buffer.bytes.splice(start..end, field.iter().copied());
        }
    }
}
