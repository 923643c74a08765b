//! An event as a line of JSON, as `topic consume --output json` writes it: one shape for everything that lists events.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Serialize, Serializer};

/// Bytes that are written as text where they are, and as `{"base64": …}` where they aren't.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Bytes<'a>(pub(in super::super) &'a [u8]);

#[derive(Serialize)]
struct Encoded {
    base64: String,
}

impl Serialize for Bytes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(self.0) {
            Ok(text) => serializer.serialize_str(text),
            Err(_) => Encoded { base64: STANDARD.encode(self.0) }.serialize(serializer),
        }
    }
}

/// One event.
#[derive(Debug, Serialize)]
pub(in super::super) struct Record<'a> {
    pub(in super::super) topic: &'a str,
    pub(in super::super) partition: i32,
    pub(in super::super) offset: i64,
    /// Milliseconds since the Unix epoch.
    pub(in super::super) timestamp: Option<i64>,
    pub(in super::super) key: Option<Bytes<'a>>,
    pub(in super::super) value: Option<Bytes<'a>>,
    pub(in super::super) headers: Vec<Header<'a>>,
}

/// One header of an event.
#[derive(Debug, Serialize)]
pub(in super::super) struct Header<'a> {
    pub(in super::super) name: Bytes<'a>,
    pub(in super::super) value: Option<Bytes<'a>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_utf_8_is_base64() {
        let record = Record {
            topic: "payments",
            partition: 1,
            offset: 42,
            timestamp: Some(1_700_000_000_000),
            key: Some(Bytes(b"card-7")),
            value: Some(Bytes(&[0xff, 0x00])),
            headers: vec![
                Header { name: Bytes(b"ce_type"), value: None },
                Header { name: Bytes(&[0xfe]), value: Some(Bytes("é".as_bytes())) },
            ],
        };
        assert_eq!(
            serde_json::to_string(&record).expect("JSON"),
            r#"{"topic":"payments","partition":1,"offset":42,"timestamp":1700000000000,"key":"card-7","value":{"base64":"/wA="},"headers":[{"name":"ce_type","value":null},{"name":{"base64":"/g=="},"value":"é"}]}"#
        );
    }
}
