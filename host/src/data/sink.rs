//! The end of an event's path: outputs and dead letters, into the producer. Writes what the answers hold, with the
//! host's header in place of all `midplane-` ones; counts the bytes in flight of each output topic, so that a slow one
//! doesn't fill the buffer that all share. Decides nothing about events.

mod batches;
mod output;
mod remains;
mod transaction;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use slab::Slab;

use self::output::Output;
use self::remains::Remains;
use super::answers::Bound;
use super::chain::Ready;
use super::engine::{LaneId, Outcome, Report, Seq};
use super::event::{Event, Headers};
use super::failure::Failure;
use super::lane::Lane;
use super::letter::{self, Cut, Letter};
use super::origin;
use super::route::Plan;
use super::window::Window;
use crate::kafka::{self, Code, Outgoing, OwnedHeaders, ProduceError, Producer, ProducerSettings, Throttled};

/// How much of the producer's buffer is used before nothing more is begun; the rest is for the event that was.
const BUFFER_SHARE: usize = 2;
/// How much of that one output topic may have.
const TOPIC_SHARE: usize = 2;
/// How long the broker may take to say how many partitions a topic has, and how often it is asked: only about a topic that an
/// output names a partition of which isn't known to be there.
const LOOK_TIMEOUT: Duration = Duration::from_millis(400);
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// How far from the clock a letter's time may be, before a topic is thought to refuse it for that.
const TIME_TOLERANCE_MS: u64 = 60_000;
/// Records in flight before nothing more is begun.
const RECORDS_MAX: usize = 50_000;

/// What a record takes of what its topic may have: its bytes, or, of a small one, its share of the records.
fn weight(bytes: usize, topic_bytes_max: usize) -> usize {
    bytes.max(topic_bytes_max / (RECORDS_MAX / TOPIC_SHARE))
}

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Output,
    /// A dead letter: its refusal is never an event's outcome.
    Letter {
        /// What time it has.
        time: Time,
        /// What it goes without.
        cut: Cut,
    },
    /// A record of the host's own.
    Note,
}

/// What time a letter has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Time {
    /// About now: no topic refuses it for that.
    Now,
    /// Its event's, which lies behind the clock.
    Behind,
    /// Its event's, which lies ahead of the clock.
    Ahead,
}

impl Time {
    /// Of an event's time, in milliseconds since the Unix epoch.
    fn of(event: i64, now: i64) -> Self {
        if event.abs_diff(now) <= TIME_TOLERANCE_MS {
            Self::Now
        } else if event < now {
            Self::Behind
        } else {
            Self::Ahead
        }
    }
}

/// A message that was handed to the producer, and not reported.
#[derive(Debug, Clone, Copy)]
struct Message {
    lane: LaneId,
    seq: Seq,
    /// The number that its route has now; none where that is gone.
    route: Option<u16>,
    kind: Kind,
}

/// Which event something is produced for.
#[derive(Debug, Clone, Copy)]
pub struct Origin<'a> {
    /// Its lane, by number.
    pub id: LaneId,
    /// Its lane.
    pub lane: &'a Lane,
    /// Its number in the lane.
    pub seq: Seq,
    /// The number of the route that something is produced by.
    pub route: u16,
    /// The event itself.
    pub event: &'a Event<'a>,
}

/// What a sink has produced.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Outputs.
    pub outputs: u64,
    /// Dead letters.
    pub letters: u64,
}

/// Nothing was produced, for lack of room. To be tried again, later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

/// A shard's producer, and what is in it.
pub struct Sink {
    producer: Producer,
    /// What it was made with, and the next one will be.
    settings: ProducerSettings,
    outputs: Vec<Output>,
    /// By [`kafka::Topic::index`]: the number in `outputs`.
    by_topic: Vec<u16>,
    window: Window,
    topic_bytes_max: usize,
    /// Topics over their bound.
    over: usize,
    /// When the transaction was begun that is open, if there is one.
    begun: Option<(Instant, SystemTime)>,
    /// Whether its producer has refused to begin one.
    refuses_to_begin: bool,
    /// Where former ones may still be open.
    remains: Remains,
    /// A topic that refused batches, nobody knows for which of their records; and the smallest one's bytes.
    refused: Option<(u16, usize)>,
    /// What batches might have before they were made as small as the refused records, and when that was.
    guessed: Option<(Instant, usize)>,
    /// What is in flight, by what its report carries.
    messages: Slab<Message>,
    header: Vec<u8>,
    reports: Vec<Report>,
    counts: Counts,
    /// The one of the event's `midplane-` headers that its outputs carry on, if any.
    carried: Option<&'static str>,
    /// The last message that was not written, and why: its topic, and what the broker or the client said.
    trouble: Option<(u16, Code)>,
}

