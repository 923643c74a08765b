//! Owners of librdkafka's objects: each is destroyed once, and never after the client that it belongs to.
//!
//! What every client has in common is in here: its settings, its log lines, its events.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rdkafka::bindings as rdsys;

use super::error::{Code, Error};

/// Room for librdkafka's error texts.
const TEXT: usize = 512;

/// For how long the broker has held a client back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Throttled {
    /// By all of its answers.
    pub total: Duration,
    /// By one of them.
    pub longest: Duration,
}

/// The same, as it is noted.
#[derive(Debug, Default)]
struct Noted {
    total_ms: AtomicU64,
    longest_ms: AtomicU64,
}

/// A client of librdkafka. Destroyed with the last of its [`Arc`]s, which queues, batches and producers' topics hold.
pub(super) struct Client {
    raw: NonNull<rdsys::rd_kafka_t>,
    /// For how long the broker has held it back, since somebody asked. Outlives the client, which writes to it.
    throttled: Arc<Noted>,
}

// SAFETY: librdkafka's functions on a client may be called from any thread, several at once.
unsafe impl Send for Client {}
// SAFETY: as above.
unsafe impl Sync for Client {}

/// Which half of the protocol a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Consumer,
    Producer,
}

impl Client {
    /// Makes a client of these settings that turns these kinds of events (`RD_KAFKA_EVENT_…`) into events.
    pub(super) fn new(
        kind: Kind,
        settings: impl IntoIterator<Item = (String, String)>,
        events: c_int,
    ) -> Result<Arc<Self>, Error> {
        let throttled = Arc::<Noted>::default();
        let config = Config::new(settings, events, &throttled)?;
        let kind = match kind {
            Kind::Consumer => rdsys::rd_kafka_type_t::RD_KAFKA_CONSUMER,
            Kind::Producer => rdsys::rd_kafka_type_t::RD_KAFKA_PRODUCER,
        };
        let mut text = [0_u8; TEXT];
        // SAFETY: the config is live, and the text as long as is said.
        let raw = unsafe { rdsys::rd_kafka_new(kind, config.raw.as_ptr(), text.as_mut_ptr().cast(), text.len()) };
        let Some(raw) = NonNull::new(raw) else {
            return Err(Error::Client { message: text_of(&text) });
        };
        // The client has taken the config over.
        std::mem::forget(config);
        Ok(Arc::new(Self { raw, throttled }))
    }

    pub(super) fn raw(&self) -> *mut rdsys::rd_kafka_t {
        self.raw.as_ptr()
    }

    /// For how long the broker has held this client back since this was asked last, as it says in its answers: what the client
    /// may read or write in a second, or the broker's time that it may take, is used up. Heard of where events are polled.
    pub(super) fn take_throttled(&self) -> Throttled {
        let Noted { total_ms, longest_ms } = &*self.throttled;
        let take = |ms: &AtomicU64| Duration::from_millis(ms.swap(0, Ordering::Relaxed));
        Throttled { total: take(total_ms), longest: take(longest_ms) }
    }

    /// The error that ended this client, if one did.
    pub(super) fn fatal(&self) -> Option<Error> {
        let mut text = [0_u8; TEXT];
        // SAFETY: the client is live, and the text as long as is said.
        let code = unsafe { rdsys::rd_kafka_fatal_error(self.raw(), text.as_mut_ptr().cast(), text.len()) };
        let code = Code::from(code).error()?;
        Some(Error::Fatal { code, message: text_of(&text) })
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // SAFETY: this is the last owner; whatever holds on to something of the client's holds an `Arc` of it. Leaving the
        // group is `Consumer::leave`'s: without it the group waits for the session to time out. This blocks while a commit is on
        // its way, until its request times out at the latest; and for ever while the client waits to hear what is assigned, which
        // `Consumer` sees to.
        unsafe { rdsys::rd_kafka_destroy_flags(self.raw(), rdsys::RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE) }
    }
}

/// Settings on their way into a client.
struct Config {
    raw: NonNull<rdsys::rd_kafka_conf_t>,
}

impl Config {
    fn new(
        settings: impl IntoIterator<Item = (String, String)>,
        events: c_int,
        noted: &Arc<Noted>,
    ) -> Result<Self, Error> {
        // SAFETY: no preconditions.
        let raw = unsafe { rdsys::rd_kafka_conf_new() };
        let config = Self { raw: NonNull::new(raw).expect("librdkafka aborts where it can't allocate") };
        for (name, value) in settings {
            config.set(&name, &value)?;
        }
        // SAFETY: the config is live, the callbacks may be called from any thread, and what is noted outlives whatever is made
        // of the config: `Client` holds it.
        unsafe {
            rdsys::rd_kafka_conf_set_events(config.raw.as_ptr(), events);
            rdsys::rd_kafka_conf_set_log_cb(config.raw.as_ptr(), Some(log));
            rdsys::rd_kafka_conf_set_opaque(config.raw.as_ptr(), Arc::as_ptr(noted).cast_mut().cast());
            rdsys::rd_kafka_conf_set_throttle_cb(config.raw.as_ptr(), Some(throttled));
        }
        Ok(config)
    }

