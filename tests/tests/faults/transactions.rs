//! Transactions whose requests are held back, or whose answers are lost: what the broker did isn't known, and what was sent may
//! still come.

use midplane_tests::access::{self, Guarded};
use midplane_tests::ask::knows_transactional_id;
use midplane_tests::own::Own;
use midplane_tests::proxy::{ApiKey, Side};
use midplane_tests::wait::{DEADLINE, wait_for, wait_until};
use midplane_tests::{Broker, http, on_each_broker};
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, Producer};
use serde_json::Value;

use crate::case::{Case, both, exactly_once};

on_each_broker!(
    fn an_end_that_is_held_for_longer_than_it_is_waited_for(broker: &Broker) {
        let mut case = Case::start(broker, exactly_once());
        case.hold_end();
        case.finish();
    }
);

on_each_broker!(
    fn an_end_that_comes_while_a_later_transaction_is_open(broker: &Broker) {
        let mut case = Case::start(broker, exactly_once());
        let end = case.proxy.hold(Side::Request, ApiKey::EndTxn, 1);
        case.work();
        end.wait();
        case.payments.wait_settled();
        // Outputs of a later transaction are written, and its positions aren't: who ended it now would tear it.
        let offsets = case.proxy.hold(Side::Request, ApiKey::TxnOffsetCommit, 1);
        case.work();
        offsets.wait();
        let answered = case.proxy.passed(Side::Answer, ApiKey::EndTxn);
        end.release();
        wait_until("the stray end is answered", DEADLINE, || {
            case.proxy.passed(Side::Answer, ApiKey::EndTxn) > answered
        });
        case.kill();
        case.payments.look();
        offsets.release();
        case.start_again();
        case.finish();
    }
);

on_each_broker!(
    fn a_host_that_is_killed_in_a_transaction(broker: &Broker) {
        let mut case = Case::start(broker, exactly_once());
        case.kill_in_transaction();
        case.finish();
    }
);

on_each_broker!(
    fn an_end_whose_answer_is_lost(broker: &Broker) {
        let mut case = Case::start(broker, exactly_once());
        case.lose(Side::Answer, &[ApiKey::EndTxn], 1);
        case.payments.wait_settled();
        case.lose(Side::Answer, &[ApiKey::EndTxn], 2);
        case.finish();
    }
);

on_each_broker!(
    fn positions_whose_answer_is_lost(broker: &Broker) {
        let mut case = Case::start(broker, exactly_once());
        case.lose(Side::Answer, &[ApiKey::TxnOffsetCommit], 2);
        case.finish();
    }
);

on_each_broker!(
    fn partitions_whose_answer_is_lost(broker: &Broker) {
        let mut case = Case::start(broker, exactly_once());
        case.lose(Side::Answer, &[ApiKey::AddPartitionsToTxn, ApiKey::AddOffsetsToTxn], 1);
        case.finish();
    }
);

on_each_broker!(
    fn a_takeover_whose_answer_is_lost(broker: &Broker) {
        let mut case = Case::start(broker, exactly_once());
        // A suspect producer is replaced: the next one has to take its name over.
        let taken = case.proxy.lose(Side::Answer, ApiKey::InitProducerId, 1);
        case.lose(Side::Answer, &[ApiKey::EndTxn], 1);
        taken.wait();
        case.finish();
    }
);

/// The embedded broker forgets none.
mod a_transactional_id_that_is_forgotten {
    use super::*;

    /// What Kafka remembers of producers for a week, and for a day, it forgets in a second.
    const FORGETFUL: [(&str, &str); 4] = [
        ("transactional.id.expiration.ms", "1000"),
        ("transaction.remove.expired.transaction.cleanup.interval.ms", "500"),
        ("producer.id.expiration.ms", "1000"),
        ("producer.id.expiration.check.interval.ms", "500"),
    ];