impl Sink {
    /// A sink for output topics, by number, each with the bytes of one record that it takes.
    ///
    /// # Errors
    /// Where a setting is refused, or a topic can't have its name.
    pub fn new(settings: ProducerSettings, topics: &[(String, usize)]) -> Result<Self, kafka::Error> {
        let bytes_max = settings.buffer_bytes / BUFFER_SHARE;
        let mut sink = Self {
            producer: Producer::new(&settings)?,
            settings,
            outputs: Vec::with_capacity(topics.len()),
            by_topic: Vec::with_capacity(topics.len()),
            window: Window::new(bytes_max),
            topic_bytes_max: bytes_max / TOPIC_SHARE,
            over: 0,
            begun: None,
            refuses_to_begin: false,
            remains: Remains::default(),
            refused: None,
            guessed: None,
            messages: Slab::new(),
            header: Vec::new(),
            reports: Vec::new(),
            counts: Counts::default(),
            carried: None,
            trouble: None,
        };
        sink.adopt(topics)?;
        Ok(sink)
    }

    /// Outputs carry on this header of their event's, which is the host's own.
    pub fn carry_on(&mut self, name: &'static str) {
        self.carried = Some(name);
    }

    /// The topic that something was not written to last, and why.
    pub fn trouble(&self) -> Option<(&str, Code)> {
        self.trouble.map(|(number, code)| (self.topic_name(number), code))
    }

    /// Follows another generation: topics that came, and what each takes now. Numbers keep their meaning.
    ///
    /// # Errors
    /// Where a topic can't have its name.
    pub fn adopt(&mut self, topics: &[(String, usize)]) -> Result<(), kafka::Error> {
        for (number, (name, record_bytes_max)) in topics.iter().enumerate() {
            match self.outputs.get_mut(number) {
                Some(output) => {
                    debug_assert_eq!(output.name, *name, "a topic's number keeps its meaning");
                    output.record_bytes_max = *record_bytes_max;
                }
                None => self.add(name, *record_bytes_max)?,
            }
        }
        Ok(())
    }

    fn add(&mut self, name: &str, record_bytes_max: usize) -> Result<(), kafka::Error> {
        let topic = self.producer.topic(name)?;
        debug_assert_eq!(topic.index(), self.by_topic.len(), "topics are counted in the order of first mention");
        self.by_topic.push(self.outputs.len() as u16);
        self.outputs.push(Output::new(name, topic, record_bytes_max));
        Ok(())
    }

    /// Why an output's topic would never take it, if that is known: then its event fails, before anything of it is produced.
    /// Of a partition that isn't known to be there, the broker is asked.
    pub fn refusal(&mut self, ready: &Ready<'_>) -> Option<Failure> {
        let Self { outputs, producer, .. } = self;
        let output = &mut outputs[usize::from(ready.topic)];
        let is_there = |partition| output.partitions.is_some_and(|count| partition < count);
        if ready.partition.is_some_and(|partition| !is_there(partition))
            && output.looked.is_none_or(|looked| looked.elapsed() >= LOOK_INTERVAL)
        {
            output.looked = Some(Instant::now());
            match producer.partitions(output.topic, LOOK_TIMEOUT) {
                Ok(partitions) => output.partitions = partitions,
                // The client then finds out for itself, once it is sent.
                Err(error) => tracing::debug!(topic = output.name, %error, "A topic's partitions are not known."),
            }
        }
        let Output { name, record_bytes_max, partitions, .. } = &*output;
        Bound { topic: name, record_bytes_max: *record_bytes_max, partitions: *partitions }.refusal(ready)
    }

