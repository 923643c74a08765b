//! What happens to the host itself: killed, stopped, starved, asked to leave, joined by others.

use std::time::Duration;

use midplane_tests::on_each_broker;
use rustix::process::Signal;

use crate::case::{Case, both};

on_each_broker!(
    fn a_host_that_is_killed_in_a_batch(broker: &Broker) {
        let mut case = Case::start(broker, both());
        for _ in 0..2 {
            case.pile_up();
            case.kill_and_start();
        }
        case.finish();
    }
);

on_each_broker!(
    fn a_host_that_is_killed_in_a_reload(broker: &Broker) {
        let mut case = Case::start(broker, both());
        // Once before the next generation is live, mostly, and once after.
        for (round, wait_ms) in [(1, 20), (2, 150)] {
            case.pile_up();
            case.kill_in_reload(100 + round, Duration::from_millis(wait_ms));
        }
        case.finish();
    }
);

on_each_broker!(
    fn a_host_that_is_stopped_for_longer_than_its_session(broker: &Broker) {
        let mut case = Case::start(broker, both());
        case.payments.interrupted();
        case.pile_up();
        case.host.signal(Signal::STOP);
        // Longer than sessions and transactions last.
        std::thread::sleep(Duration::from_secs(12));
        assert!(case.payments.total() < case.payments.sent() as i64, "the stop fell outside of the work");
        case.host.signal(Signal::CONT);
        case.finish();
    }
);

on_each_broker!(
    fn a_host_that_is_starved(broker: &Broker) {
        let mut case = Case::start(broker, both());
        case.payments.interrupted();
        case.pile_up();
        case.starve_for(Duration::from_secs(10));
        case.finish();
    }
);

on_each_broker!(
    fn a_host_that_is_asked_to_stop_in_a_backlog(broker: &Broker) {
        let mut case = Case::start(broker, both());
        case.pile_up();
        case.leave();
        assert!(case.payments.total() < case.payments.sent() as i64, "the end fell outside of the work");
        // It has left nothing half done: whoever goes on repeats nothing, at least once either.
        case.payments.look();
        case.start_again();
        case.finish();
    }
);

on_each_broker!(
    fn hosts_that_come_and_go(broker: &Broker) {
        let mut case = Case::start(broker, both());
        let other_folder = case.payments.folder();
        for round in 0..3 {
            case.come_and_go(&other_folder, round == 1);
        }
        case.finish();
    }
);
