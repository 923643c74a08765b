//! Transactions whose requests are held back, or whose answers are lost: what the broker did isn't known, and what was sent may
//! still come.

use midplane_tests::ask::knows_transactional_id;
use midplane_tests::on_each_broker;
use midplane_tests::own::Own;
use midplane_tests::proxy::{ApiKey, Side};
use midplane_tests::wait::{DEADLINE, wait_until};

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