    /// An output topic's name.
    pub fn topic_name(&self, number: u16) -> &str {
        &self.outputs[usize::from(number)].name
    }

    /// What was produced so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// How many messages are in flight.
    pub fn in_flight(&self) -> usize {
        self.producer.in_flight()
    }

    /// Whether the next event may be begun. One that is larger than what there is room for is begun all the same.
    pub fn has_room(&self) -> bool {
        self.producer.in_flight() < RECORDS_MAX && self.window.is_open(self.producer.in_flight_bytes(), Instant::now)
    }

    /// Whether something may be begun that goes to these topics.
    pub fn admits(&self, topics: impl Iterator<Item = u16>) -> bool {
        self.over == 0 || topics.into_iter().all(|topic| self.outputs[usize::from(topic)].weight < self.topic_bytes_max)
    }

    /// Whether any topic is over its bound, so that [`Sink::admits`] has to be asked.
    pub fn is_tight(&self) -> bool {
        self.over > 0
    }

    /// Produces one output: the `index`th of its event on this route.
    ///
    /// # Errors
    /// [`Full`] where there is no room at all; the caller polls, and tries again.
    pub fn output(&mut self, origin: Origin<'_>, plan: &Plan, index: u32, ready: &Ready<'_>) -> Result<(), Full> {
        let mut headers = self.output_headers(origin, plan, index, ready);
        let outgoing = Outgoing {
            partition: ready.partition.map(|partition| i32::try_from(partition).unwrap_or(i32::MAX)),
            key: ready.key,
            value: ready.value,
            timestamp: written_at(ready.timestamp),
            opaque: 0,
        };
        self.counts.outputs += 1;
        self.produce(origin, ready.topic, outgoing, &mut headers, Kind::Output)
            .inspect_err(|Full| self.counts.outputs -= 1)
    }

    fn output_headers(
        &mut self,
        origin: Origin<'_>,
        plan: &Plan,
        index: u32,
        ready: &Ready<'_>,
    ) -> Option<OwnedHeaders> {
        let hops = match origin.event.headers {
            Headers::Empty => 1,
            headers => origin::hops(&headers) + 1,
        };
        let carried = self.carried.and_then(|name| origin.event.headers.last(name.as_bytes()));
        let mut headers = match ready.headers {
            Headers::Empty if plan.label.is_none() && carried.is_none() => return None,
            Headers::Empty => OwnedHeaders::new(1 + usize::from(carried.is_some())),
            own => {
                let mut headers = OwnedHeaders::new(own.len() + 1 + usize::from(carried.is_some()));
                for header in own.iter().filter(|header| !header.name.starts_with(origin::PREFIX)) {
                    headers.add(header.name, header.value);
                }
                headers
            }
        };
        if let Some(header) = carried {
            headers.add(header.name, header.value);
        }
        if let Some(label) = &plan.label {
            origin::write(&mut self.header, &origin.lane.label, origin.event.offset, index, label, hops);
            headers.add(origin::NAME.as_bytes(), Some(&self.header));
        }
        Some(headers)
    }

