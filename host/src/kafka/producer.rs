//! An idempotent producer: one per shard, used from the shard's thread alone.
//!
//! Records are copied into librdkafka's buffer once, headers handed over; delivery reports come back in arrays, as events,
//! without a callback. Never sends a record again by itself once it was reported as failed, and never times one out.

use std::collections::HashMap;
use std::ffi::c_void;
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::bindings as rdsys;
use rdsys::rd_kafka_vtype_t as vtype;

use super::blame::Blame;
use super::consumer::{answered, look_up};
use super::describe;
use super::error::{Code, Error};
use super::headers::{HeadersRef, OwnedHeaders};
use super::native::{Client, Event, Kind, List, Queue, Throttled, c_string, timeout_ms};
use super::settings::ProducerSettings;

/// How many reports are taken out of an event at a time.
const REPORTS: usize = 256;

/// How long the client may take to give up what is in flight, for which no broker is asked; and how often it is told to.
const GIVE_UP_TIMEOUT: Duration = Duration::from_secs(1);
const GIVE_UP_INTERVAL: Duration = Duration::from_millis(100);

/// Any partition, by the key.
const PARTITION_UNASSIGNED: i32 = -1;

/// Headers of so many bytes count against the buffer. Smaller ones don't: the number of records bounds them, and their
/// size would have to be summed up again for each report.
const LARGE_HEADERS_BYTES: usize = 1 << 10;

/// A topic of one producer's; see [`Producer::topic`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Topic(u32);

impl Topic {
    /// Counted from 0 in the order of first mention, for tables.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// What is to be written.
#[derive(Debug, Clone, Copy)]
pub struct Outgoing<'a> {
    /// Chosen from the key, as Java's clients do, where there is none.
    pub partition: Option<i32>,
    /// May be null.
    pub key: Option<&'a [u8]>,
    /// May be null.
    pub value: Option<&'a [u8]>,
    /// Milliseconds since the Unix epoch; now, where it is 0 or below.
    pub timestamp: i64,
    /// Comes back in the [`Report`].
    pub opaque: usize,
}

impl Outgoing<'_> {
    /// The bytes that it takes of the producer's buffer, headers aside; [`Report::bytes`] is the same.
    pub fn bytes(&self) -> usize {
        self.key.map_or(0, <[u8]>::len) + self.value.map_or(0, <[u8]>::len)
    }
}

/// What became of a record.
#[derive(Debug, Clone, Copy)]
pub struct Report {
    /// As it was handed in.
    pub opaque: usize,
    /// Where to.
    pub topic: Topic,
    /// Which partition of it; below 0 where it had none yet.
    pub partition: i32,
    /// Where it is in that; below 0 where it isn't known to be there.
    pub offset: i64,
    /// `None`: acknowledged by all replicas in sync. Otherwise it wasn't written, or nobody knows.
    pub error: Option<Code>,
    /// Whether the error may be that of another record of the same batch.
    pub unclear: bool,
    /// As [`Outgoing::bytes`].
    pub bytes: usize,
}

/// Why a record wasn't taken. Its headers are still the caller's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProduceError {
    /// The buffer is full: poll, and try again. Never said while nothing is in flight.
    #[error("the producer's buffer is full")]
    Full,
    /// Larger than `record_bytes_max`: it never will be taken.
    #[error("the record is larger than the producer takes")]
    TooLarge,
    /// No such topic, as far as is known.
    #[error("there is no such topic")]
    UnknownTopic,
    /// No such partition, as far as is known.
    #[error("the topic has no such partition")]
    UnknownPartition,
    /// Anything else.
    #[error("{0}")]
    Other(Code),
}

impl From<Code> for ProduceError {
    fn from(code: Code) -> Self {
        match code {
            Code::QUEUE_FULL => Self::Full,
            Code::MESSAGE_TOO_LARGE => Self::TooLarge,
            Code::UNKNOWN_TOPIC => Self::UnknownTopic,
            Code::UNKNOWN_PARTITION => Self::UnknownPartition,
            code => Self::Other(code),
        }
    }
}

impl ProduceError {
    /// The code that librdkafka gave.
    pub fn code(self) -> Code {
        match self {
            Self::Full => Code::QUEUE_FULL,
            Self::TooLarge => Code::MESSAGE_TOO_LARGE,
            Self::UnknownTopic => Code::UNKNOWN_TOPIC,
            Self::UnknownPartition => Code::UNKNOWN_PARTITION,
            Self::Other(code) => code,
        }
    }
}

