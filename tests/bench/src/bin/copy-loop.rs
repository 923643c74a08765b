//! The native baseline: copies a topic to another with librdkafka's batch calls, without WebAssembly.
//!
//! `copy-loop SERVERS GROUP FROM TO [--header] [--exactly-once]`, until SIGTERM. It is subscribed, checks CRCs, carries
//! timestamps, with `--header` writes one header as long as the router's, and with `--exactly-once` one transaction after the
//! other, for an interval each, as plainly as can be: it knows no faults and no rebalances. Client settings and allocator are
//! the product's, so that what is measured between the two is the router alone.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use midplane::kafka::settings::{BATCH_BYTES_MAX, CONSUMER_BUFFER_BYTES, PRODUCER_BUFFER_BYTES, RECORD_BYTES_MAX};
use midplane::kafka::{
    Connection, Consumer, ConsumerSettings, Entry, Error, Happening, Outgoing, OwnedHeaders, Partition, ProduceError,
    Producer, ProducerSettings, Record, Report, Topic, start,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Events a drain: larger ones measured slower.
const DRAIN_EVENTS_MAX: usize = 1024;
const DRAIN_BYTES_MAX: usize = 1 << 20;
const DRAIN_TIMEOUT: Duration = Duration::from_millis(5);
const COMMIT_INTERVAL: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(30);

const HEADER: &str = "--header";
const EXACTLY_ONCE: &str = "--exactly-once";

static STOP: AtomicBool = AtomicBool::new(false);

extern "C" fn stop(_: libc::c_int) {
    STOP.store(true, Ordering::Relaxed);
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let (servers, group, from, to, options) = match args.as_slice() {
        [servers, group, from, to, options @ ..] if options.iter().all(|o| [HEADER, EXACTLY_ONCE].contains(o)) => {
            (servers, group, from, to, options)
        }
        _ => {
            eprintln!("usage: copy-loop SERVERS GROUP FROM TO [{HEADER}] [{EXACTLY_ONCE}]");
            return ExitCode::from(2);
        }
    };
    let has = |option| options.contains(&option);
    stop_on_signals();
    match Loop::new(servers, group, from, to, (has(HEADER), has(EXACTLY_ONCE))).and_then(Loop::run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("copy-loop: {error}");
            ExitCode::FAILURE
        }
    }
}

#[expect(unsafe_code, reason = "a handler for signals; the baseline needs no crate for it")]
fn stop_on_signals() {
    // SAFETY: the handler only stores into an atomic.
    unsafe {
        libc::signal(libc::SIGTERM, stop as *const () as libc::sighandler_t);
        libc::signal(libc::SIGINT, stop as *const () as libc::sighandler_t);
    }
}

/// What was read in one drain: it is settled when all of its records are acknowledged.
struct Drain {
    outstanding: usize,
    /// Of each run of records of one partition.
    positions: Vec<(i32, i64)>,
}

struct Loop {
    consumer: Consumer,
    producer: Producer,
    from: String,
    to: Topic,
    header: bool,
    exactly_once: bool,
    drains: VecDeque<Drain>,
    /// The number of the first one of `drains`.
    first: usize,
    failed: bool,
}

impl Loop {
    fn new(
        servers: &str,
        group: &str,
        from: &str,
        to: &str,
        (header, exactly_once): (bool, bool),
    ) -> Result<Self, Error> {
        let connection = Connection { bootstrap: servers.to_owned(), client: BTreeMap::new() };
        let client_id = "copy-loop".to_owned();
        let consumer = Consumer::new(&ConsumerSettings {
            connection: connection.clone(),
            group: group.to_owned(),
            client_id: client_id.clone(),
            buffer_bytes: CONSUMER_BUFFER_BYTES,
        })?;
        consumer.subscribe([from])?;
        let mut producer = Producer::new(&ProducerSettings {
            connection,
            client_id,
            transactional_id: exactly_once.then(|| group.to_owned()),
            buffer_bytes: PRODUCER_BUFFER_BYTES,
            record_bytes_max: RECORD_BYTES_MAX,
            batch_bytes_max: BATCH_BYTES_MAX,
        })?;
        let to = producer.topic(to)?;
        let from = from.to_owned();
        Ok(Self {
            consumer,
            producer,
            from,
            to,
            header,
            exactly_once,
            drains: VecDeque::new(),
            first: 0,
            failed: false,
        })
    }

    fn run(mut self) -> Result<(), Error> {
        let mut batch = self.consumer.batch();
        let mut committed = Instant::now();
        let mut value = Vec::new();
        if self.exactly_once {
            self.producer.init_transactions(PATIENCE)?;
            self.producer.begin_transaction()?;
        }
        while !STOP.load(Ordering::Relaxed) && !self.failed {
            while let Some(happening) = self.consumer.poll(Duration::ZERO) {
                self.answer(happening)?;
            }
            self.reports(Duration::ZERO)?;
            self.consumer.drain(&mut batch, DRAIN_EVENTS_MAX, DRAIN_BYTES_MAX, DRAIN_TIMEOUT);
            if !batch.is_empty() {
                self.drains.push_back(Drain { outstanding: 0, positions: Vec::new() });
            }
            for entry in batch.iter() {
                match entry {
                    Entry::Record(record) => self.copy(record, &mut value)?,
                    Entry::End(_) => {}
                    Entry::Error { code, .. } => return Err(Error::Refused { action: "consume", code }),
                }
            }
            if committed.elapsed() >= COMMIT_INTERVAL {
                if self.exactly_once {
                    self.end_transaction()?
                } else {
                    self.commit()?
                }
                committed = Instant::now();
            }
        }
        if self.exactly_once {
            return self.end_transaction();
        }
        self.settle()?;
        self.commit()
    }

