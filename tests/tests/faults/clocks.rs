//! The clock of the machine: set ahead, and back.

use midplane_tests::Broker;
use midplane_tests::clock::Clock;
use midplane_tests::own::Own;
use midplane_tests::proxy::{ApiKey, Side};
use midplane_tests::wait::{DEADLINE, wait_until};

use crate::case::{Case, PILE, both};

const HOUR: i64 = 60 * 60;
const DAY: i64 = 24 * HOUR;
/// How far ahead of the right time it is set, one after the other: an hour ahead, back, a day back; and, for what is kept for a
/// week, a month ahead, and back. Two each in the middle of a pile of work.
const TIMES: [[i64; 2]; 3] = [[HOUR, 0], [-DAY, 30 * DAY], [0, HOUR]];

mod a_clock_that_is_set {
    use super::*;

    /// It is the clock of both: of the host, and of its broker, as it is on one machine.
    #[test]
    fn on_embedded_broker() {
        let clock = Clock::new();
        let own = Own::embedded_by(&clock.words());
        set(&clock, &own.broker());
    }

    #[test]
    fn on_kafka() {
        set(&Clock::new(), &Broker::kafka());
    }
}

fn set(clock: &Clock, broker: &Broker) {
    let mut case = Case::start_by(broker, both(), &clock.words());
    for [first_s, then_s] in TIMES {
        case.pile_up();
        let sent = case.payments.sent();
        clock.set(first_s);
        case.payments.wait_past(sent - PILE);
        clock.set(then_s);
        assert!(case.payments.total() < sent as i64, "the clock was set outside of the work");
    }
    case.proxy.heal();
    case.payments.wait_settled();
    // Nobody has anything to do: all wait, and go on when what they wait for has passed, though it is earlier again.
    let heartbeats = || case.proxy.passed(Side::Request, ApiKey::Heartbeat);
    let before = heartbeats();
    clock.set(0);
    wait_until("both members say that they are there", DEADLINE, || heartbeats() >= before + 4);
    let lost = case.host.lost_partitions();
    case.finish();
    assert_eq!(lost, 0, "no member was missed");
}