    fn set(&self, name: &str, value: &str) -> Result<(), Error> {
        let (c_name, c_value) = (c_string(name)?, CString::new(value));
        let c_value =
            c_value.map_err(|_| Error::Setting { name: name.to_owned(), hint: "its value contains a NUL" })?;
        let mut text = [0_u8; TEXT];
        // SAFETY: the config is live, the strings end in NUL, and the text is as long as is said.
        let result = unsafe {
            rdsys::rd_kafka_conf_set(
                self.raw.as_ptr(),
                c_name.as_ptr(),
                c_value.as_ptr(),
                text.as_mut_ptr().cast(),
                text.len(),
            )
        };
        let hint = match result {
            rdsys::rd_kafka_conf_res_t::RD_KAFKA_CONF_OK => return Ok(()),
            rdsys::rd_kafka_conf_res_t::RD_KAFKA_CONF_UNKNOWN => "there is no such setting",
            // librdkafka's own text repeats the value, and the value may be a secret.
            rdsys::rd_kafka_conf_res_t::RD_KAFKA_CONF_INVALID => "its value isn't one of those allowed",
        };
        Err(Error::Setting { name: name.to_owned(), hint })
    }
}

impl Drop for Config {
    fn drop(&mut self) {
        // SAFETY: no client took it over: `Client::new` forgets it where one did.
        unsafe { rdsys::rd_kafka_conf_destroy(self.raw.as_ptr()) }
    }
}

/// What the broker says of a quota, and that it is not used up any more (0), from whoever polls.
unsafe extern "C" fn throttled(
    _client: *mut rdsys::rd_kafka_t,
    _broker: *const c_char,
    _broker_id: i32,
    throttled_ms: c_int,
    opaque: *mut c_void,
) {
    // SAFETY: the opaque is what the client that calls notes it in, and holds.
    let Noted { total_ms, longest_ms } = unsafe { &*opaque.cast::<Noted>() };
    let throttled_ms = u64::try_from(throttled_ms).unwrap_or(0);
    total_ms.fetch_add(throttled_ms, Ordering::Relaxed);
    longest_ms.fetch_max(throttled_ms, Ordering::Relaxed);
}

/// librdkafka's log lines, from whichever of its threads.
unsafe extern "C" fn log(
    client: *const rdsys::rd_kafka_t,
    level: c_int,
    facility: *const c_char,
    message: *const c_char,
) {
    // SAFETY: librdkafka passes strings that live for the call, and a client (or none, while one is being made).
    let (name, facility, message) = unsafe {
        let name = if client.is_null() { std::ptr::null() } else { rdsys::rd_kafka_name(client) };
        (lossy(name), lossy(facility), lossy(message))
    };
    let (name, facility, message) = (&*name, &*facility, &*message);
    // The levels are syslog's.
    match if is_no_news(facility, message) { 7 } else { level } {
        ..=3 => {
            tracing::error!(target: "librdkafka", client = name, facility, reason = message, "The client reports.")
        }
        4 => {
            tracing::warn!(target: "librdkafka", client = name, facility, reason = message, "The client reports.")
        }
        5 | 6 => {
            tracing::info!(target: "librdkafka", client = name, facility, reason = message, "The client reports.")
        }
        _ => {
            tracing::debug!(target: "librdkafka", client = name, facility, reason = message, "The client reports.")
        }
    }
}

/// Whether a line says what the host has done on purpose: that a setting is none for this kind of client, where what an operator
/// sets goes to all of them; or that a transaction failed whose records were given up with its producer.
fn is_no_news(facility: &str, message: &str) -> bool {
    match facility {
        "CONFWARN" => message.contains("will be ignored by this"),
        "TXNERR" => message.contains("(_PURGE_"),
        _ => false,
    }
}

/// A queue of events or records.
pub(super) struct Queue {
    raw: NonNull<rdsys::rd_kafka_queue_t>,
    /// Outlives the queue: fields are dropped after `Drop::drop`.
    _client: Arc<Client>,
}

// SAFETY: librdkafka's queues have a lock of their own.
unsafe impl Send for Queue {}
// SAFETY: as above.
unsafe impl Sync for Queue {}

