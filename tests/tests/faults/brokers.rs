//! The broker itself: killed, and paused.

use std::time::Duration;

use midplane_tests::own::{Cluster, Own};
use midplane_tests::proxy::{ApiKey, Side};
use midplane_tests::wait::{DEADLINE, wait_until};
use rustix::process::Signal;
use xtask::kafka::NEVER_MISSED;

use crate::case::{Case, both, exactly_once};

/// Longer than sessions last.
const PAUSE: Duration = Duration::from_secs(8);

mod a_broker_that_is_killed {
    use super::*;

    #[test]
    fn on_embedded_broker() {
        killed(Own::embedded());
    }

    #[test]
    fn on_kafka() {
        killed(Own::kafka());
    }
}

mod a_broker_that_is_paused {
    use super::*;

    #[test]
    fn on_embedded_broker() {
        paused(Own::embedded());
    }

    #[test]
    fn on_kafka() {
        paused(Own::kafka_with(&[NEVER_MISSED]));
    }
}

/// Exactly once, in the middle of a transaction: all of it is written, and its positions are not on their way yet. What a Kafka
/// has begun to end, it may end without its markers once it runs again (see [`leaders_that_are_gone`]), the group's positions
/// among it, which are unknown from then on.
fn killed(mut own: Own) {
    let broker = own.broker();
    let mut case = Case::start(&broker, both());
    case.payments.interrupted();
    let held = case.proxy.hold(Side::Request, ApiKey::AddOffsetsToTxn, 1);
    case.work();
    held.wait();
    // At least once, in the middle of these, or before.
    case.work();
    assert!(case.payments.total() < case.payments.sent() as i64, "the kill fell outside of the work");
    own.kill();
    own.start();
    case.finish();
}

fn paused(mut own: Own) {
    let broker = own.broker();
    let mut case = Case::start(&broker, both());
    case.payments.interrupted();
    case.pile_up();
    own.signal(Signal::STOP);
    // The pause is the fault.
    std::thread::sleep(PAUSE);
    own.signal(Signal::CONT);
    assert!(case.payments.total() < case.payments.sent() as i64, "the pause fell outside of the work");
    case.finish();
}

/// The embedded broker has one node.
mod leaders_that_move {
    use super::*;

    #[test]
    #[ignore = "three nodes are slow to start: `cargo verify --long` runs it"]
    fn on_kafka() {
        let mut cluster = Cluster::start();
        let broker = cluster.broker();
        let mut case = Case::start(&broker, both());
        for node in [0, 1] {
            case.payments.interrupted();
            case.pile_up();
            // Of four partitions and of two groups' coordinators some are led by it, and are led by others at once.
            cluster.kill(node);
            case.proxy.heal();
            let sent = case.payments.sent();
            case.payments.wait_past(sent - 1);
            cluster.start_again(node);
        }
        case.finish();
    }
}

/// The embedded broker has one node.
mod leaders_that_are_gone {
    use super::*;

    /// Kafka 4.3 and 4.4 end a transaction without its markers where a partition has no leader (KAFKA-20734).
    #[test]
    #[ignore = "three nodes are slow to start: `cargo verify --long` runs it"]
    fn on_kafka() {
        let mut cluster = Cluster::start_with(&[("min.insync.replicas", "1")]);
        let broker = cluster.broker_of(1);
        let mut case = Case::start(&broker, exactly_once());
        case.payments.interrupted();
        let held = case.proxy.hold(Side::Request, ApiKey::AddOffsetsToTxn, 1);
        case.work();
        held.wait();
        let begun = case.proxy.passed(Side::Answer, ApiKey::AddPartitionsToTxn);
        // Of four partitions without a copy it has at least one.
        cluster.kill(0);
        let next = || case.proxy.passed(Side::Answer, ApiKey::AddPartitionsToTxn) > begun;
        wait_until("the next transaction has begun", DEADLINE, next);
        cluster.start_again(0);
        case.finish();
    }
}
