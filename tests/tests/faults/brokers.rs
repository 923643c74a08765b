//! The broker itself: killed, and paused.

use std::time::Duration;

use midplane_tests::own::{Cluster, Own};
use rustix::process::Signal;

use crate::case::{Case, both};

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
        paused(Own::kafka());
    }
}

fn killed(mut own: Own) {
    let broker = own.broker();
    let mut case = Case::start(&broker, both());
    case.payments.interrupted();
    case.pile_up();
    // Asking waits for a transaction's end to be complete. A single Kafka that is killed before, when it has said so and not done
    // it, may leave the group's positions unknown for minutes after its restart.
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
            let sent = case.payments.sent();
            case.payments.wait_past(sent - 1);
            cluster.start_again(node);
        }
        case.finish();
    }
}
