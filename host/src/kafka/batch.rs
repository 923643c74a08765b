//! Records as they come out of the client: owned here, lent out, never copied.

use std::sync::Arc;

use rdkafka::bindings as rdsys;

use super::error::Code;
use super::headers::{HeadersRef, OwnedHeaders};
use super::native::{Client, Event};
use crate::data::event::Headers;

/// Records in hand, in the order in which each partition delivered them. Made by [`super::Consumer::batch`], filled by
/// [`super::Consumer::drain`], and used again: its memory stays.
pub struct Batch {
    /// The first ones belong to `events`, all others to this batch.
    messages: Vec<*mut rdsys::rd_kafka_message_t>,
    /// Of records that didn't come through the shard's queue; see [`super::Consumer::poll`].
    events: Vec<Event>,
    /// Keys and values.
    bytes: usize,
    /// Whether any entry is something else than a record.
    mixed: bool,
    /// Outlives what is above: fields are dropped after `Drop::drop`, in their order.
    client: Arc<Client>,
}

// SAFETY: the records are this batch's alone, and librdkafka binds them to no thread.
unsafe impl Send for Batch {}

impl Batch {
    pub(super) fn new(client: &Arc<Client>) -> Self {
        Self { messages: Vec::new(), events: Vec::new(), bytes: 0, mixed: false, client: Arc::clone(client) }
    }

    /// How many entries it has.
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// How many bytes of keys and values.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The entry at an index.
    ///
    /// # Panics
    /// Where there is none.
    pub fn get(&self, index: usize) -> Entry<'_> {
        // SAFETY: each pointer is to a record that lives until the batch is cleared, which needs it mutably.
        let message = unsafe { &*self.messages[index] };
        // SAFETY: the field is readable.
        let code = unsafe { Code::read(std::ptr::addr_of!(message.err)) };
        let place = Place { message };
        match code {
            Code::NONE => Entry::Record(Record { place }),
            Code::PARTITION_EOF => Entry::End(place),
            code => Entry::Error { code, place, message: place.error_text() },
        }
    }

    /// All of them.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Entry<'_>> {
        (0..self.len()).map(|index| self.get(index))
    }

    /// Takes the headers of the record at an index, without copying them. `None` where it has none, or where the entry is no
    /// record. They can be had again, decoded once more.
    pub fn detach_headers(&mut self, index: usize) -> Option<OwnedHeaders> {
        let Entry::Record(_) = self.get(index) else {
            return None;
        };
        let mut list = std::ptr::null_mut();
        // SAFETY: the record is live, and borrowed by nobody, since the batch is borrowed mutably.
        let code = unsafe { rdsys::rd_kafka_message_detach_headers(self.messages[index], &mut list) };
        if Code::from(code) != Code::NONE {
            return None;
        }
        // SAFETY: the list came off the record and is nobody else's.
        std::ptr::NonNull::new(list).map(|list| unsafe { OwnedHeaders::take(list) })
    }

    /// Gives the records back to the client.
    pub fn clear(&mut self) {
        for &message in &self.messages[self.events.len()..] {
            // SAFETY: the record is live and this batch's, and nobody borrows it.
            unsafe { rdsys::rd_kafka_message_destroy(message) };
        }
        self.messages.clear();
        self.events.clear();
        self.bytes = 0;
        self.mixed = false;
    }

    /// Takes over records that belong to events. Only an empty batch can.
    pub(super) fn adopt(&mut self, events: &mut Vec<Event>) {
        debug_assert!(self.is_empty(), "what is adopted comes first");
        for event in events.drain(..) {
            // SAFETY: the event is a live one of fetched records, which yields its one record once.
            let message = unsafe { rdsys::rd_kafka_event_message_next(event.raw()) }.cast_mut();
            if message.is_null() {
                continue;
            }
            self.messages.push(message);
            self.count(message);
            self.events.push(event);
        }
    }

    /// Reads at most `room` records from a queue of the same client, waiting until there are so many or the time is over.
    pub(super) fn read(&mut self, queue: *mut rdsys::rd_kafka_queue_t, room: usize, timeout_ms: i32) -> usize {
        let length = self.messages.len();
        self.messages.reserve(room);
        // SAFETY: the queue is live; there is room for so many pointers after the last one.
        let count = unsafe {
            rdsys::rd_kafka_consume_batch_queue(queue, timeout_ms, self.messages.as_mut_ptr().add(length), room)
        };
        // A negative count is an error that the call has no case for; nothing was written then.
        let count = usize::try_from(count).unwrap_or(0);
        // SAFETY: so many pointers were written.
        unsafe { self.messages.set_len(length + count) };
        for index in length..self.messages.len() {
            self.count(self.messages[index]);
        }
        count
    }

    fn count(&mut self, message: *const rdsys::rd_kafka_message_t) {
        // SAFETY: the record is live, as long as the batch holds it.
        unsafe {
            self.bytes += (*message).len + (*message).key_len;
            self.mixed |= Code::read(std::ptr::addr_of!((*message).err)) != Code::NONE;
        }
    }

    /// Whether any entry is something else than a record.
    pub(super) fn is_mixed(&self) -> bool {
        self.mixed
    }

    /// Whether it belongs to this client: a record of one client must not outlive it.
    pub(super) fn is_of(&self, client: &Arc<Client>) -> bool {
        Arc::ptr_eq(&self.client, client)
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        self.clear();
    }
}

impl std::fmt::Debug for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batch").field("len", &self.len()).field("bytes", &self.bytes).finish()
    }
}