impl Queue {
    /// A new one.
    pub(super) fn new(client: &Arc<Client>) -> Self {
        // SAFETY: the client is live.
        let raw = unsafe { rdsys::rd_kafka_queue_new(client.raw()) };
        Self::own(raw, client).expect("librdkafka aborts where it can't allocate")
    }

    /// The producer's: delivery reports and errors.
    pub(super) fn main(client: &Arc<Client>) -> Self {
        // SAFETY: the client is live.
        let raw = unsafe { rdsys::rd_kafka_queue_get_main(client.raw()) };
        Self::own(raw, client).expect("each client has a main queue")
    }

    /// The group member's: rebalances, results of commits, errors. `None` for a client without a group.
    pub(super) fn consumer(client: &Arc<Client>) -> Option<Self> {
        // SAFETY: the client is live.
        let raw = unsafe { rdsys::rd_kafka_queue_get_consumer(client.raw()) };
        Self::own(raw, client)
    }

    /// One partition's. `None` where there can be no such partition.
    pub(super) fn partition(client: &Arc<Client>, topic: &CStr, partition: i32) -> Option<Self> {
        // SAFETY: the client is live, and the name ends in NUL.
        let raw = unsafe { rdsys::rd_kafka_queue_get_partition(client.raw(), topic.as_ptr(), partition) };
        Self::own(raw, client)
    }

    fn own(raw: *mut rdsys::rd_kafka_queue_t, client: &Arc<Client>) -> Option<Self> {
        NonNull::new(raw).map(|raw| Self { raw, _client: Arc::clone(client) })
    }

    pub(super) fn raw(&self) -> *mut rdsys::rd_kafka_queue_t {
        self.raw.as_ptr()
    }

    /// The next event, waited for at most this long.
    pub(super) fn poll(&self, timeout: Duration) -> Option<Event> {
        // SAFETY: the queue is live, and the caller owns what it returns.
        let raw = unsafe { rdsys::rd_kafka_queue_poll(self.raw(), timeout_ms(timeout)) };
        NonNull::new(raw).map(|raw| Event { raw })
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: the queue is live, and so is its client.
        unsafe { rdsys::rd_kafka_queue_destroy(self.raw()) }
    }
}

/// Something that a client has to say. Dropped before the client is: it is looked at where it is polled, or kept in a
/// [`super::Batch`], which holds the client.
pub(super) struct Event {
    raw: NonNull<rdsys::rd_kafka_event_t>,
}

impl Event {
    pub(super) fn raw(&self) -> *mut rdsys::rd_kafka_event_t {
        self.raw.as_ptr()
    }

    /// `RD_KAFKA_EVENT_…`
    pub(super) fn kind(&self) -> c_int {
        // SAFETY: the event is live.
        unsafe { rdsys::rd_kafka_event_type(self.raw()) }
    }

    /// What went wrong, if something did.
    pub(super) fn code(&self) -> Code {
        // SAFETY: the event is live.
        unsafe { rdsys::rd_kafka_event_error(self.raw()) }.into()
    }

    /// What went wrong, in words.
    pub(super) fn message(&self) -> String {
        // SAFETY: the event is live, and its text with it.
        unsafe { lossy(rdsys::rd_kafka_event_error_string(self.raw())).into_owned() }
    }

    /// Whether the client can't go on.
    pub(super) fn is_fatal(&self) -> bool {
        // SAFETY: the event is live.
        unsafe { rdsys::rd_kafka_event_error_is_fatal(self.raw()) != 0 }
    }

    /// What was handed in with the request that this answers.
    pub(super) fn token(&self) -> usize {
        // SAFETY: the event is live.
        unsafe { rdsys::rd_kafka_event_opaque(self.raw()) as usize }
    }

    /// The partitions that it is about.
    pub(super) fn partitions(&self) -> &[rdsys::rd_kafka_topic_partition_t] {
        // SAFETY: the event is live, and its list with it.
        unsafe { elements(rdsys::rd_kafka_event_topic_partition_list(self.raw())) }
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: the event is live.
        unsafe { rdsys::rd_kafka_event_destroy(self.raw()) }
    }
}

/// A list of partitions with offsets.
pub(super) struct List {
    raw: NonNull<rdsys::rd_kafka_topic_partition_list_t>,
}

impl List {
    pub(super) fn new(capacity: usize) -> Self {
        let capacity = c_int::try_from(capacity).unwrap_or(c_int::MAX);
        // SAFETY: no preconditions.
        let raw = unsafe { rdsys::rd_kafka_topic_partition_list_new(capacity) };
        Self { raw: NonNull::new(raw).expect("librdkafka aborts where it can't allocate") }
    }

