//! Single requests that both guarantees need: held back, slow, or lost with their answers.

use std::time::Duration;

use midplane::config::model::Guarantee;
use midplane_tests::on_each_broker;
use midplane_tests::payments::Setup;
use midplane_tests::proxy::{ApiKey, ResponseError, Side};
use midplane_tests::wait::{DEADLINE, wait_until};
use rustix::process::Signal;
use serde_json::Value;

use crate::case::{BOTH, Case, both};

/// More than any test meets.
const ALL: usize = usize::MAX;

on_each_broker!(
    fn outputs_whose_answer_is_lost(broker: &Broker) {
        let mut case = Case::start(broker, both());
        case.lose(Side::Answer, &[ApiKey::Produce], 4);
        case.finish();
    }
);

on_each_broker!(
    fn outputs_that_the_broker_has_no_record_of(broker: &Broker) {
        let mut case = Case::start(broker, both());
        case.payments.interrupted();
        case.proxy.fail(ApiKey::Produce, 1, ResponseError::OutOfOrderSequenceNumber);
        case.work();
        let replaced = || case.host.entries("The producer can't go on: it is replaced.");
        for guarantee in BOTH {
            let of_group =
                |entry: &Value| entry["shard"].as_str().is_some_and(|it| it.starts_with(&guarantee.to_string()));
            wait_until("the group's producer is replaced", DEADLINE, || replaced().iter().any(of_group));
        }
        case.finish();
    }
);

on_each_broker!(
    fn commits_that_are_lost_and_commits_whose_answer_is_lost(broker: &Broker) {
        for side in [Side::Answer, Side::Request] {
            let mut case = Case::start(broker, Setup { guarantees: &[Guarantee::AtLeastOnce], ..both() });
            case.lose(side, &[ApiKey::OffsetCommit], 2);
            case.finish();
        }
    }
);

on_each_broker!(
    fn heartbeats_that_are_held_until_the_session_is_lost(broker: &Broker) {
        let mut case = Case::start(broker, both());
        case.lose_session();
        case.finish();
    }
);

on_each_broker!(
    fn a_group_that_is_slow_to_form(broker: &Broker) {
        let mut case = Case::start(broker, both());
        let slow = case.proxy.delay_each(Side::Request, ApiKey::JoinGroup, ALL, Duration::from_secs(1));
        let other_folder = case.payments.folder();
        let mut other = other_folder.spawn(&[]);
        case.payments.send_until("the second host has partitions", || other.has_partitions());
        other.signal(Signal::TERM);
        case.work();
        assert_eq!(other.wait(DEADLINE).code(), Some(0));
        assert!(slow.met() >= 4, "{} rounds were slow", slow.met());
        case.finish();
    }
);