/// A handle that librdkafka wants to be given back.
struct Handle(NonNull<rdsys::rd_kafka_topic_t>);

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: the handle is live, and its producer still is: `Producer` drops its handles first.
        unsafe { rdsys::rd_kafka_topic_destroy(self.0.as_ptr()) }
    }
}

// SAFETY: librdkafka's topics are bound to no thread.
unsafe impl Send for Handle {}

/// What was taken and not reported.
#[derive(Debug, Default, Clone, Copy)]
struct InFlight {
    records: usize,
    /// Of keys, values, and large headers.
    bytes: usize,
    /// How many of the records have large headers.
    large_headers: usize,
}

impl InFlight {
    fn add(&mut self, bytes: usize, headers: Option<usize>) {
        self.records += 1;
        self.bytes += bytes + headers.unwrap_or(0);
        self.large_headers += usize::from(headers.is_some());
    }

    fn remove(&mut self, bytes: usize, headers: Option<usize>) {
        self.records -= 1;
        self.bytes -= bytes + headers.unwrap_or(0);
        self.large_headers -= usize::from(headers.is_some());
    }
}

/// Writes records. Dropped, it gives up what is not acknowledged: [`Self::flush`] first.
pub struct Producer {
    /// By [`Topic::index`].
    topics: Vec<Handle>,
    names: HashMap<Arc<str>, Topic>,
    by_index: Vec<Arc<str>>,
    reports: Queue,
    in_flight: InFlight,
    buffer_bytes: usize,
    /// How often the client said that something is wrong.
    troubles: u64,
    client: Arc<Client>,
    /// Keeps `Producer` on one thread at a time.
    _not_sync: std::marker::PhantomData<std::cell::Cell<()>>,
}

impl Producer {
    /// Needs no broker.
    ///
    /// # Errors
    /// Where a setting is refused.
    pub fn new(settings: &ProducerSettings) -> Result<Self, Error> {
        let events = rdsys::RD_KAFKA_EVENT_DR | rdsys::RD_KAFKA_EVENT_ERROR;
        let client = Client::new(Kind::Producer, settings.pairs(), events)?;
        Ok(Self {
            topics: Vec::new(),
            names: HashMap::new(),
            by_index: Vec::new(),
            reports: Queue::main(&client),
            in_flight: InFlight::default(),
            buffer_bytes: settings.buffer_bytes,
            troubles: 0,
            client,
            _not_sync: std::marker::PhantomData,
        })
    }

    /// The topic of this name, kept for as long as the producer lives. Doesn't ask whether it exists.
    ///
    /// # Errors
    /// Where no topic can have this name.
    pub fn topic(&mut self, name: &str) -> Result<Topic, Error> {
        if let Some(topic) = self.names.get(name) {
            return Ok(*topic);
        }
        let c_name = c_string(name)?;
        let topic = Topic(u32::try_from(self.topics.len()).expect("topics are far fewer"));
        // SAFETY: the producer is live; it takes the config over whatever becomes of the topic. The index is in the config,
        // so that a report finds it without looking a name up.
        let raw = unsafe {
            let config = rdsys::rd_kafka_default_topic_conf_dup(self.client.raw());
            rdsys::rd_kafka_topic_conf_set_opaque(config, topic.index() as *mut c_void);
            rdsys::rd_kafka_topic_new(self.client.raw(), c_name.as_ptr(), config)
        };
        let Some(raw) = NonNull::new(raw) else {
            // SAFETY: no preconditions.
            let code = unsafe { rdsys::rd_kafka_last_error() }.into();
            let message = format!("no topic can have this name ({code})");
            return Err(Error::Topic { action: "produce", topic: name.to_owned(), code, message });
        };
        let name: Arc<str> = Arc::from(name);
        self.topics.push(Handle(raw));
        self.by_index.push(Arc::clone(&name));
        self.names.insert(name, topic);
        Ok(topic)
    }

    /// A topic's name.
    ///
    /// # Panics
    /// Where the topic is another producer's.
    pub fn name(&self, topic: Topic) -> &Arc<str> {
        &self.by_index[topic.index()]
    }

