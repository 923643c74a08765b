//! A steady flow of events into a topic, and a reader of what becomes of them. Each event is numbered, and says when it was
//! sent; its number gives its partition, its offset and its key.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use midplane_tests::wait::{DEADLINE, wait_until};
use midplane_tests::{Record, records};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use crate::outputs::{Output, Outputs};
use crate::setting::{PATIENCE, Setting};

/// Of the topic that is written to, and of the one that is read.
pub(crate) const PARTITIONS: i32 = 4;
/// Keys in each partition.
const KEYS: u64 = 5;

/// Where a load flows, and how fast.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Course {
    /// The topic that is written to, without its suffix.
    pub(crate) from: &'static str,
    /// The topic that is read.
    pub(crate) to: &'static str,
    /// Events a second.
    pub(crate) rate: u64,
    /// Outputs of each event.
    pub(crate) outputs: usize,
}

/// A load that flows.
pub(crate) struct Load {
    course: Course,
    servers: String,
    output: String,
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    source: JoinHandle<()>,
    reader: Reader,
}

impl Load {
    /// Begins to flow. Both topics are there, and empty.
    pub(crate) fn start(setting: &Setting<'_>, course: Course) -> Self {
        let servers = setting.broker.servers().to_owned();
        let [input, output] = [course.from, course.to].map(|stem| setting.named(&format!("{stem}~")));
        let begin = Instant::now();
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let source = std::thread::spawn({
            let (servers, stop, sent) = (servers.clone(), Arc::clone(&stop), Arc::clone(&sent));
            move || flow(&servers, &input, course.rate, begin, &stop, &sent)
        });
        let reader = Reader::start(&servers, &output, begin);
        Self { course, servers, output, stop, sent, source, reader }
    }

    /// Since the load began.
    pub(crate) fn now(&self) -> Duration {
        self.reader.begin.elapsed()
    }

    /// How many events were sent so far.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// What was read so far.
    pub(crate) fn seen(&self) -> MutexGuard<'_, Outputs> {
        lock(&self.reader.seen)
    }

    /// Waits until an output of this generation of a route was read, or of a newer one.
    #[track_caller]
    pub(crate) fn wait_for_generation(&self, route: &str, generation: u64) {
        let reached = || self.seen().newest(route) >= generation;
        wait_fast(&format!("an output of generation {generation} of `{route}`"), reached);
    }

    /// Waits until something was read of events that were sent from now on.
    #[track_caller]
    pub(crate) fn wait_for_more(&self) {
        let mark = self.sent() + 2 * PARTITIONS as u64;
        wait_fast("further outputs", || self.seen().newest_event() >= mark);
    }

    /// Sends no more. Gives how many events were sent.
    pub(crate) fn dry_up(&self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        wait_until("the source has ended", DEADLINE, || self.source.is_finished());
        self.sent()
    }

    /// Reads everything that is there, and asserts that every event has all its outputs, once, in order. Nobody writes any
    /// more.
    pub(crate) fn finish(self) -> Outputs {
        let sent = self.dry_up();
        let outputs = self.collect();
        outputs.assert_once(sent);
        outputs
    }

    /// As [`Self::finish`], where ends of transactions stand among the outputs.
    pub(crate) fn finish_transactions(self) -> Outputs {
        let sent = self.dry_up();
        let expected = usize::try_from(sent).expect("a number of events") * self.course.outputs;
        let outputs = self.collect_all(expected);
        outputs.assert_once(sent);
        outputs
    }

    /// Reads everything that is there. Nobody writes any more.
    pub(crate) fn collect(self) -> Outputs {
        let there = usize::try_from(records::len(&self.servers, &self.output)).expect("a number of records");
        self.collect_all(there)
    }

    fn collect_all(self, there: usize) -> Outputs {
        wait_until("all outputs are read", PATIENCE, || lock(&self.reader.seen).len() >= there);
        let mut outputs = self.reader.stop();
        outputs.expect(self.course.outputs);
        outputs
    }
}

