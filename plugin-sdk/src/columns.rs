//! The columnar layout of batches and outputs, as `wit/README.md` describes it: numbers and cuts, no policy.
//! It never calls the host.

/// Words in the row of an event.
pub(crate) const EVENT_WORDS: usize = 8;

/// Words in the row of an output.
pub(crate) const OUTPUT_WORDS: usize = 9;

/// The length that stands for null.
pub(crate) const NULL: u32 = u32::MAX;

/// In the port's word of an output: the other bits are the length of a name that follows in the bytes.
pub(crate) const PORT_BY_NAME: u32 = 0x8000_0000;

/// Where the key's two bits stand in the flags of an output.
pub(crate) const KEY_SHIFT: u32 = 0;
/// Where the value's stand.
pub(crate) const VALUE_SHIFT: u32 = 2;
/// Where the headers' stand.
pub(crate) const HEADERS_SHIFT: u32 = 4;
/// The output has a timestamp of its own.
pub(crate) const HAS_TIMESTAMP: u32 = 1 << 6;
/// The output has a partition of its own.
pub(crate) const HAS_PARTITION: u32 = 1 << 7;

/// The two bits of a field: the event's own.
pub(crate) const INHERITED: u32 = 0;
/// The two bits of a field: none.
pub(crate) const NONE: u32 = 1;
/// The two bits of a field: follows in the bytes.
pub(crate) const FOLLOWS: u32 = 2;

/// A batch as it crosses into the guest.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// The topic of all its events.
    pub(crate) topic: String,
    /// The partition of all its events.
    pub(crate) partition: i32,
    /// [`EVENT_WORDS`] an event.
    pub(crate) rows: Vec<u32>,
    /// Keys, values and headers.
    pub(crate) bytes: Vec<u8>,
}

/// What the host says of a whole batch.
#[derive(Debug, Default)]
pub(crate) struct Context {
    /// The route's name.
    pub(crate) route: String,
    /// The generation of config and plugins.
    pub(crate) generation: u64,
    /// 1 the first time, more after transient failures.
    pub(crate) attempt: u32,
}

/// The row of one event, its bytes cut out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EventRow<'a> {
    pub(crate) offset: i64,
    pub(crate) timestamp: i64,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
    pub(crate) headers: HeaderBlock<'a>,
}

/// The headers of an event or output, as they lie in the bytes: both have the same layout, so a block is carried from
/// one to the other with a single copy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct HeaderBlock<'a> {
    pub(crate) count: u32,
    pub(crate) bytes: &'a [u8],
}

/// A header: its name as bytes, since nothing in Kafka makes it UTF-8, and its value, which may be null.
pub(crate) type RawHeader<'a> = (&'a [u8], Option<&'a [u8]>);

impl<'a> EventRow<'a> {
    /// Decodes a row and takes its bytes from the front of `bytes`.
    pub(crate) fn decode(row: &[u32; EVENT_WORDS], bytes: &mut &'a [u8]) -> Self {
        let &[offset_low, offset_high, timestamp_low, timestamp_high, key, value, count, headers] = row;
        Self {
            offset: join(offset_low, offset_high),
            timestamp: join(timestamp_low, timestamp_high),
            key: take_nullable(bytes, key),
            value: take_nullable(bytes, value),
            headers: HeaderBlock { count, bytes: take(bytes, headers) },
        }
    }
}

impl<'a> HeaderBlock<'a> {
    /// Takes the first header off.
    pub(crate) fn next(&mut self) -> Option<RawHeader<'a>> {
        self.count = self.count.checked_sub(1)?;
        let (name, value) = (take_word(&mut self.bytes), take_word(&mut self.bytes));
        Some((take(&mut self.bytes, name), take_nullable(&mut self.bytes, value)))
    }
}

/// Appends a header.
pub(crate) fn put_header(bytes: &mut Vec<u8>, (name, value): RawHeader<'_>) {
    bytes.extend_from_slice(&length(name).to_le_bytes());
    bytes.extend_from_slice(&value.map_or(NULL, length).to_le_bytes());
    bytes.extend_from_slice(name);
    bytes.extend_from_slice(value.unwrap_or_default());
}

/// The length of a field. What a guest of 32 bits can address fits.
pub(crate) fn length(bytes: &[u8]) -> u32 {
    bytes.len() as u32
}

/// The two words of a 64-bit number, the low one first.
pub(crate) fn split(number: i64) -> [u32; 2] {
    [number as u32, (number >> 32) as u32]
}

/// The number of two words.
pub(crate) fn join(low: u32, high: u32) -> i64 {
    (i64::from(high) << 32) | i64::from(low)
}

/// The first `length` bytes; `bytes` keeps the others. The host's rows and bytes agree, or it is a bug of the host's,
/// which the panic names.
pub(crate) fn take<'a>(bytes: &mut &'a [u8], length: u32) -> &'a [u8] {
    let (first, rest) = bytes.split_at(length as usize);
    *bytes = rest;
    first
}

fn take_nullable<'a>(bytes: &mut &'a [u8], length: u32) -> Option<&'a [u8]> {
    (length != NULL).then(|| take(bytes, length))
}

fn take_word(bytes: &mut &[u8]) -> u32 {
    let (word, rest) = bytes.split_first_chunk().expect("a header's lengths are eight bytes");
    *bytes = rest;
    u32::from_le_bytes(*word)
}