    /// How many partitions a topic has, as the broker says now; `None` where it doesn't know the topic. The client learns of
    /// partitions that were added by the same answer.
    ///
    /// # Errors
    /// Where the broker doesn't answer in time, or refuses.
    ///
    /// # Panics
    /// Where the topic is another producer's.
    pub fn partitions(&self, topic: Topic, timeout: Duration) -> Result<Option<u32>, Error> {
        let topic = self.topics[topic.index()].0.as_ptr();
        let mut metadata = std::ptr::null();
        // SAFETY: the client and the topic are live, and the metadata ours to destroy where there is no error.
        let code =
            unsafe { rdsys::rd_kafka_metadata(self.client.raw(), 0, topic, &mut metadata, timeout_ms(timeout).max(1)) };
        answered("look a topic up", code.into(), timeout)?;
        // SAFETY: the metadata is live until it is destroyed here, and holds as many topics as it says: the one asked for.
        let count = unsafe {
            let topics = (*metadata).topics;
            let found = (*metadata).topic_cnt > 0 && Code::read(std::ptr::addr_of!((*topics).err)) == Code::NONE;
            let count = found.then(|| (*topics).partition_cnt);
            rdsys::rd_kafka_metadata_destroy(metadata);
            count
        };
        Ok(count.and_then(|count| u32::try_from(count).ok()).filter(|count| *count > 0))
    }

    /// From which offset on there may be transactions that are open, of whomever, in each of these partitions: where it ends, if there
    /// are none.
    ///
    /// # Errors
    /// Where the broker doesn't answer in time, or refuses.
    ///
    /// # Panics
    /// Where a topic is another producer's.
    pub fn open_from(
        &self,
        partitions: impl ExactSizeIterator<Item = (Topic, i32)>,
        timeout: Duration,
    ) -> Result<Vec<i64>, Error> {
        // The protocol's time for the end, as those see it who read what is committed: which a client does unless told otherwise.
        const LATEST: i64 = -1;
        let places = partitions.map(|(topic, partition)| (&**self.name(topic), partition, LATEST));
        let list = List::of(places)?;
        look_up(&self.client, &list, timeout)?;
        Ok(list.elements().iter().map(|item| item.offset).collect())
    }

    /// The largest batch of records that a topic takes, in bytes, as the broker says now; `None` where it doesn't say.
    ///
    /// # Errors
    /// Where the broker doesn't answer in time, or refuses.
    ///
    /// # Panics
    /// Where the topic is another producer's.
    pub fn batch_bytes_max(&self, topic: Topic, timeout: Duration) -> Result<Option<usize>, Error> {
        let sizes = describe::batch_bytes_max(&self.client, &[self.name(topic)], timeout)?;
        Ok(sizes.into_iter().next().flatten())
    }

    /// Hands a record over. The headers are taken where it was accepted, and left where not.
    ///
    /// # Errors
    /// Where it wasn't accepted; no report follows then.
    ///
    /// # Panics
    /// Where the topic is another producer's.
    pub fn produce(
        &mut self,
        topic: Topic,
        record: Outgoing<'_>,
        headers: &mut Option<OwnedHeaders>,
    ) -> Result<(), ProduceError> {
        let topic = self.topics[topic.index()].0.as_ptr();
        let bytes = record.bytes();
        let headers_bytes = headers.as_ref().map(OwnedHeaders::bytes).filter(|bytes| *bytes >= LARGE_HEADERS_BYTES);
        // One record that is larger than the whole buffer passes alone.
        if self.in_flight.records > 0 && self.in_flight.bytes + bytes + headers_bytes.unwrap_or(0) > self.buffer_bytes {
            return Err(ProduceError::Full);
        }
        let arguments = [
            argument(vtype::RD_KAFKA_VTYPE_RKT, |u| u.rkt = topic),
            argument(vtype::RD_KAFKA_VTYPE_PARTITION, |u| u.i32_ = record.partition.unwrap_or(PARTITION_UNASSIGNED)),
            argument(vtype::RD_KAFKA_VTYPE_MSGFLAGS, |u| u.i = rdsys::RD_KAFKA_MSG_F_COPY),
            argument(vtype::RD_KAFKA_VTYPE_VALUE, |u| u.mem = memory(record.value)),
            argument(vtype::RD_KAFKA_VTYPE_KEY, |u| u.mem = memory(record.key)),
            argument(vtype::RD_KAFKA_VTYPE_TIMESTAMP, |u| u.i64_ = record.timestamp.max(0)),
            argument(vtype::RD_KAFKA_VTYPE_OPAQUE, |u| u.ptr = record.opaque as *mut c_void),
            argument(vtype::RD_KAFKA_VTYPE_HEADERS, |u| {
                u.headers = headers.as_ref().map_or(std::ptr::null_mut(), OwnedHeaders::raw);
            }),
        ];
        // The last one is left out where there are no headers.
        let count = arguments.len() - usize::from(headers.is_none());
        // SAFETY: the producer and the topic are live, each argument has the member that its type says, and key and value are
        // readable for their lengths and copied. The headers are the record's where there is no error, and ours otherwise.
        let result = unsafe { rdsys::rd_kafka_produceva(self.client.raw(), arguments.as_ptr(), count) };
        // SAFETY: the error, if there is one, is ours.
        let refused = NonNull::new(result).map(|error| unsafe {
            let code = Code::from(rdsys::rd_kafka_error_code(error.as_ptr()));
            rdsys::rd_kafka_error_destroy(error.as_ptr());
            code
        });
        if let Some(code) = refused {
            return Err(code.into());
        }
        // The record owns them now.
        std::mem::forget(headers.take());
        self.in_flight.add(bytes, headers_bytes);
        Ok(())
    }

