//! The traffic of the large tests: payments over several partitions, through a filter and plugins, with an outcome that their
//! number decides. One input, and a group for each guarantee that is asked for; the checker judges each.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::ops::Range;
use std::time::{Duration, Instant};

use midplane::config::model::Guarantee;

use crate::checker::{Event, Found, Look, Place, Positions, Product, Run, Topic, Verdict};
use crate::records::Committed;
use crate::usage::Usage;
use crate::wait::wait_until;
use crate::{Broker, Folder, Record, records};

/// Partitions of the input, at first.
pub const PARTITIONS: usize = 4;
/// For everything that is to be worked off, in an unoptimised build on a busy machine.
pub const SETTLE_DEADLINE: Duration = Duration::from_secs(180);
/// Events that are sent at once while something else goes on.
const SLICE: usize = 500;
/// Events of a batch: small ones, so that a host can be given a part of what was sent.
const BATCH: usize = 50;
/// Between two orders, prime, so that each partition has some.
const ORDER_DISTANCE: usize = 97;

/// How much more a large payment says.
const LARGE_BYTES: usize = 40_000;

/// Where outputs, alerts and letters go: topics by their numbers, and how many partitions they have.
const TOPICS: [(&str, i32); 3] = [("scored", 4), ("alerts", 2), ("letters", 1)];
const SCORED: usize = 0;
const ALERTS: usize = 1;
const LETTERS: usize = 2;

/// What becomes of a payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// The filter doesn't take it.
    Passed,
    /// A plugin can't answer it.
    Letter,
    /// One output.
    Scored,
    /// One output, and an alert.
    Alerted,
}

/// How payments are to flow.
#[derive(Debug, Clone)]
pub struct Setup<'a> {
    /// What hosts connect to, where something stands between them and the broker.
    pub servers: Option<String>,
    /// What each group promises.
    pub guarantees: &'a [Guarantee],
    /// Of each group.
    pub shards: usize,
    /// Further lines of each group's table.
    pub group: &'a str,
    /// Milliseconds after which a member that says nothing is missed.
    pub session_ms: u64,
    /// Further settings of clients, beside a short session.
    pub client: &'a str,
    /// What some events order the plugin `faulty` to do, which then goes first; each ends as a letter. `large` makes it a
    /// payment of many KiB, `keyless` one without a key.
    pub orders: &'a [&'a str],
    /// Whether the topic of payments is only made when the test says so.
    pub late: bool,
    /// Further tables of the config.
    pub tables: &'a str,
}

impl Default for Setup<'_> {
    fn default() -> Self {
        Self {
            servers: None,
            guarantees: &[Guarantee::AtLeastOnce],
            shards: 1,
            group: "",
            session_ms: 6000,
            client: "",
            orders: &[],
            late: false,
            tables: "",
        }
    }
}

/// One group, and what it writes to.
#[derive(Debug)]
struct Stream {
    guarantee: Guarantee,
    group: String,
    asked: Committed,
    topics: Vec<String>,
    committed: Vec<Positions>,
    interruptions: Vec<Positions>,
    looks: Vec<Look>,
}

/// Topics, groups and a config of their own, and what was sent so far.
#[derive(Debug)]
pub struct Payments<'a> {
    broker: &'a Broker,
    /// The topic of payments.
    pub input: String,
    streams: Vec<Stream>,
    config: String,
    orders: Vec<String>,
    partitions: usize,
    /// Where each one is, by its number.
    places: Vec<Place>,
    ends: Positions,
    /// Those that were taken from the log before anybody read them.
    gone: BTreeSet<Place>,
    /// Whether the broker refuses batches of outputs.
    refuses: bool,
    numberings: usize,
    usages: Vec<(Usage, Usage)>,
}

impl<'a> Payments<'a> {
    /// Through one group, at least once.
    pub fn new(broker: &'a Broker, shards: usize) -> Self {
        Self::with(broker, &Setup { shards, ..Setup::default() })
    }

    /// As [`Self::new`], exactly once.
    pub fn exactly_once(broker: &'a Broker, shards: usize) -> Self {
        Self::with(broker, &Setup { shards, guarantees: &[Guarantee::ExactlyOnce], ..Setup::default() })
    }