    /// Writes a dead letter: without `cut`, since its topic has refused it before. One that its topic is known not to take goes
    /// without what is too large of it, or under a time of its own, and says so.
    ///
    /// # Errors
    /// As [`Sink::output`].
    pub fn letter(
        &mut self,
        origin: Origin<'_>,
        plan: &Plan,
        (failure, stage, attempts): (&Failure, Option<usize>, u32),
        cut: Cut,
    ) -> Result<(), Full> {
        let event = origin.event;
        let plugin = stage.map(|stage| &plan.plugins[stage]).map(|(name, version)| (name.as_str(), version.as_str()));
        let timestamp = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64);
        let letter = Letter { event, route: &plan.id, plugin, failure, attempts, timestamp };
        let topic = plan.dead_letter;
        let cut = cut.max(letter.cut(self.outputs[usize::from(topic)].record_bytes_max));
        let mut headers = OwnedHeaders::new(event.headers.len() + 13);
        for header in event.headers.iter().filter(|_| cut != Cut::Event) {
            headers.add(header.name, header.value);
        }
        letter.headers(|name, value| headers.add(name.as_bytes(), Some(value)));
        if cut != Cut::Nothing {
            headers.add(letter::TRUNCATED.as_bytes(), Some(event.value.map_or(0, <[u8]>::len).to_string().as_bytes()));
        }
        let own = self.outputs[usize::from(topic)].refuses(Time::of(event.timestamp, timestamp));
        if own {
            headers.add(letter::EVENT_TIMESTAMP.as_bytes(), Some(event.timestamp.to_string().as_bytes()));
        }
        let time = if own { Time::Now } else { Time::of(event.timestamp, timestamp) };
        let outgoing = Outgoing {
            partition: None,
            key: event.key.filter(|_| cut != Cut::Event),
            value: event.value.filter(|_| cut == Cut::Nothing),
            timestamp: if own { timestamp } else { written_at(event.timestamp) },
            opaque: 0,
        };
        self.counts.letters += 1;
        self.produce(origin, topic, outgoing, &mut Some(headers), Kind::Letter { time, cut })
            .inspect_err(|Full| self.counts.letters -= 1)
    }

    /// Writes a record of the host's own that belongs to an event: it is no event's outcome, as a letter isn't.
    ///
    /// # Errors
    /// As [`Sink::output`].
    pub fn note(&mut self, origin: Origin<'_>, topic: u16, key: &[u8], value: &[u8]) -> Result<(), Full> {
        let outgoing = Outgoing { partition: None, key: Some(key), value: Some(value), timestamp: 0, opaque: 0 };
        self.produce(origin, topic, outgoing, &mut None, Kind::Note)
    }

    /// Hands a record over, or reports what is wrong with it as its broker would.
    fn produce(
        &mut self,
        origin: Origin<'_>,
        number: u16,
        outgoing: Outgoing<'_>,
        headers: &mut Option<OwnedHeaders>,
        kind: Kind,
    ) -> Result<(), Full> {
        if self.is_transactional()
            && let Err(error) = self.begin()
        {
            tracing::warn!(%error, "A transaction could not be begun.");
            self.reports.push(Report { lane: origin.id, seq: origin.seq, outcome: Outcome::Failed });
            return Ok(());
        }
        let message = Message { lane: origin.id, seq: origin.seq, route: Some(origin.route), kind };
        let output = &mut self.outputs[usize::from(number)];
        let place = self.messages.vacant_entry();
        match self.producer.produce(output.topic, Outgoing { opaque: place.key(), ..outgoing }, headers) {
            Ok(()) => {
                place.insert(message);
                let before = output.weight;
                output.weight += weight(outgoing.bytes(), self.topic_bytes_max);
                self.over += usize::from(before < self.topic_bytes_max && output.weight >= self.topic_bytes_max);
                Ok(())
            }
            Err(ProduceError::Full) => Err(Full),
            Err(error) => {
                self.trouble = Some((number, error.code()));
                let outcome = output.outcome(number, error.code(), outgoing.bytes(), &message);
                self.reports.push(Report { lane: origin.id, seq: origin.seq, outcome });
                Ok(())
            }
        }
    }

    /// Takes what the broker has acknowledged, or refused, waiting at most this long for the first of it.
    ///
    /// # Errors
    /// Where the producer can't go on.
    pub fn poll(&mut self, timeout: Duration) -> Result<(), kafka::Error> {
        let batch_bytes = self.settings.batch_bytes();
        let Self { producer, outputs, by_topic, reports, over, messages, trouble, refused, remains, .. } = self;
        let (topic_bytes_max, has_begun) = (self.topic_bytes_max, self.begun.is_some());
        producer.poll(timeout, &mut |report| {
            let number = by_topic[report.topic.index()];
            if has_begun {
                remains.wrote((number, report.partition), report.offset);
            }
            let output = &mut outputs[usize::from(number)];
            let before = output.weight;
            output.weight -= weight(report.bytes, topic_bytes_max);
            *over -= usize::from(before >= topic_bytes_max && output.weight < topic_bytes_max);
            let message = messages.remove(report.opaque);
            let outcome = match report.error {
                None => Outcome::Acked,
                // A record that is as large as a batch may be was alone in its own. Of any other one nobody can tell: it is
                // written again, in a smaller one. So it is where another error may be a neighbour's.
                Some(code)
                    if report.unclear || code == Code::MESSAGE_TOO_LARGE && report.bytes.max(1) < batch_bytes =>
                {
                    *trouble = Some((number, code));
                    let smallest = refused.map_or(usize::MAX, |(_, smallest)| smallest);
                    *refused = Some((number, report.bytes.max(1).min(smallest)));
                    Outcome::Failed
                }
                Some(code) => {
                    *trouble = Some((number, code));
                    output.outcome(number, code, report.bytes, &message)
                }
            };
            reports.push(Report { lane: message.lane, seq: message.seq, outcome });
        })?;
        Ok(())
    }

    /// What was reported since the last call, handed to `take`.
    pub fn reports(&mut self, take: impl FnOnce(&[Report])) {
        if !self.reports.is_empty() {
            take(&self.reports);
            self.reports.clear();
        }
    }

    /// For how long the broker has held the producer back, for its quota, since this was asked last.
    pub fn take_throttled(&mut self) -> Throttled {
        let throttled = self.producer.take_throttled();
        if self.is_transactional() {
            self.window.held_back(throttled.longest, self.producer.in_flight_bytes(), Instant::now());
        }
        throttled
    }

    /// What writes the transactions.
    pub fn producer(&self) -> &Producer {
        &self.producer
    }

    /// The name under which it writes transactions, if it does.
    pub fn transactional_id(&self) -> Option<&str> {
        self.settings.transactional_id.as_deref()
    }

    fn is_transactional(&self) -> bool {
        self.settings.transactional_id.is_some()
    }

    /// Writes with another producer from here on. Of what the former one has in flight nothing is reported.
    ///
    /// # Errors
    /// Where a topic can't have its name.
    pub fn renew(&mut self) -> Result<(), kafka::Error> {
        self.shrink_batches();
        self.give_up();
        self.producer = Producer::new(&self.settings)?;
        for output in &mut self.outputs {
            output.topic = self.producer.topic(&output.name)?;
            output.weight = 0;
        }
        self.over = 0;
        self.begun = None;
        self.refuses_to_begin = false;
        self.reports.clear();
        self.messages.clear();
        Ok(())
    }

    /// Gives up what the producer has, and its transaction, if one is open.
    fn give_up(&mut self) {
        let has_begun = self.begun.is_some();
        let Self { producer, by_topic, remains, .. } = self;
        producer.give_up(&mut |report| {
            if has_begun {
                remains.wrote((by_topic[report.topic.index()], report.partition), report.offset);
            }
        });
        self.remains.given_up();
    }

    /// The routes have other numbers from here on: by the number that a route had, the one that it has, if it is still there.
    pub fn renumber(&mut self, routes: &[Option<u16>]) {
        for (_, message) in &mut self.messages {
            message.route = message.route.and_then(|route| routes.get(usize::from(route)).copied().flatten());
        }
    }

    /// Whether anything was reported and not taken.
    pub fn has_reports(&self) -> bool {
        !self.reports.is_empty()
    }

    /// Forgets what was reported and not taken: it is of a transaction that was given up.
    pub fn forget_reports(&mut self) {
        self.reports.clear();
    }

    /// Gives up what is in flight.
    pub fn purge(&mut self) {
        self.producer.purge();
    }
}

/// The time of an event or an output as the client takes it, for which 0 is none: it would be now. A millisecond is the least
/// that the beginning of time can be off by.
fn written_at(timestamp: i64) -> i64 {
    if timestamp == 0 { 1 } else { timestamp }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_keeps_a_time_that_no_topic_refuses() {
        let check = |event, expected| assert_eq!(Time::of(event, 1_000_000), expected, "{event}");
        check(939_999, Time::Behind);
        check(940_000, Time::Now);
        check(1_060_000, Time::Now);
        check(1_060_001, Time::Ahead);
    }
    #[test]
    fn the_epoch_itself_is_not_now() {
        assert_eq!([-1, 0, 1, 1_700_000_000_000].map(written_at), [-1, 1, 1, 1_700_000_000_000]);
    }
}