    /// Takes what reports there are, waiting at most this long for the first one. Returns how many.
    ///
    /// # Errors
    /// [`Error::Fatal`] where this producer can't go on: what is in flight is reported as failed, and nothing more is taken.
    pub fn poll(&mut self, timeout: Duration, report: &mut impl FnMut(Report)) -> Result<usize, Error> {
        let mut count = 0;
        let mut wait = timeout;
        let mut fatal = None;
        while let Some(event) = self.reports.poll(wait) {
            wait = Duration::ZERO;
            match event.kind() {
                rdsys::RD_KAFKA_EVENT_DR => count += deliver(&event, &mut self.in_flight, report),
                rdsys::RD_KAFKA_EVENT_ERROR if event.is_fatal() => {
                    fatal = Some(Error::Fatal { code: event.code(), message: event.message() });
                }
                rdsys::RD_KAFKA_EVENT_ERROR => {
                    self.troubles += 1;
                    tracing::warn!(code = %event.code(), reason = event.message(), "The producer reports an error.");
                }
                kind => tracing::debug!(kind, "An event of the client's that nobody asked for."),
            }
        }
        fatal.map_or(Ok(count), Err)
    }

    /// How often the client has said that something is wrong, connections that were lost among it.
    pub fn troubles(&self) -> u64 {
        self.troubles
    }

    /// For how long the broker has held this client back, for its quota, since this was asked last.
    pub fn take_throttled(&self) -> Throttled {
        self.client.take_throttled()
    }

    pub(super) fn raw(&self) -> *mut rdsys::rd_kafka_t {
        self.client.raw()
    }

    /// How many records were taken and not reported.
    pub fn in_flight(&self) -> usize {
        self.in_flight.records
    }

    /// How many bytes they have: keys, values, and headers where those are large.
    pub fn in_flight_bytes(&self) -> usize {
        self.in_flight.bytes
    }

