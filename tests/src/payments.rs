//! The traffic of the large tests: payments over several partitions, through a filter and plugins, with an outcome that their
//! number decides. One input, and a group for each guarantee that is asked for; the checker judges each.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use midplane::config::model::Guarantee;

use crate::checker::{Event, Found, Look, Place, Positions, Product, Run, Topic, Verdict};
use crate::usage::Usage;
use crate::wait::wait_until;
use crate::{Broker, Folder, Record, records};

/// Partitions of the input, at first.
pub const PARTITIONS: usize = 4;
/// For everything that is to be worked off, in an unoptimised build on a busy machine.
pub const SETTLE_DEADLINE: Duration = Duration::from_secs(180);
/// Events that are sent at once while something else goes on.
const SLICE: usize = 500;
/// Between two orders, prime, so that each partition has some.
const ORDER_DISTANCE: usize = 97;

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
    /// Further settings of clients, beside a short session.
    pub client: &'a str,
    /// Settings of the topics for outputs.
    pub output: &'a [(&'a str, &'a str)],
    /// What some events order the plugin `faulty` to do, which then goes first; each ends as a letter.
    pub orders: &'a [&'a str],
}

impl Default for Setup<'_> {
    fn default() -> Self {
        Self {
            servers: None,
            guarantees: &[Guarantee::AtLeastOnce],
            shards: 1,
            group: "",
            client: "",
            output: &[],
            orders: &[],
        }
    }
}

/// One group, and what it writes to.
#[derive(Debug)]
struct Stream {
    guarantee: Guarantee,
    group: String,
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
        let input = broker.topic("payments", PARTITIONS as i32);
        let streams: Vec<_> = setup.guarantees.iter().map(|&guarantee| Stream::new(broker, setup, guarantee)).collect();
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
        self.broker.produce(&self.input, records);
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

    /// Events of a partition before this offset are in the log no more; nobody has read them.
    pub fn forget(&mut self, partition: i32, before: i64) {
        let places = self.places.iter().filter(|place| place.partition == partition && place.offset < before);
        self.gone.extend(places);
    }

    /// What the first group has committed, by partition. The checker hears of it, and of what all others have.
    pub fn committed(&mut self) -> Positions {
        let Self { broker, input, streams, .. } = self;
        streams.iter_mut().for_each(|stream| drop(stream.ask(broker, input)));
        streams[0].committed.last().cloned().unwrap_or_default()
    }

    /// How many events the group that is furthest behind has committed.
    pub fn total(&mut self) -> i64 {
        let Self { broker, input, streams, .. } = self;
        streams.iter_mut().map(|stream| stream.ask(broker, input).values().sum()).min().unwrap_or(0)
    }

    /// Waits until every group has committed so many events more than now.
    ///
    /// # Panics
    /// When they haven't in time.
    pub fn wait_for_more(&mut self, events: i64) {
        let mark = self.total() + events;
        wait_until("more is committed", SETTLE_DEADLINE, || self.total() >= mark);
    }

    /// Something took the groups' unfinished work away, and nothing of it was taken up again: at least once, what is not
    /// committed now may be there twice.
    pub fn interrupted(&mut self) -> Positions {
        let Self { broker, input, streams, .. } = self;
        for stream in streams.iter_mut() {
            let positions = stream.ask(broker, input);
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
        let Self { broker, input, streams, .. } = self;
        streams.iter_mut().for_each(|stream| stream.look(broker, input));
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

    /// Judges each group's run, and asserts that all is well. Everything is over.
    ///
    /// # Panics
    /// When it isn't.
    pub fn assert(&mut self) -> Vec<Verdict> {
        self.look();
        let verdicts: Vec<_> =
            (0..self.streams.len()).map(|index| (&self.streams[index].group, self.run(index).check())).collect();
        for (group, verdict) in &verdicts {
            eprintln!("{group}: {verdict}");
        }
        verdicts.iter().for_each(|(_, verdict)| verdict.assert());
        verdicts.into_iter().map(|(_, verdict)| verdict).collect()
    }

    fn run(&self, index: usize) -> Run {
        let Stream { guarantee, committed, interruptions, looks, .. } = &self.streams[index];
        Run {
            guarantee: *guarantee,
            events: self.events(),
            committed: committed.clone(),
            interruptions: interruptions.clone(),
            looks: looks.clone(),
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
            Event { place, key: self.payment(number).key, products: products.to_vec() }
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
        if let Some(order) = self.order(number) {
            return Record::new(card, order);
        }
        let (amount, mcc) = match self.fate(number) {
            Fate::Passed => ("5.25", r#""mcc":"5462","#),
            Fate::Letter => ("20", ""),
            Fate::Scored => ("12.5", r#""mcc":"5462","#),
            Fate::Alerted => ("9000", r#""mcc":"4829","#),
        };
        let value = format!(
            r#"{{"id":"pay-{number:06}","card":"{card}","amount":{amount},"currency":"EUR","country":"DE","card_country":"DE",{mcc}"channel":"online","cardholder":{{"name":"Ada Example","email":"ada@example.com"}}}}"#
        );
        Record::new(card, value)
    }
}

impl Stream {
    fn new(broker: &Broker, setup: &Setup<'_>, guarantee: Guarantee) -> Self {
        let topic = |(stem, partitions): &(&str, i32)| {
            let settings = if *stem == TOPICS[LETTERS].0 { &[][..] } else { setup.output };
            broker.topic_with(stem, *partitions, settings)
        };
        let (group, topics) = (broker.unique(&format!("{guarantee}")), TOPICS.iter().map(topic).collect());
        Self { guarantee, group, topics, committed: Vec::new(), interruptions: Vec::new(), looks: Vec::new() }
    }

    /// Asks where the group stands.
    fn ask(&mut self, broker: &Broker, input: &str) -> Positions {
        let offsets = records::committed(broker.servers(), &self.group, input);
        let positions: Positions =
            offsets.into_iter().map(|(partition, (offset, _))| (partition, offset.unwrap_or(0))).collect();
        self.committed.push(positions.clone());
        positions
    }

    fn look(&mut self, broker: &Broker, input: &str) {
        for topic in &self.topics {
            records::wait_for_rest(broker.servers(), topic);
        }
        let committed = self.ask(broker, input);
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
    let Setup { shards, group: more, client, .. } = setup;
    // A member that was killed is missed soon, so that its partitions go on.
    let session = if broker.is_embedded() { 2000 } else { 6000 };
    let table = format!(
        "[broker]\nclient = {{ \"session.timeout.ms\" = \"{session}\", \"heartbeat.interval.ms\" = \"500\"{client} }}"
    );
    let mut config = broker.config().replacen("[broker]", &table, 1);
    if let Some(servers) = &setup.servers {
        config = config.replacen(broker.servers(), servers, 1);
    }
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
