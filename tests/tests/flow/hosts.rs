//! Hosts that run, join, leave and are killed, under 100,000 events.

use midplane_tests::on_each_broker;
use midplane_tests::payments::{PARTITIONS, Payments};
use midplane_tests::wait::{DEADLINE, wait_until};
use rustix::process::Signal;

use crate::EVENTS;

on_each_broker!(
    fn each_event_has_its_one_outcome(broker: &Broker) {
        assert_each_once(Payments::new(broker, 2));
    }
);

on_each_broker!(
    fn a_host_joins_and_leaves_unnoticed(broker: &Broker) {
        let mut payments = Payments::new(broker, 1);
        let (folder, other_folder) = (payments.folder(), payments.folder());
        let host = folder.start();
        let mut other = other_folder.spawn(&[]);
        payments.send_until("the second host has partitions", || other.has_partitions());
        // Whatever is behind these offsets is the work of both.
        let mark = (payments.sent() / PARTITIONS) as i64;
        payments.send_up_to(payments.sent() + PARTITIONS * 500);
        wait_until("both work", DEADLINE, || payments.committed().values().all(|&offset| offset > mark));
        other.signal(Signal::TERM);
        payments.send_until("the second host has left", || other.has_stopped());
        assert_eq!(other.wait(DEADLINE).code(), Some(0));
        assert!(other.worked() > 0, "the second host had nothing to do");
        payments.send_up_to(EVENTS);
        payments.wait_settled();
        assert_eq!(host.stop(), Some(0));
        payments.assert();
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
        let committed = payments.interrupted();
        let total: i64 = committed.values().sum();
        assert!(0 < total && total < payments.sent() as i64, "the kill fell outside of the work: {committed:?}");
        let host = folder.start();
        payments.wait_settled();
        assert_eq!(host.stop(), Some(0));
        payments.assert();
    }
);

/// Sends all events through one host, and asserts that each has its one outcome.
pub(crate) fn assert_each_once(mut payments: Payments<'_>) {
    payments.send_up_to(EVENTS);
    let folder = payments.folder();
    let host = folder.start();
    payments.wait_settled();
    assert_eq!(host.stop(), Some(0));
    payments.assert();
}
