//! Plugins that misbehave in the middle of payments: each such event has its letter, and nothing else suffers.

use std::collections::BTreeMap;

use midplane_tests::on_each_broker;
use midplane_tests::payments::Setup;

use crate::case::{BOTH, Case, both};

/// What is ordered, and the kind of its letter.
const ORDERS: [(&str, &str); 5] =
    [("trap", "trap"), ("stack", "stack"), ("loop", "deadline"), ("memory", "memory"), ("output-bytes:12", "output")];

on_each_broker!(
    fn plugins_that_misbehave(broker: &Broker) {
        let orders = ORDERS.map(|(order, _)| order);
        let mut case = Case::start(broker, Setup { orders: &orders, ..both() });
        case.work();
        let topics: Vec<_> = BOTH.iter().map(|&guarantee| case.payments.topics(guarantee)[2].clone()).collect();
        case.finish();
        for letters in topics {
            let mut kinds: BTreeMap<_, usize> = BTreeMap::new();
            for letter in broker.consume_all(&letters) {
                let kind = letter.header_text("midplane-error-kind").expect("a letter's kind").to_owned();
                *kinds.entry(kind).or_default() += 1;
            }
            assert!(ORDERS.iter().all(|(_, kind)| kinds.get(*kind) > Some(&1)), "{kinds:?}");
        }
    }
);
