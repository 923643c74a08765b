//! Events for tests, and their way into the columns that a host would send.

use serde::Serialize;

use crate::columns::{Batch, NULL, length, put_header, split};

/// An event to offer to a plugin, built field by field. Unless said otherwise it is of topic `test`, partition 0, the
/// next offset, the first moment of 2026, and has neither key, value nor headers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) offset: Option<i64>,
    pub(crate) timestamp: i64,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl Default for Record {
    fn default() -> Self {
        Self {
            topic: "test".to_owned(),
            partition: 0,
            offset: None,
            timestamp: 1_767_225_600_000,
            key: None,
            value: None,
            headers: Vec::new(),
        }
    }
}

impl Record {
    /// An event without key, value and headers.
    pub fn new() -> Self {
        Self::default()
    }

    /// An event whose value is JSON.
    ///
    /// # Panics
    /// Where the value can't be JSON.
    pub fn json<T: Serialize + ?Sized>(value: &T) -> Self {
        Self::new().value(serde_json::to_vec(value).expect("the value is JSON"))
    }

    /// Sets the topic.
    pub fn topic(mut self, topic: impl Into<String>) -> Self {
        self.topic = topic.into();
        self
    }

    /// Sets the partition.
    pub fn partition(mut self, partition: i32) -> Self {
        self.partition = partition;
        self
    }

    /// Sets the offset.
    pub fn offset(mut self, offset: i64) -> Self {
        self.offset = Some(offset);
        self
    }

    /// Sets the timestamp: milliseconds since the Unix epoch, -1 for none.
    pub fn timestamp(mut self, milliseconds: i64) -> Self {
        self.timestamp = milliseconds;
        self
    }

    /// Sets the key.
    pub fn key(mut self, key: impl AsRef<[u8]>) -> Self {
        self.key = Some(key.as_ref().to_vec());
        self
    }

    /// Sets the value.
    pub fn value(mut self, value: impl AsRef<[u8]>) -> Self {
        self.value = Some(value.as_ref().to_vec());
        self
    }

    /// Adds a header.
    pub fn header(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.as_ref().to_vec(), Some(value.as_ref().to_vec())));
        self
    }

    /// Adds a header whose value is null.
    pub fn null_header(mut self, name: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.as_ref().to_vec(), None));
        self
    }
}

/// Lays records out as a batch.
///
/// # Panics
/// Where they are of several partitions, which no batch is.
pub(crate) fn encode(records: &[Record]) -> Batch {
    let mut batch = Batch::default();
    if let Some(first) = records.first() {
        batch.topic.clone_from(&first.topic);
        batch.partition = first.partition;
    }
    for record in records {
        assert_eq!((&record.topic, record.partition), (&batch.topic, batch.partition), "a batch is of one partition");
        let mut headers = Vec::new();
        for (name, value) in &record.headers {
            put_header(&mut headers, (name, value.as_deref()));
        }
        batch.rows.extend(split(record.offset.unwrap_or_default()));
        batch.rows.extend(split(record.timestamp));
        batch.rows.push(record.key.as_deref().map_or(NULL, length));
        batch.rows.push(record.value.as_deref().map_or(NULL, length));
        batch.rows.push(record.headers.len() as u32);
        batch.rows.push(length(&headers));
        batch.bytes.extend_from_slice(record.key.as_deref().unwrap_or_default());
        batch.bytes.extend_from_slice(record.value.as_deref().unwrap_or_default());
        batch.bytes.append(&mut headers);
    }
    batch
}
