//! Exactly once, over everything that hosts do and suffer: who reads committed records sees each outcome once, in order.

use midplane_tests::on_each_broker;
use midplane_tests::payments::{PARTITIONS, Payments};
use midplane_tests::wait::{DEADLINE, wait_until};
use rustix::process::Signal;

use crate::EVENTS;
use crate::hosts::assert_each_once;

/// How often hosts are killed.
const KILLS: usize = 5;

on_each_broker!(
    fn each_event_has_its_one_outcome(broker: &Broker) {
        assert_each_once(Payments::exactly_once(broker, 2));
    }
);

on_each_broker!(
    fn killed_hosts_repeat_nothing(broker: &Broker) {
        let mut payments = Payments::exactly_once(broker, 2);
        let folder = payments.folder();
        for _ in 0..KILLS {
            let before = payments.total();
            payments.send_up_to(payments.sent() + EVENTS / 2);
            let host = folder.spawn(&[]);
            wait_until("a transaction is committed", DEADLINE, || payments.total() > before);
            host.kill();
            let total: i64 = payments.interrupted().values().sum();
            assert!(total < payments.sent() as i64, "the kill fell outside of the work: {total}");
        }
        let host = folder.start();
        payments.wait_settled();
        assert_eq!(host.stop(), Some(0));
        payments.assert();
    }
);

on_each_broker!(
    fn hosts_that_come_and_go_repeat_nothing(broker: &Broker) {
        let mut payments = Payments::exactly_once(broker, 2);
        let (folder, other_folder) = (payments.folder(), payments.folder());
        let host = folder.start();
        for round in 0..3 {
            let mut other = other_folder.spawn(&[]);
            payments.send_until("the second host has partitions", || other.has_partitions());
            let mark = (payments.sent() / PARTITIONS) as i64;
            payments.send_up_to(payments.sent() + PARTITIONS * 500);
            wait_until("both work", DEADLINE, || payments.committed().values().all(|&offset| offset > mark));
            if round == 1 {
                other.kill();
            } else {
                other.signal(Signal::TERM);
                payments.send_until("the second host has left", || other.has_stopped());
                assert_eq!(other.wait(DEADLINE).code(), Some(0));
            }
        }
        payments.send_up_to(EVENTS);
        payments.wait_settled();
        assert_eq!(host.stop(), Some(0));
        payments.assert();
    }
);

on_each_broker!(
    fn a_host_that_was_stopped_for_longer_than_its_transaction_goes_on(broker: &Broker) {
        let mut payments = Payments::exactly_once(broker, 1);
        payments.send_up_to(EVENTS / 2);
        let folder = payments.folder();
        let host = folder.start();
        wait_until("the first commit", DEADLINE, || payments.total() > 0);
        host.signal(Signal::STOP);
        // Longer than transactions and sessions last.
        std::thread::sleep(std::time::Duration::from_secs(12));
        host.signal(Signal::CONT);
        payments.send_up_to(EVENTS);
        payments.wait_settled();
        assert_eq!(host.stop(), Some(0));
        payments.assert();
    }
);