/// What a partition's queue holds.
#[derive(Debug, Clone, Copy)]
pub enum Entry<'a> {
    /// An event.
    Record(Record<'a>),
    /// Everything before [`Place::offset`] was delivered, control records passed. Said each time when the end is reached.
    End(Place<'a>),
    /// The partition delivers nothing more, or not the next record.
    Error {
        /// [`Code::AUTO_OFFSET_RESET`]: the offset to begin at isn't in the log (any more).
        code: Code,
        /// Where. Its offset is -1 or below where none is known.
        place: Place<'a>,
        /// librdkafka's words.
        message: &'a str,
    },
}

impl<'a> Entry<'a> {
    /// Where it comes from.
    pub fn place(&self) -> Place<'a> {
        match self {
            Self::Record(record) => record.place,
            Self::End(place) | Self::Error { place, .. } => *place,
        }
    }
}

/// A topic as a number that is compared cheaply: the same for all records of a topic while a partition of it is assigned,
/// and different from all other topics'. Not for keeping beyond that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TopicKey(usize);

/// Topic, partition, offset.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    message: &'a rdsys::rd_kafka_message_t,
}

impl<'a> Place<'a> {
    /// To find one's own data of a topic with; compare it with the one before, and look further only where it differs.
    pub fn topic_key(self) -> TopicKey {
        TopicKey(self.message.rkt as usize)
    }

    /// The topic's name; empty for an error that concerns none.
    pub fn topic(self) -> &'a str {
        if self.message.rkt.is_null() {
            return "";
        }
        // SAFETY: the record holds on to its topic, and the topic to its name, which the protocol restricts to ASCII.
        unsafe { std::ffi::CStr::from_ptr(rdsys::rd_kafka_topic_name(self.message.rkt)) }.to_str().unwrap_or("")
    }

    /// The partition.
    pub fn partition(self) -> i32 {
        self.message.partition
    }

    /// The offset.
    pub fn offset(self) -> i64 {
        self.message.offset
    }

    fn error_text(self) -> &'a str {
        // SAFETY: an error owns the text that it names, for as long as it is borrowed.
        let text = unsafe { slice(self.message.payload, self.message.len) }.unwrap_or_default();
        std::str::from_utf8(text).unwrap_or("")
    }
}

impl std::fmt::Debug for Place<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}[{}]@{}", self.topic(), self.partition(), self.offset())
    }
}

/// One event, lent out by its batch.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    place: Place<'a>,
}

impl<'a> Record<'a> {
    /// Where it stands.
    pub fn place(self) -> Place<'a> {
        self.place
    }

    /// Its partition.
    pub fn partition(self) -> i32 {
        self.place.partition()
    }

    /// Its offset.
    pub fn offset(self) -> i64 {
        self.place.offset()
    }

    /// Its key, if any.
    pub fn key(self) -> Option<&'a [u8]> {
        // SAFETY: a record owns the bytes that it names, for as long as it is borrowed.
        unsafe { slice(self.place.message.key, self.place.message.key_len) }
    }

    /// Its value, if any.
    pub fn value(self) -> Option<&'a [u8]> {
        // SAFETY: a record owns the bytes that it names, for as long as it is borrowed.
        unsafe { slice(self.place.message.payload, self.place.message.len) }
    }

    /// Milliseconds since the Unix epoch, or -1 where the record carries none.
    pub fn timestamp(self) -> i64 {
        let mut kind = rdsys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: the record is live.
        let timestamp = unsafe { rdsys::rd_kafka_message_timestamp(self.place.message, &mut kind) };
        if kind == rdsys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE { -1 } else { timestamp }
    }

    /// Its headers. They are decoded when they are first asked for.
    pub fn headers(self) -> Headers<'a> {
        if self.has_no_headers() {
            return Headers::Empty;
        }
        let mut list = std::ptr::null_mut();
        // SAFETY: the record is live. What is decoded is kept in the record, behind the pointer that all copies of this
        // borrow share; they can't be on another thread, since neither a record nor a reference to its batch can be sent.
        let code = unsafe { rdsys::rd_kafka_message_headers(self.place.message, &mut list) };
        if Code::from(code) != Code::NONE || list.is_null() {
            return Headers::Empty;
        }
        // SAFETY: the list lives, unchanged, as long as the record: taking it off needs the batch mutably.
        Headers::Native(unsafe { HeadersRef::new(list) })
    }
}

impl Record<'_> {
    /// Whether it is plain that there are none. To be told the same, librdkafka allocates and frees a buffer for each record.
    fn has_no_headers(self) -> bool {
        let message = self.place.message;
        // SAFETY: the record is live.
        let epoch = unsafe { rdsys::rd_kafka_message_leader_epoch(message) };
        // Only batches of the format's second version, which all newer brokers write, have an epoch.
        if epoch < 0 || message.payload.is_null() {
            return false;
        }
        // SAFETY: keys and values are lent out where they were received, or uncompressed, as the batch has them. In this
        // version the number of headers follows the value, as a varint: in the least, one byte, which is 0 where there are
        // none. Kafka takes no batch whose records lack it. Of a broker that looks less closely, a record that ends with its
        // value would have the one byte read that lies behind it: mostly the next record's, and never written or shown.
        unsafe { *message.payload.cast::<u8>().add(message.len) == 0 }
    }
}

/// # Safety
/// `data` is null, or points to so many bytes that live, unchanged, for `'a`.
unsafe fn slice<'a>(data: *const std::ffi::c_void, length: usize) -> Option<&'a [u8]> {
    // SAFETY: as the caller promised.
    (!data.is_null()).then(|| unsafe { std::slice::from_raw_parts(data.cast(), length) })
}