    /// Waits until everything is reported, or the deadline is over. Whether everything was.
    ///
    /// # Errors
    /// As [`Self::poll`].
    pub fn flush(&mut self, deadline: Instant, report: &mut impl FnMut(Report)) -> Result<bool, Error> {
        // Short: librdkafka's own flush waits in slices of 100 ms.
        const SLICE: Duration = Duration::from_millis(1);
        while self.in_flight.records > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            self.poll(left.min(SLICE), report)?;
            if left.is_zero() && self.in_flight.records > 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Has what waits for more of its batch sent at once, for as long as this takes: a millisecond, where anything is in flight.
    pub fn send_now(&self) {
        if self.in_flight.records > 0 {
            // SAFETY: the producer is live. Reports are events, which this leaves alone, and without which it never ends early. The
            // client's threads don't linger while it lasts: they may miss one that is over before they have woken up.
            unsafe { rdsys::rd_kafka_flush(self.client.raw(), 1) };
        }
    }

    /// Gives up what is not acknowledged: it is reported as [`Code::PURGE_QUEUE`] (not written) or [`Code::PURGE_INFLIGHT`]
    /// (perhaps written) with the next polls.
    pub fn purge(&mut self) {
        let flags = rdsys::RD_KAFKA_PURGE_F_QUEUE | rdsys::RD_KAFKA_PURGE_F_INFLIGHT;
        // SAFETY: the producer is live.
        let code = unsafe { rdsys::rd_kafka_purge(self.client.raw(), flags) };
        if let Some(code) = Code::from(code).error() {
            tracing::warn!(%code, "What the producer holds couldn't be given up.");
        }
    }

    /// As [`Self::purge`], and waits until all of it is reported, and what went wrong with it.
    pub fn give_up(&mut self, report: &mut impl FnMut(Report)) {
        let end = Instant::now() + GIVE_UP_TIMEOUT;
        loop {
            // Also where all is reported: the client reports what has timed out before it is done with it.
            self.purge();
            // An error is one that is known: a producer is given up for it.
            let _ = self.poll(Duration::ZERO, report);
            if self.in_flight.records == 0 {
                break;
            }
            if Instant::now() >= end {
                tracing::warn!(in_flight = self.in_flight.records, "A producer can't give up all that it has.");
                break;
            }
            let _ = self.flush((Instant::now() + GIVE_UP_INTERVAL).min(end), report);
        }
    }
}

/// librdkafka's main thread frees what the transactions' state holds before the threads end that take the broker's answers. An
/// answer that comes in between and says that the producer can't go on frees it again, and the heap is damaged (2.12.1,
/// `rd_kafka_txns_term` and `rd_kafka_txn_set_fatal_error`). So no request is left that could be answered.
impl Drop for Producer {
    fn drop(&mut self) {
        self.give_up(&mut |_| {});
    }
}

fn deliver(event: &Event, in_flight: &mut InFlight, report: &mut impl FnMut(Report)) -> usize {
    let whole = event.code();
    if matches!(whole, Code::INVALID_RECORD | Code::INVALID_TIMESTAMP) {
        let mut messages = Vec::new();
        take(event, |message| messages.push(message));
        let blame = Blame::of(&messages);
        for &message in &messages {
            let (code, unclear) = blame.error(message, whole);
            report(Report { error: Some(code), unclear, ..report_of(message, in_flight) });
        }
        return messages.len();
    }
    let mut count = 0;
    take(event, |message| {
        report(report_of(message, in_flight));
        count += 1;
    });
    count
}

/// Hands the messages of an event over, which live as long as that.
fn take(event: &Event, mut each: impl FnMut(*const rdsys::rd_kafka_message_t)) {
    let mut messages = [std::ptr::null(); REPORTS];
    loop {
        // SAFETY: the event is live, and there is room for as many pointers as is said.
        let taken = unsafe { rdsys::rd_kafka_event_message_array(event.raw(), messages.as_mut_ptr(), messages.len()) };
        messages[..taken].iter().for_each(|message| each(*message));
        if taken < messages.len() {
            return;
        }
    }
}

fn report_of(message: *const rdsys::rd_kafka_message_t, in_flight: &mut InFlight) -> Report {
    // SAFETY: the message is live, and so is its topic, whose opaque is the index that `Producer::topic` set.
    let (message, index) = unsafe { (&*message, rdsys::rd_kafka_topic_opaque((*message).rkt) as usize) };
    // SAFETY: the field is readable.
    let code = unsafe { Code::read(std::ptr::addr_of!(message.err)) };
    let bytes = message.len + message.key_len;
    let headers = if in_flight.large_headers > 0 { large_headers(message) } else { None };
    in_flight.remove(bytes, headers);
    Report {
        opaque: message._private as usize,
        topic: Topic(u32::try_from(index).expect("set from a `Topic`")),
        partition: message.partition,
        offset: message.offset,
        error: code.error(),
        unclear: false,
        bytes,
    }
}

fn large_headers(message: &rdsys::rd_kafka_message_t) -> Option<usize> {
    let mut list = std::ptr::null_mut();
    // SAFETY: the message is live, and its headers with it.
    let headers = unsafe {
        match rdsys::rd_kafka_message_headers(message, &mut list) {
            rdsys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR => HeadersRef::new(list),
            _ => return None,
        }
    };
    Some(headers.bytes()).filter(|bytes| *bytes >= LARGE_HEADERS_BYTES)
}

fn argument(
    vtype: rdsys::rd_kafka_vtype_t,
    set: impl FnOnce(&mut rdsys::rd_kafka_vu_s__bindgen_ty_1),
) -> rdsys::rd_kafka_vu_t {
    let mut u = rdsys::rd_kafka_vu_s__bindgen_ty_1 { ptr: std::ptr::null_mut() };
    set(&mut u);
    rdsys::rd_kafka_vu_t { vtype, u }
}

fn memory(bytes: Option<&[u8]>) -> rdsys::rd_kafka_vu_s__bindgen_ty_1__bindgen_ty_1 {
    rdsys::rd_kafka_vu_s__bindgen_ty_1__bindgen_ty_1 {
        ptr: bytes.map_or(std::ptr::null_mut(), |bytes| bytes.as_ptr().cast_mut().cast()),
        size: bytes.map_or(0, <[u8]>::len),
    }
}
