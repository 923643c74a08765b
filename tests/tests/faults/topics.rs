//! Topics that are missing, change, or take no more what they took.

use midplane::config::model::Guarantee;
use midplane_tests::access::{self, Guarded};
use midplane_tests::payments::Setup;
use midplane_tests::wait::{DEADLINE, wait_until};
use midplane_tests::{Broker, on_each_broker};
use serde_json::{Value, json};

use crate::case::{BOTH, Case, EVENTS, both, exactly_once};

on_each_broker!(
    fn a_topic_that_is_made_later(broker: &Broker) {
        let mut case = Case::idle(broker, Setup { late: true, ..both() });
        case.host.wait_for_entry("A topic that is to be read does not exist; it is read once it does.");
        case.payments.create_input();
        case.work();
        case.finish();
    }
);

on_each_broker!(
    fn partitions_that_are_added(broker: &Broker) {
        let client = ", \"topic.metadata.refresh.interval.ms\" = \"1000\"";
        let mut case = Case::start(broker, Setup { client, ..both() });
        case.work();
        broker.grow(&case.payments.input, 6);
        case.payments.widen(6);
        case.work();
        case.finish();
    }
);

/// Letters of a kind that the group of a guarantee wrote.
fn count(broker: &Broker, topic: &str, kind: &str) -> usize {
    let letters = broker.consume_all(topic);
    letters.iter().filter(|letter| letter.header_text("midplane-error-kind") == Some(kind)).count()
}

fn letter_topics(case: &Case<'_>) -> Vec<String> {
    BOTH.iter().map(|&guarantee| case.payments.topics(guarantee)[2].clone()).collect()
}

/// The embedded broker's topics all take the same.
mod outputs_that_are_too_large_since_a_moment_ago {
    use super::*;

    #[test]
    fn on_kafka() {
        let broker = Broker::kafka();
        let mut case = Case::idle(&broker, Setup { orders: &["large"], ..both() });
        case.host.wait_ready();
        // The host has asked what the topics take. Large records alone are refused, not the small ones that travel with them.
        case.payments.refused();
        for &guarantee in BOTH {
            broker.alter(&case.payments.topics(guarantee)[0], &[("max.message.bytes", "20000")]);
        }
        case.work();
        let topics = letter_topics(&case);
        case.finish();
        for topic in topics {
            assert!(count(&broker, &topic, "too-large") >= EVENTS / 97);
        }
    }
}

/// The embedded broker guards nothing.
mod outputs_that_are_forbidden {
    use super::*;

    #[test]
    fn on_kafka() {
        let broker = Broker::kafka();
        let mut case = Case::start(&broker, exactly_once());
        let alerts = case.payments.topics(Guarantee::ExactlyOnce)[1].clone();
        let is_guarded = access::forbid(broker.servers(), Guarded::Topic(&alerts));
        assert!(is_guarded, "this Kafka knows no rules of access: `cargo xtask kafka` runs one that does");
        // Somebody has to see to it: until then the events wait, and none of them is a letter.
        let said = || !case.host.entries("A message was not written: its event runs again.").is_empty();
        case.payments.send_until("an output is refused", said);
        access::allow(broker.servers(), Guarded::Topic(&alerts));
        case.finish();
    }
}

/// The embedded broker guards nothing.
mod commits_that_are_forbidden {
    use super::*;

    #[test]
    fn on_kafka() {
        let broker = Broker::kafka();
        let mut case = Case::start(&broker, Setup { guarantees: &[Guarantee::AtLeastOnce], ..both() });
        let group = case.payments.groups().next().expect("one").to_owned();
        let is_guarded = access::forbid(broker.servers(), Guarded::Group(&group));
        assert!(is_guarded, "this Kafka knows no rules of access: `cargo xtask kafka` runs one that does");
        let entries = || {
            let entries = case.host.log().into_iter().filter_map(|line| serde_json::from_str::<Value>(&line).ok());
            let lacks = format!("this host's user needs the right `Read` on the group `{group}`");
            entries.filter(|entry| entry["lacks"] == *lacks).collect::<Vec<_>>()
        };
        case.payments.send_until("it is said", || !entries().is_empty());
        case.payments.interrupted();
        access::allow(broker.servers(), Guarded::Group(&group));
        case.finish();
    }
}

/// The embedded broker deletes by age alone.
mod records_that_are_gone {
    use super::*;

    #[test]
    fn on_kafka() {
        const HALT: &str = "out_of_range = \"halt\"";
        let broker = Broker::kafka();
        let mut case = Case::start(&broker, Setup { group: HALT, ..both() });
        case.leave();
        let before = case.payments.committed()[&0] + 50;
        case.payments.send_up_to(case.payments.sent() + 4 * EVENTS);
        broker.delete_records(&case.payments.input, 0, before);
        case.payments.forget(0, before - 50..before);
        case.start_again();
        let halted = "A partition can't be read on.";
        wait_until("both groups halt there", DEADLINE, || case.host.entries(halted).len() == 2);
        let metrics = case.host.get("/metrics").body;
        let counted = metrics.lines().filter(|line| line.starts_with("midplane_offsets_out_of_range_total{"));
        assert_eq!(counted.filter(|line| line.ends_with(" 1")).count(), 2, "{metrics}");
        // Only there.
        let quarter = case.payments.sent() as i64 / 4;
        wait_until("all others go on", DEADLINE, || case.payments.total() > 2 * quarter);
        assert!(case.payments.committed()[&0] < before, "a partition that halts passes nothing");
        case.leave();
        case.folder.write(&case.payments.config().replace(HALT, "out_of_range = \"earliest\""));
        case.start_again();
        case.payments.wait_settled();
        let said = case
            .host
            .entries("The offset to read from is not in the log: the partition goes on elsewhere (`out_of_range`).");
        let lost: Vec<_> = said.iter().map(|entry| (&entry["before"], &entry["lost"])).collect();
        assert_eq!(lost, [(&json!(before - 50), &json!(50)); 2]);
        case.finish();
    }
}

/// The embedded broker takes events without a key everywhere.
mod outputs_that_are_rejected {
    use super::*;

    #[test]
    fn on_kafka() {
        let broker = Broker::kafka();
        let mut case = Case::idle(&broker, Setup { orders: &["keyless"], ..both() });
        for guarantee in BOTH {
            let scored = &case.payments.topics(*guarantee)[0];
            // A topic that is compacted takes nothing without a key. This one is, but not before the test has ended.
            broker.alter(scored, &[("cleanup.policy", "compact"), ("min.compaction.lag.ms", "86400000")]);
        }
        case.payments.refused();
        case.work();
        let topics = letter_topics(&case);
        case.finish();
        for topic in topics {
            assert!(count(&broker, &topic, "rejected") >= EVENTS / 97);
        }
    }
}