    pub(super) fn of<'a>(items: impl ExactSizeIterator<Item = (&'a str, i32, i64)>) -> Result<Self, Error> {
        let mut list = Self::new(items.len());
        for (topic, partition, offset) in items {
            list.add(&c_string(topic)?, partition, offset);
        }
        Ok(list)
    }

    pub(super) fn raw(&self) -> *mut rdsys::rd_kafka_topic_partition_list_t {
        self.raw.as_ptr()
    }

    /// Adds a partition; the element may be written to until the next one is added.
    pub(super) fn add(&mut self, topic: &CStr, partition: i32, offset: i64) -> &mut rdsys::rd_kafka_topic_partition_t {
        // SAFETY: the list is live, the name ends in NUL, and what comes back points into the list.
        unsafe {
            let element = rdsys::rd_kafka_topic_partition_list_add(self.raw(), topic.as_ptr(), partition);
            (*element).offset = offset;
            &mut *element
        }
    }

    pub(super) fn elements(&self) -> &[rdsys::rd_kafka_topic_partition_t] {
        // SAFETY: the list is live.
        unsafe { elements(self.raw()) }
    }
}

impl Drop for List {
    fn drop(&mut self) {
        // SAFETY: the list is live.
        unsafe { rdsys::rd_kafka_topic_partition_list_destroy(self.raw()) }
    }
}

/// # Safety
/// `list` is null, or lives unchanged for `'a`.
unsafe fn elements<'a>(list: *const rdsys::rd_kafka_topic_partition_list_t) -> &'a [rdsys::rd_kafka_topic_partition_t] {
    if list.is_null() {
        return &[];
    }
    // SAFETY: the list is live.
    let (elements, count) = unsafe { ((*list).elems, (*list).cnt) };
    match usize::try_from(count) {
        // SAFETY: a list that isn't empty has so many elements. A code that the enumeration lacks is never read as one:
        // only `partition_code` looks at that field.
        Ok(count) if count > 0 => unsafe { std::slice::from_raw_parts(elements, count) },
        _ => &[],
    }
}

/// What went wrong with one partition of a list.
pub(super) fn partition_code(element: &rdsys::rd_kafka_topic_partition_t) -> Code {
    // SAFETY: the field is readable.
    unsafe { Code::read(std::ptr::addr_of!(element.err)) }
}

/// The name of a list element's topic.
pub(super) fn partition_topic(element: &rdsys::rd_kafka_topic_partition_t) -> std::borrow::Cow<'_, str> {
    // SAFETY: librdkafka's elements have names that live as long as they do.
    unsafe { lossy(element.topic) }
}

/// What was committed with a list element's offset.
pub(super) fn partition_metadata(element: &rdsys::rd_kafka_topic_partition_t) -> &[u8] {
    if element.metadata.is_null() || element.metadata_size == 0 {
        return &[];
    }
    // SAFETY: librdkafka's elements own so many bytes of metadata.
    unsafe { std::slice::from_raw_parts(element.metadata.cast(), element.metadata_size) }
}

/// Takes an error object of librdkafka's over.
///
/// # Safety
/// `error` is null, or an error object that nobody else destroys.
pub(super) unsafe fn take_error(error: *mut rdsys::rd_kafka_error_t) -> Result<(), (Code, String)> {
    if error.is_null() {
        return Ok(());
    }
    // SAFETY: the object is live until it is destroyed here.
    unsafe {
        let code = rdsys::rd_kafka_error_code(error).into();
        let message = lossy(rdsys::rd_kafka_error_string(error)).into_owned();
        rdsys::rd_kafka_error_destroy(error);
        Err((code, message))
    }
}

/// A duration as librdkafka wants it: at most [`c_int::MAX`], since a negative one means for ever.
pub(super) fn timeout_ms(timeout: Duration) -> c_int {
    c_int::try_from(timeout.as_millis()).unwrap_or(c_int::MAX)
}

/// A name as C wants it.
pub(super) fn c_string(name: &str) -> Result<CString, Error> {
    CString::new(name).map_err(|_| Error::Name { name: name.replace('\0', "\u{fffd}") })
}

/// # Safety
/// `text` is null, or ends in NUL and lives for `'a`.
pub(super) unsafe fn lossy<'a>(text: *const c_char) -> std::borrow::Cow<'a, str> {
    if text.is_null() {
        return "".into();
    }
    // SAFETY: as the caller promised.
    unsafe { CStr::from_ptr(text) }.to_string_lossy()
}

fn text_of(buffer: &[u8]) -> String {
    CStr::from_bytes_until_nul(buffer).map(|text| text.to_string_lossy().into_owned()).unwrap_or_default()
}