    /// Commits all that was read, with all that was written, and begins another transaction.
    fn end_transaction(&mut self) -> Result<(), Error> {
        let read = self.drains.iter().flat_map(|drain| drain.positions.iter().copied()).collect::<BTreeMap<_, _>>();
        if read.is_empty() {
            return Ok(());
        }
        let Self { consumer, producer, from, .. } = self;
        let offsets = read.iter().map(|(partition, offset)| (from.as_str(), *partition, *offset, ""));
        producer.send_offsets(consumer, offsets, PATIENCE)?;
        self.settle()?;
        self.first += self.drains.len();
        self.drains.clear();
        self.producer.commit_transaction(PATIENCE)?;
        Ok(self.producer.begin_transaction()?)
    }

    /// Waits for all that is in flight.
    fn settle(&mut self) -> Result<(), Error> {
        let deadline = Instant::now() + PATIENCE;
        while self.producer.in_flight() > 0 && Instant::now() < deadline {
            self.producer.send_now();
            self.reports(Duration::from_millis(1))?;
        }
        Ok(())
    }

    fn answer(&mut self, happening: Happening) -> Result<(), Error> {
        let places =
            |partitions: &[Partition]| partitions.iter().map(|(topic, n)| (topic.to_string(), *n)).collect::<Vec<_>>();
        match happening {
            Happening::Assign(partitions) => {
                let positions = start::positions(
                    &mut self.consumer,
                    &partitions,
                    &HashMap::new(),
                    |_| String::new(),
                    !self.exactly_once,
                    PATIENCE,
                )?;
                self.consumer.assign(positions.iter().map(|at| (&*at.topic, at.partition, at.offset)))
            }
            Happening::Revoke { partitions, .. } => {
                let partitions = places(&partitions);
                self.consumer.unassign(partitions.iter().map(|(topic, partition)| (topic.as_str(), *partition)))
            }
            Happening::Error { fatal: true, code, message } => Err(Error::Fatal { code, message }),
            Happening::Committed { .. } | Happening::Error { .. } => Ok(()),
        }
    }

    fn copy(&mut self, record: Record<'_>, value: &mut Vec<u8>) -> Result<(), Error> {
        let number = self.first + self.drains.len() - 1;
        let outgoing = Outgoing {
            partition: None,
            key: record.key(),
            value: record.value(),
            timestamp: record.timestamp(),
            opaque: number,
        };
        let mut headers = self.header.then(|| origin(record, value));
        loop {
            match self.producer.produce(self.to, outgoing, &mut headers) {
                Ok(()) => break,
                Err(ProduceError::Full) => self.reports(Duration::from_millis(1))?,
                Err(error) => return Err(Error::Refused { action: "produce", code: error.code() }),
            }
        }
        if let Some(drain) = self.drains.back_mut() {
            drain.outstanding += 1;
            let position = (record.partition(), record.offset() + 1);
            match drain.positions.last_mut() {
                Some(last) if last.0 == position.0 => *last = position,
                _ => drain.positions.push(position),
            }
        }
        Ok(())
    }

    fn reports(&mut self, timeout: Duration) -> Result<(), Error> {
        let Self { producer, drains, first, failed, .. } = self;
        producer.poll(timeout, &mut |report: Report| {
            *failed |= report.error.is_some();
            drains[report.opaque - *first].outstanding -= 1;
        })?;
        Ok(())
    }

    /// Commits what is settled, in the order in which it was read.
    fn commit(&mut self) -> Result<(), Error> {
        let mut settled = BTreeMap::new();
        while self.drains.front().is_some_and(|drain| drain.outstanding == 0) && !self.failed {
            self.first += 1;
            settled.extend(self.drains.pop_front().into_iter().flat_map(|drain| drain.positions));
        }
        if settled.is_empty() {
            return Ok(());
        }
        self.consumer.commit(settled.iter().map(|(partition, offset)| (self.from.as_str(), *partition, *offset, "")), 0)
    }
}

/// A header of the router's kind and length.
fn origin(record: Record<'_>, value: &mut Vec<u8>) -> OwnedHeaders {
    value.clear();
    value.extend_from_slice(record.place().topic().as_bytes());
    for number in [u64::from(record.partition().unsigned_abs()), record.offset().unsigned_abs(), 0] {
        value.push(b'/');
        digits(value, number);
    }
    value.extend_from_slice(b" copy@1 identity@0123abcd");
    let mut headers = OwnedHeaders::new(1);
    headers.add(b"midplane-origin", Some(value));
    headers
}

fn digits(value: &mut Vec<u8>, mut number: u64) {
    let begin = value.len();
    loop {
        value.push(b'0' + (number % 10) as u8);
        number /= 10;
        if number == 0 {
            break;
        }
    }
    value[begin..].reverse();
}
