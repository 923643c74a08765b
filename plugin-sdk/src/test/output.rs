//! What a test sees of an output: decoded from the columns as a host would, with what it inherits filled in.

use serde::de::DeserializeOwned;

use super::Record;
use crate::columns::{
    FOLLOWS, HAS_PARTITION, HAS_TIMESTAMP, HEADERS_SHIFT, HeaderBlock, INHERITED, KEY_SHIFT, NONE, OUTPUT_WORDS,
    PORT_BY_NAME, VALUE_SHIFT, join, take,
};

/// An output as it would be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// The port.
    pub port: String,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its value.
    pub value: Option<Vec<u8>>,
    /// Its headers: those of the event too, where they are carried on.
    pub headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    /// Milliseconds since the Unix epoch, -1 for none.
    pub timestamp: i64,
    /// The partition, where the plugin named one.
    pub partition: Option<u32>,
}

impl Output {
    /// The value as text.
    ///
    /// # Panics
    /// Where there is none or it isn't UTF-8.
    pub fn text(&self) -> &str {
        text(self.value.as_deref().expect("a value was expected"))
    }

    /// The value as JSON: a [`super::Value`], or a type of the test's.
    ///
    /// # Panics
    /// Where there is none or it isn't JSON of this shape.
    pub fn json<T: DeserializeOwned>(&self) -> T {
        serde_json::from_str(self.text()).expect("a value of this shape was expected")
    }

    /// The key as text.
    ///
    /// # Panics
    /// Where there is none or it isn't UTF-8.
    pub fn key_text(&self) -> &str {
        text(self.key.as_deref().expect("a key was expected"))
    }

    /// The last header of a name as text, where there is one and it isn't null.
    ///
    /// # Panics
    /// Where it isn't UTF-8.
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().rfind(|(other, _)| other == name.as_bytes())?;
        value.as_deref().map(text)
    }
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("text was expected")
}

/// The outputs of one `push`, each with the index of its event.
///
/// # Panics
/// Where the columns are malformed: a bug of the SDK's.
pub(crate) fn decode(rows: &[u32], mut bytes: &[u8], ports: &[&str], records: &[Record]) -> Vec<(usize, Output)> {
    let (rows, rest) = rows.as_chunks::<OUTPUT_WORDS>();
    assert!(rest.is_empty(), "rows are whole");
    assert!(rows.is_sorted_by_key(|row| row[0]), "events come in order");
    let outputs = rows
        .iter()
        .map(|row| (row[0] as usize, decode_row(row, &mut bytes, ports, &records[row[0] as usize])))
        .collect();
    assert!(bytes.is_empty(), "every byte belongs to an output");
    outputs
}

fn decode_row(row: &[u32; OUTPUT_WORDS], bytes: &mut &[u8], ports: &[&str], record: &Record) -> Output {
    let &[_, flags, port, key, value, headers, timestamp_low, timestamp_high, partition] = row;
    assert_eq!(flags >> 8, 0, "flags that aren't known");
    let port = match port & PORT_BY_NAME {
        0 => ports[port as usize].to_owned(),
        _ => text(take(bytes, port & !PORT_BY_NAME)).to_owned(),
    };
    let mut field = |shift: u32, length: u32, inherited: &Option<Vec<u8>>| match (flags >> shift) & 3 {
        INHERITED => inherited.clone(),
        NONE => None,
        FOLLOWS => Some(take(bytes, length).to_vec()),
        _ => panic!("flags that aren't known"),
    };
    let key = field(KEY_SHIFT, key, &record.key);
    let value = field(VALUE_SHIFT, value, &record.value);
    let headers = match (flags >> HEADERS_SHIFT) & 3 {
        INHERITED => record.headers.clone(),
        NONE => Vec::new(),
        FOLLOWS => take_headers(headers, bytes),
        _ => panic!("flags that aren't known"),
    };
    Output {
        port,
        key,
        value,
        headers,
        timestamp: if flags & HAS_TIMESTAMP == 0 { record.timestamp } else { join(timestamp_low, timestamp_high) },
        partition: (flags & HAS_PARTITION != 0).then_some(partition),
    }
}

fn take_headers(count: u32, bytes: &mut &[u8]) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
    let mut block = HeaderBlock { count, bytes };
    let headers =
        std::iter::from_fn(|| block.next()).map(|(name, value)| (name.to_vec(), value.map(<[u8]>::to_vec))).collect();
    *bytes = block.bytes;
    headers
}