    /// As the setup says.
    pub fn with(broker: &'a Broker, setup: &Setup<'_>) -> Self {
        let input = broker.unique("payments");
        if !setup.late {
            broker.create(&input, PARTITIONS as i32, &[]);
        }
        let streams: Vec<_> = setup.guarantees.iter().map(|&guarantee| Stream::new(broker, guarantee)).collect();
        let config = config(broker, setup, &input, &streams);
        Self {
            broker,
            input,
            streams,
            config,
            orders: setup.orders.iter().map(|&order| order.to_owned()).collect(),
            partitions: PARTITIONS,
            places: Vec::new(),
            ends: Positions::new(),
            gone: BTreeSet::new(),
            refuses: false,
            numberings: 1,
            usages: Vec::new(),
        }
    }

    /// A folder for one more host.
    pub fn folder(&self) -> Folder {
        Folder::new(&self.config)
    }

    /// The config of hosts.
    pub fn config(&self) -> &str {
        &self.config
    }

    /// The names of the groups, one for each guarantee.
    pub fn groups(&self) -> impl Iterator<Item = &str> {
        self.streams.iter().map(|stream| stream.group.as_str())
    }

    /// The topics that the group of a guarantee writes outputs, alerts and letters to.
    ///
    /// # Panics
    /// Where there is none.
    pub fn topics(&self, guarantee: Guarantee) -> &[String] {
        let stream = self.streams.iter().find(|stream| stream.guarantee == guarantee);
        &stream.expect("a group with this guarantee").topics
    }

    /// Makes the topic of payments, which was left out.
    pub fn create_input(&self) {
        self.broker.create(&self.input, PARTITIONS as i32, &[]);
    }

    /// How many were sent so far.
    pub fn sent(&self) -> usize {
        self.places.len()
    }

    /// From now on payments go to so many partitions, which the topic has.
    pub fn widen(&mut self, partitions: usize) {
        self.partitions = partitions;
    }

    /// Sends more, until there were so many in all.
    pub fn send_up_to(&mut self, events: usize) {
        let first = self.sent();
        for number in first..events {
            let partition = (number % self.partitions) as i32;
            let end = self.ends.entry(partition).or_default();
            self.places.push(Place { partition, offset: *end });
            *end += 1;
        }
        let records = (first..events).map(|number| self.payment(number).to(self.places[number].partition));
        records::produce_in(self.broker.servers(), &self.input, records, BATCH);
    }

    /// Sends more and more, until something is so.
    ///
    /// # Panics
    /// When it isn't so in time.
    pub fn send_until(&mut self, what: &str, mut condition: impl FnMut() -> bool) {
        let end = Instant::now() + SETTLE_DEADLINE;
        while !condition() {
            assert!(Instant::now() < end, "waited {SETTLE_DEADLINE:?} in vain: {what}");
            self.send_up_to(self.sent() + SLICE);
        }
    }

    /// These events of a partition are in the log no more, and nobody has read them.
    pub fn forget(&mut self, partition: i32, offsets: Range<i64>) {
        let places = self.places.iter().filter(|place| place.partition == partition && offsets.contains(&place.offset));
        self.gone.extend(places);
    }

    /// Another host has generations of its own: not only its first one, which all have.
    pub fn numbered_by_another(&mut self) {
        self.numberings += 1;
    }

    /// From now on the broker refuses outputs of events that order it, and batches whole that they are in.
    pub fn refused(&mut self) {
        self.refuses = true;
    }

    /// What the first group has committed, by partition. The checker hears of it, and of what all others have. Positions that
    /// an open transaction moves are waited for.
    pub fn committed(&mut self) -> Positions {
        let Self { input, streams, ends, .. } = self;
        streams.iter_mut().for_each(|stream| drop(stream.ask(input, ends)));
        streams[0].committed.last().cloned().unwrap_or_default()
    }

    /// How many events the group that is furthest behind has committed.
    pub fn total(&mut self) -> i64 {
        let Self { input, streams, ends, .. } = self;
        streams.iter_mut().map(|stream| stream.ask(input, ends).values().sum()).min().unwrap_or(0)
    }

    /// Waits until every group has committed more events than this.
    ///
    /// # Panics
    /// When they haven't in time.
    pub fn wait_past(&mut self, events: usize) {
        let what = format!("more than {events} events are committed");
        wait_until(&what, SETTLE_DEADLINE, || self.total() > events as i64);
    }

    /// Something took the groups' unfinished work away, and nothing of it was taken up again: at least once, what is not
    /// committed now may be there twice.
    pub fn interrupted(&mut self) -> Positions {
        let Self { input, streams, ends, .. } = self;
        for stream in streams.iter_mut() {
            let positions = stream.ask(input, ends);
            stream.interruptions.push(positions);
        }
        streams[0].interruptions.last().cloned().unwrap_or_default()
    }

