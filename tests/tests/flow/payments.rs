//! The traffic of the large tests: payments over four partitions, through a filter and two plugins, with an outcome that
//! their number decides.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use midplane_tests::wait::wait_until;
use midplane_tests::{Broker, Folder, Record, records};

use crate::outcome::{Origin, Product, assert_keys_stay, assert_outcomes, count, fall_backs};

/// How many events the large tests send, at least.
pub(crate) const EVENTS: usize = 100_000;
/// Partitions of the input.
pub(crate) const PARTITIONS: usize = 4;
/// For everything that is to be worked off, in an unoptimised build on a busy machine.
pub(crate) const SETTLE_DEADLINE: Duration = Duration::from_secs(180);
/// Events that are sent at once while something else goes on.
const SLICE: usize = 500;

/// What becomes of a payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// The filter doesn't take it.
    Passed,
    /// The second plugin can't read it.
    Letter,
    /// One output.
    Scored,
    /// One output, and an alert.
    Alerted,
}

fn fate(number: usize) -> Fate {
    match number {
        number if number % 10 == 9 => Fate::Passed,
        number if number % 1000 == 500 => Fate::Letter,
        number if number % 100 == 1 => Fate::Alerted,
        _ => Fate::Scored,
    }
}

/// A payment. Every key has one partition.
fn payment(number: usize) -> Record {
    let (amount, mcc) = match fate(number) {
        Fate::Passed => ("5.25", r#""mcc":"5462","#),
        Fate::Letter => ("20", ""),
        Fate::Scored => ("12.5", r#""mcc":"5462","#),
        Fate::Alerted => ("9000", r#""mcc":"4829","#),
    };
    let (partition, turn) = (number % PARTITIONS, number / PARTITIONS);
    let card = format!("{partition}{:015}", turn % 50);
    let value = format!(
        r#"{{"id":"pay-{number:06}","card":"{card}","amount":{amount},"currency":"EUR","country":"DE","card_country":"DE",{mcc}"channel":"online","cardholder":{{"name":"Ada Example","email":"ada@example.com"}}}}"#
    );
    Record::new(card, value).to(partition as i32)
}

fn expected(events: usize) -> BTreeMap<Origin, usize> {
    let products = |number| match fate(number) {
        Fate::Passed => &[][..],
        Fate::Letter => &[Product::Letter],
        Fate::Scored => &[Product::Output(0)],
        Fate::Alerted => &[Product::Output(0), Product::Output(1)],
    };
    let origins = (0..events).flat_map(|number| {
        let (partition, offset) = ((number % PARTITIONS) as i32, (number / PARTITIONS) as i64);
        products(number).iter().map(move |&product| (Origin { partition, offset, product }, 1))
    });
    origins.collect()
}

/// Topics, a group and a config of their own, and what was sent so far.
pub(crate) struct Payments<'a> {
    broker: &'a Broker,
    pub(crate) input: String,
    outputs: [String; 3],
    pub(crate) group: String,
    config: String,
    sent: usize,
}

impl<'a> Payments<'a> {
    pub(crate) fn new(broker: &'a Broker, shards: usize) -> Self {
        Self::guaranteed(broker, shards, "at-least-once")
    }

    /// As [`Self::new`], with a promise of its own.
    pub(crate) fn guaranteed(broker: &'a Broker, shards: usize, guarantee: &str) -> Self {
        let input = broker.topic("payments", PARTITIONS as i32);
        let outputs = [("scored", 4), ("alerts", 2), ("letters", 1)].map(|(stem, count)| broker.topic(stem, count));
        let group = broker.unique("payments");
        let [scored, alerts, letters] = &outputs;
        // A member that was killed is missed soon, so that its partitions go on.
        let config = format!(
            r#"{}
            [plugin.mask]
            config = {{ fields = {{ "cardholder.email" = "email" }} }}

            [groups.{group}]
            shards = {shards}
            guarantee = "{guarantee}"

            [routes.payments]
            from = "{input}"
            where = "event.json.amount >= 10"
            through = ["mask", "fraud-score"]
            to = {{ default = "{scored}", alert = "{alerts}" }}
            group = "{group}"
            failure = {{ dead_letter = "{letters}" }}
            "#,
            broker.config().replacen("[broker]", "[broker]\nclient = { \"session.timeout.ms\" = \"6000\" }", 1)
        );
        Self { broker, input, outputs, group, config, sent: 0 }
    }

    /// A folder for one more host.
    pub(crate) fn folder(&self) -> Folder {
        Folder::new(&self.config)
    }

    /// How many were sent so far.
    pub(crate) fn sent(&self) -> usize {
        self.sent
    }

    /// Sends more, until there were so many in all.
    pub(crate) fn send_up_to(&mut self, events: usize) {
        if events > self.sent {
            self.broker.produce(&self.input, (self.sent..events).map(payment));
            self.sent = events;
        }
    }

    /// Sends more and more, until something is so.
    pub(crate) fn send_until(&mut self, what: &str, mut condition: impl FnMut() -> bool) {
        let end = Instant::now() + SETTLE_DEADLINE;
        while !condition() {
            assert!(Instant::now() < end, "waited {SETTLE_DEADLINE:?} in vain: {what}");
            self.send_up_to(self.sent + SLICE);
        }
    }

    /// What the group has committed, by partition.
    pub(crate) fn committed(&self) -> BTreeMap<i32, i64> {
        let offsets = records::committed(self.broker.servers(), &self.group, &self.input);
        offsets.into_iter().map(|(partition, (offset, _))| (partition, offset.unwrap_or(0))).collect()
    }

    /// Waits until everything that was sent is committed.
    pub(crate) fn wait_settled(&self) {
        wait_until("the lag is 0", SETTLE_DEADLINE, || self.broker.lag(&self.group, &self.input) == 0);
    }

    /// Sends all events through one host, and asserts that each has its one outcome.
    pub(crate) fn assert_each_once(&mut self) {
        self.send_up_to(EVENTS);
        let folder = self.folder();
        let host = folder.start();
        self.wait_settled();
        assert_eq!(host.stop(), Some(0));
        self.assert_once();
    }

    /// Asserts that each event has its one outcome, and that the order holds.
    pub(crate) fn assert_once(&self) {
        self.assert_outcomes(|_| false, |topic, found| assert_eq!(found, [], "out of order in {topic}"));
    }

    /// Asserts that each event has its outcome, twice only from where the group had committed, and that the order holds but
    /// for one repetition of each partition, from there on.
    pub(crate) fn assert_repeated_from(&self, committed: &BTreeMap<i32, i64>) {
        self.assert_outcomes(
            |origin| origin.offset >= committed[&origin.partition],
            |topic, found| {
                let early = found.iter().find(|(partition, offset)| *offset < committed[partition]);
                assert_eq!(early, None, "repeated in {topic} though committed");
            },
        );
    }

    fn assert_outcomes(&self, may_repeat: impl Fn(&Origin) -> bool, check_order: impl Fn(&str, &[(i32, i64)])) {
        let topics = self.outputs.each_ref().map(|topic| self.broker.consume_all(topic));
        let found = count(topics.iter().flatten());
        assert_outcomes(&expected(self.sent), &found, may_repeat);
        for (topic, records) in self.outputs.iter().zip(&topics) {
            check_order(topic, &fall_backs(records));
            assert_keys_stay(records);
        }
        let [scored, alerts, letters] = &topics;
        assert!(scored.iter().all(|record| record.header_text("fraud-score").is_some()), "a chain's second plugin");
        assert!(!scored.iter().any(|record| record.text().contains("ada@")), "a chain's first plugin");
        assert!(alerts.iter().all(|record| record.text().contains("risky merchant category")));
        assert!(letters.iter().all(|record| record.text().contains("ada@")), "a letter holds the event as it was");
        assert!(letters.iter().all(|record| record.header_text("midplane-error-plugin") == Some("fraud-score")));
    }
}