    #[test]
    fn on_kafka() {
        let own = Own::kafka_with(&FORGETFUL);
        let broker = own.broker();
        let mut case = Case::start(&broker, both());
        let group = case.payments.groups().last().expect("the one exactly once").to_owned();
        let id = case.client_id(&group);
        for _ in 0..2 {
            wait_until("the id is forgotten", DEADLINE, || !knows_transactional_id(broker.servers(), &id));
            case.work();
            case.payments.wait_settled();
        }
        assert!(case.host.log().iter().any(|line| line.contains("INVALID_PRODUCER_ID_MAPPING")), "the log says why");
        case.finish();
    }
}

/// The name of the shard of the group that promises more, and what its producer is called.
fn transactional(case: &Case<'_>) -> (String, String) {
    let overview = case.host.get("/api/v1/overview").json();
    let instance = overview["instance"].as_str().expect("a name");
    let group = case.payments.groups().nth(1).expect("a group of either guarantee");
    (format!("{group}/0"), format!("midplane.{group}.{instance}.0"))
}

/// Waits until a shard has stopped, and everybody is told; the other group goes on all the same. What is said of it.
fn wait_stopped(case: &mut Case<'_>, shard: &str) -> Value {
    let stopped = |case: &Case<'_>| {
        let partitions = case.host.get("/api/v1/partitions").json();
        partitions["stopped"].as_array().and_then(|stopped| stopped.first().cloned())
    };
    let view = wait_for("a shard stops", DEADLINE, || stopped(case));
    assert_eq!(view["shard"], shard);
    let ready = case.host.get("/readyz");
    assert!(ready.code == 503 && ready.body.contains(&format!("shard {shard} has stopped")), "{}", ready.body);
    assert_eq!(case.host.get("/healthz").code, 200, "to start the host anew would help nobody");
    let metric = format!("midplane_shards_stopped{{group=\"{}\"}} 1", shard.trim_end_matches("/0"));
    assert!(case.host.get("/metrics").body.lines().any(|line| line == metric));
    let sent = case.payments.sent() as i64;
    let other = "the other group has all";
    wait_until(other, DEADLINE, || case.payments.committed().values().sum::<i64>() == sent);
    view
}

on_each_broker!(
    fn a_name_that_somebody_else_takes(broker: &Broker) {
        let mut case = Case::start(broker, both());
        let (shard, name) = transactional(&case);
        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", broker.servers()).set("transactional.id", &name);
        let take = || {
            let other: BaseProducer = client.create().expect("a producer");
            other.init_transactions(DEADLINE).expect("the name is taken");
        };
        // Once it may have been the broker, which thinks that the host was late.
        take();
        case.work();
        case.host.wait_for_entry(
            "The producer's name was taken over, by the broker or by a second host: it is replaced once.",
        );
        case.payments.wait_settled();
        take();
        case.work();
        let view = wait_stopped(&mut case, &shard);
        let why = view["why"].as_str().expect("a text");
        assert!(why.contains(&name) && why.contains("`host.instance`") && why.contains("midplane reload"), "{why}");
        assert_eq!(view["until"], Value::Null, "nobody takes it back unasked");
        let reload = http::post(&case.host.admin(), "/api/v1/reload", "").expect("the admin surface answers");
        assert_eq!(reload.code, 200, "{}", reload.body);
        case.host.wait_ready();
        case.finish();
    }
);

/// The embedded broker guards nothing.
mod a_name_that_is_forbidden {
    use super::*;

    #[test]
    fn on_kafka() {
        let broker = Broker::kafka();
        let mut case = Case::start(&broker, both());
        let (shard, name) = transactional(&case);
        let is_guarded = access::forbid(broker.servers(), Guarded::TransactionalId(&name));
        assert!(is_guarded, "this Kafka knows no rules of access: `cargo xtask kafka` runs one that does");
        case.work();
        let view = wait_stopped(&mut case, &shard);
        let why = view["why"].as_str().expect("a text");
        assert!(why.contains(&name) && why.contains("`Write` and `Describe`"), "{why}");
        let ends = || case.host.entries("A shard has stopped; the others go on.").len();
        wait_until("it was tried again, in vain", DEADLINE, || ends() > 1);
        access::allow(broker.servers(), Guarded::TransactionalId(&name));
        case.finish();
    }
}
