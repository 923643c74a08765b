//! Hosts that run, join, leave and are killed, under 100,000 events.

use midplane_tests::wait::{DEADLINE, wait_until};
use midplane_tests::{Host, on_each_broker};
use rustix::process::Signal;

use crate::payments::{EVENTS, PARTITIONS, Payments};

on_each_broker!(
    fn each_event_has_its_one_outcome(broker: &Broker) {
        Payments::new(broker, 2).assert_each_once();
    }
);

on_each_broker!(
    fn a_host_joins_and_leaves_unnoticed(broker: &Broker) {
        let mut payments = Payments::new(broker, 1);
        let (folder, other_folder) = (payments.folder(), payments.folder());
        let host = folder.start();
        let mut other = other_folder.spawn(&[]);
        payments.send_until("the second host has partitions", || has_partitions(&other));
        // Whatever is behind these offsets is the work of both.
        let mark = (payments.sent() / PARTITIONS) as i64;
        let committed = |payments: &Payments<'_>| payments.committed().values().all(|&offset| offset > mark);
        payments.send_up_to(payments.sent() + PARTITIONS * 500);
        wait_until("both work", DEADLINE, || committed(&payments));
        other.signal(Signal::TERM);
        payments.send_until("the second host has left", || !other.entries(STOPPED).is_empty());
        assert_eq!(other.wait(DEADLINE).code(), Some(0));
        assert!(worked(&other) > 0, "the second host had nothing to do");
        payments.send_up_to(EVENTS);
        payments.wait_settled();
        assert_eq!(host.stop(), Some(0));
        payments.assert_once();
    }
);

on_each_broker!(
    fn a_killed_host_repeats_only_what_was_not_committed(broker: &Broker) {
        let mut payments = Payments::new(broker, 1);
        // Twice the usual, so that a fast machine isn't through before the first commit is seen.
        payments.send_up_to(2 * EVENTS);
        let folder = payments.folder();
        let host = folder.spawn(&[]);
        wait_until("the first commit", DEADLINE, || payments.committed().values().sum::<i64>() > 0);
        host.kill();
        let committed = payments.committed();
        let total: i64 = committed.values().sum();
        assert!(0 < total && total < payments.sent() as i64, "the kill fell outside of the work: {committed:?}");
        let host = folder.start();
        payments.wait_settled();
        assert_eq!(host.stop(), Some(0));
        payments.assert_repeated_from(&committed);
    }
);

/// What a shard says when it has ended.
pub(crate) const STOPPED: &str = "The shard has stopped.";

pub(crate) fn has_partitions(host: &Host) -> bool {
    host.entries("Partitions were assigned.").iter().any(|entry| entry["partitions"].as_u64() > Some(0))
}

/// How many events a host that has ended answered.
fn worked(host: &Host) -> u64 {
    host.entries(STOPPED).iter().filter_map(|entry| entry["events"].as_u64()).sum()
}
