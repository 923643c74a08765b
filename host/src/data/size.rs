//! What a broker counts of a record that is alone in its batch, which is what a topic's limit is about. From the record batch
//! format, version 2, of the Kafka protocol. Knows no limit.

use super::event::Headers;

/// The batch's header (61 bytes), and the record's own numbers (21 at most).
const FRAME: usize = 82;
/// The lengths of a header's name and value, at most.
const HEADER_FRAME: usize = 10;

/// A record, in bytes, at most.
pub fn record(key: Option<&[u8]>, value: Option<&[u8]>, headers: Headers<'_>) -> usize {
    let headers: usize = match headers {
        Headers::Empty => 0,
        headers => headers.iter().map(|each| header(each.name, each.value)).sum(),
    };
    FRAME + bytes(key) + bytes(value) + headers
}

/// What one header adds to its record, in bytes, at most.
pub fn header(name: &[u8], value: Option<&[u8]>) -> usize {
    HEADER_FRAME + name.len() + bytes(value)
}

/// The length of what may be absent.
pub fn bytes(part: Option<&[u8]>) -> usize {
    part.map_or(0, <[u8]>::len)
}