    /// What a process held before a fault, and holds after it.
    pub fn used(&mut self, before: Usage, after: Usage) {
        self.usages.push((before, after));
    }

    /// Looks at everything that can be read. No host writes; open transactions are waited for.
    pub fn look(&mut self) {
        let Self { broker, input, streams, ends, .. } = self;
        streams.iter_mut().for_each(|stream| stream.look(broker, input, ends));
    }

    /// Waits until everything that was sent is committed, or gives up: the checker says it then.
    pub fn settle(&mut self) {
        let end = Instant::now() + SETTLE_DEADLINE;
        let total: i64 = self.ends.values().sum();
        while self.total() < total && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until everything that was sent is committed.
    ///
    /// # Panics
    /// When it isn't in time.
    pub fn wait_settled(&mut self) {
        self.settle();
        let groups: Vec<_> = self.groups().map(str::to_owned).collect();
        groups.iter().for_each(|group| assert_eq!(self.broker.lag(group, &self.input), 0, "the lag of {group}"));
    }

    /// Judges each group's run. Everything is over.
    pub fn judge(&mut self) -> Vec<Verdict> {
        self.look();
        let judge = |index: usize| {
            let verdict = self.run(index).check();
            eprintln!("{}: {verdict}", self.streams[index].group);
            verdict
        };
        (0..self.streams.len()).map(judge).collect()
    }

    /// As [`Self::judge`], and asserts that all is well.
    ///
    /// # Panics
    /// When it isn't.
    pub fn assert(&mut self) {
        self.judge().iter().for_each(Verdict::assert);
    }

    fn run(&self, index: usize) -> Run {
        let Stream { guarantee, committed, interruptions, looks, .. } = &self.streams[index];
        let mut interruptions = interruptions.clone();
        if self.refuses && *guarantee == Guarantee::AtLeastOnce {
            // Whoever had an output in such a batch runs again, wherever the group stands.
            let orders = (0..self.sent()).filter(|number| self.order(*number).is_some());
            interruptions.extend(orders.map(|_| Positions::new()));
        }
        Run {
            guarantee: *guarantee,
            events: self.events(),
            committed: committed.clone(),
            interruptions,
            looks: looks.clone(),
            numberings: self.numberings,
            usages: self.usages.clone(),
        }
    }

    fn events(&self) -> Vec<Event> {
        let event = |(number, &place): (usize, &Place)| {
            let products = match self.fate(number) {
                _ if self.gone.contains(&place) => &[][..],
                Fate::Passed => &[],
                Fate::Letter => &[(LETTERS, Product::Letter)],
                Fate::Scored => &[(SCORED, Product::Output(0))],
                Fate::Alerted => &[(SCORED, Product::Output(0)), (ALERTS, Product::Output(1))],
            };
            let key = self.payment(number).key;
            Event { place, key, products: products.to_vec() }
        };
        self.places.iter().enumerate().map(event).collect()
    }

    /// What an event orders, if it is none of the usual ones.
    fn order(&self, number: usize) -> Option<&str> {
        let is_order = !self.orders.is_empty() && number % ORDER_DISTANCE == ORDER_DISTANCE / 2;
        is_order.then(|| self.orders[number / ORDER_DISTANCE % self.orders.len()].as_str())
    }

    fn fate(&self, number: usize) -> Fate {
        match number {
            number if self.order(number).is_some() => Fate::Letter,
            number if number % 10 == 9 => Fate::Passed,
            number if number % 1000 == 500 => Fate::Letter,
            number if number % 100 == 1 => Fate::Alerted,
            _ => Fate::Scored,
        }
    }

    /// A payment. While partitions are as many as at first, every key has one.
    fn payment(&self, number: usize) -> Record {
        let (partition, turn) = (number % PARTITIONS, number / PARTITIONS);
        let card = format!("{partition}{:015}", turn % 50);
        let order = self.order(number);
        let (amount, mcc) = match self.fate(number) {
            Fate::Passed => ("5.25", r#""mcc":"5462","#.to_owned()),
            Fate::Letter if order == Some("large") => {
                ("12.5", format!(r#""mcc":"5462","note":"{}","#, "x".repeat(LARGE_BYTES)))
            }
            Fate::Letter if order == Some("keyless") => ("12.5", r#""mcc":"5462","#.to_owned()),
            Fate::Letter => ("20", String::new()),
            Fate::Scored => ("12.5", r#""mcc":"5462","#.to_owned()),
            Fate::Alerted => ("9000", r#""mcc":"4829","#.to_owned()),
        };
        let value = format!(
            r#"{{"id":"pay-{number:06}","card":"{card}","amount":{amount},"currency":"EUR","country":"DE","card_country":"DE",{mcc}"channel":"online","cardholder":{{"name":"Ada Example","email":"ada@example.com"}}}}"#
        );
        match order {
            None | Some("large") => Record::new(card, value),
            Some("keyless") => Record::of(value),
            Some(order) => Record::new(card, order),
        }
    }
}

impl Stream {
    fn new(broker: &Broker, guarantee: Guarantee) -> Self {
        let topic = |(stem, partitions): &(&str, i32)| broker.topic(stem, *partitions);
        let (group, topics) = (broker.unique(&format!("{guarantee}")), TOPICS.iter().map(topic).collect());
        let asked = Committed::of(broker.servers(), &group);
        Self { guarantee, group, asked, topics, committed: Vec::new(), interruptions: Vec::new(), looks: Vec::new() }
    }

    /// Asks where the group stands.
    fn ask(&mut self, input: &str, ends: &Positions) -> Positions {
        let offsets = self.asked.ask(input, ends.keys().copied());
        let positions: Positions =
            offsets.into_iter().map(|(partition, offset)| (partition, offset.unwrap_or(0))).collect();
        self.committed.push(positions.clone());
        positions
    }

    fn look(&mut self, broker: &Broker, input: &str, ends: &Positions) {
        for topic in &self.topics {
            records::wait_for_rest(broker.servers(), topic);
        }
        let committed = self.ask(input, ends);
        let topics = self.topics.iter().zip(TOPICS).enumerate();
        let topics = topics.map(|(number, (name, (_, partitions)))| {
            let records = broker.consume_all(name);
            check_contents(number, &records);
            Topic { name: name.clone(), partitions, records: records.iter().map(Found::of).collect() }
        });
        self.looks.push(Look { committed, topics: topics.collect() });
    }
}

/// Every plugin of the chain had its part in it, and a letter holds the event as it was.
fn check_contents(topic: usize, records: &[Record]) {
    let all = |what: &str, is_so: &dyn Fn(&Record) -> bool| {
        let other = records.iter().find(|record| !is_so(record));
        assert!(other.is_none(), "{what}: {other:?}");
    };
    match topic {
        SCORED => {
            all("a chain's second plugin", &|record| record.header_text("fraud-score").is_some());
            all("a chain's first plugin", &|record| !record.text().contains("ada@"));
        }
        ALERTS => all("an alert's reason", &|record| record.text().contains("risky merchant category")),
        _ => all("an event as it was", &|record| {
            let is_payment = record.header_text("midplane-error-plugin") == Some("fraud-score");
            record.text().contains("ada@") == is_payment
        }),
    }
}

fn config(broker: &Broker, setup: &Setup<'_>, input: &str, streams: &[Stream]) -> String {
    let Setup { shards, group: more, session_ms, client, .. } = setup;
    // A member that was killed is missed soon, so that its partitions go on.
    let table = format!(
        "[broker]\nclient = {{ \"session.timeout.ms\" = \"{session_ms}\", \"heartbeat.interval.ms\" = \"500\"{client} }}"
    );
    let mut config = broker.config().replacen("[broker]", &table, 1);
    if let Some(servers) = &setup.servers {
        config = config.replacen(broker.servers(), servers, 1);
    }
    config += setup.tables;
    config += "\n[plugin.mask]\nconfig = { fields = { \"cardholder.email\" = \"email\" } }\n";
    let (first, is_order) = match setup.orders {
        [] => ("", ""),
        _ => ("\"faulty\", ", "!event.text.startsWith('{') || "),
    };
    for Stream { guarantee, group, topics, .. } in streams {
        let [scored, alerts, letters] = [SCORED, ALERTS, LETTERS].map(|topic| &topics[topic]);
        write!(
            config,
            r#"
            [groups.{group}]
            shards = {shards}
            guarantee = "{guarantee}"
            {more}

            [routes.{group}]
            from = "{input}"
            where = "{is_order}event.json.amount >= 10"
            through = [{first}"mask", "fraud-score"]
            to = {{ default = "{scored}", alert = "{alerts}" }}
            group = "{group}"
            failure = {{ dead_letter = "{letters}" }}
            "#
        )
        .expect("text");
    }
    config
}