/// As [`wait_until`], for what is a matter of milliseconds.
#[track_caller]
fn wait_fast(what: &str, condition: impl Fn() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < DEADLINE, "waited {DEADLINE:?} in vain: {what}");
        std::thread::yield_now();
        std::thread::park_timeout(Duration::from_millis(1));
    }
}

/// Writes events at a steady rate until it is told to stop.
fn flow(servers: &str, topic: &str, rate: u64, begin: Instant, stop: &AtomicBool, sent: &AtomicU64) {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", servers)
        .set("client.id", "midplane-tests-load")
        .set("enable.idempotence", "true")
        .set("linger.ms", "0")
        .create()
        .expect("a producer");
    let (mut number, mut forgone, at_once) = (0, 0, (rate / 10).max(1));
    while !stop.load(Ordering::Relaxed) {
        let due = begin.elapsed().as_micros() as u64 * rate / 1_000_000;
        // After a time without the processor the load goes on where it stands: it is steady, and owes nothing.
        forgone += (due - forgone - number).saturating_sub(at_once);
        for _ in 0..due - forgone - number {
            send(&producer, topic, number, begin);
            number += 1;
            sent.store(number, Ordering::Relaxed);
        }
        producer.poll(Duration::from_millis(1));
    }
    producer.flush(DEADLINE).expect("the broker takes every event");
}

/// The key of an event.
pub(crate) fn key(number: u64) -> String {
    let partitions = PARTITIONS as u64;
    format!("{}-{}", number % partitions, number / partitions % KEYS)
}

fn send(producer: &BaseProducer, topic: &str, number: u64, begin: Instant) {
    let (partition, key) = ((number % PARTITIONS as u64) as i32, key(number));
    let value = format!("{number} {}", begin.elapsed().as_micros());
    let mut record = BaseRecord::to(topic).partition(partition).key(&key).payload(&value);
    while let Err((error, again)) = producer.send(record) {
        assert!(matches!(error, KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull)), "{error}");
        record = again;
        producer.poll(Duration::from_millis(10));
    }
}

/// Reads a topic from its beginning, as it grows.
struct Reader {
    begin: Instant,
    stop: Arc<AtomicBool>,
    seen: Arc<Mutex<Outputs>>,
    thread: JoinHandle<()>,
}

impl Reader {
    fn start(servers: &str, topic: &str, begin: Instant) -> Self {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", servers)
            .set("group.id", "midplane-tests-reader")
            .set("enable.auto.commit", "false")
            .create()
            .expect("a consumer");
        let mut list = TopicPartitionList::new();
        for partition in 0..PARTITIONS {
            list.add_partition_offset(topic, partition, Offset::Beginning).expect("an offset");
        }
        consumer.assign(&list).expect("an assignment");
        let (stop, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::default()));
        let thread = std::thread::spawn({
            let (stop, seen) = (Arc::clone(&stop), Arc::clone(&seen));
            move || read(&consumer, begin, &stop, &seen)
        });
        Self { begin, stop, seen, thread }
    }

    fn stop(self) -> Outputs {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the reader reads");
        std::mem::take(&mut lock(&self.seen))
    }
}

fn read(consumer: &BaseConsumer, begin: Instant, stop: &AtomicBool, seen: &Mutex<Outputs>) {
    while !stop.load(Ordering::Relaxed) {
        match consumer.poll(Duration::from_millis(20)) {
            None => {}
            Some(Ok(message)) => {
                let output = Output::of(&Record::from(&message), begin.elapsed());
                lock(seen).push(output);
            }
            // It passes, or what is waited for never comes.
            Some(Err(error)) => eprintln!("the outputs can't be read for now: {error}"),
        }
    }
}

/// Outputs are added one by one and whole: a panic elsewhere leaves nothing half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
