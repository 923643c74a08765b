//! Ten thousand letters, and a redrive that is killed on the way.

use std::collections::BTreeSet;

use midplane_tests::on_each_broker;
use midplane_tests::wait::{DEADLINE, wait_until};

use crate::case::{Case, PARTITIONS, ROUTES, built, result, stop};

const LETTERS: usize = 10_000;
const KILLS: usize = 3;

on_each_broker!(
    fn killed_three_times_each_of_ten_thousand_letters_arrives_once(broker: &Broker) {
        let case = Case::new(broker, ROUTES);
        broker.create(&case.name("letters"), PARTITIONS, &[]);
        let host = case.folder.start();
        let values: Vec<String> = (0..LETTERS).map(|number| format!("permanent {number}")).collect();
        case.fail(values.iter().map(String::as_str));
        stop(host);
        case.install("identity", &built("identity"));
        let fixed = ["--plugin", "subject=plugins/identity.wasm"];
        let mut done = 0;
        for kill in 1..=KILLS {
            // Slow enough to be met in its work: a part of it is on its way each tenth of a second.
            let mut child = case.spawn_redrive(&[&fixed[..], &["--rate", "1500/s"]].concat());
            // The last time half of them are left, however slow this is to look.
            let target = LETTERS * kill / (2 * KILLS);
            wait_until("some more of it is on its way", DEADLINE, || case.len("out") > target as i64);
            child.kill().expect("a process of ours");
            let ended = child.wait().expect("a process of ours");
            assert_eq!(ended.code(), None, "the kill came too late: {ended}");
            let now = case.all("out").len();
            assert!((done + 1..LETTERS).contains(&now), "kill {kill} fell outside of the work: {now} after {done}");
            done = now;
        }
        let report = case.redrive(&[&fixed[..], &["--execute"]].concat());
        // The last one that was killed may have had a transaction on its way that is committed none the less.
        let rest = result(&report)["letters"].as_u64().expect("a number") as usize;
        assert!((1..=LETTERS - done).contains(&rest), "{rest} after {done}");

        let outputs = case.all("out");
        let origins: BTreeSet<_> = outputs.iter().map(|output| output.header_text("midplane-origin")).collect();
        let texts: BTreeSet<_> = outputs.iter().map(|output| output.text()).collect();
        assert_eq!((outputs.len(), origins.len(), texts.len()), (LETTERS, LETTERS, LETTERS));
        assert!(outputs.iter().all(|output| output.header_text("midplane-redriven") == Some("subject/1")));
        assert_eq!(case.counts(), (0, LETTERS as u64));
        // Only in its route: no new letters, no new events for anybody else.
        assert_eq!((case.all("letters").len(), case.all("copied").len()), (LETTERS, LETTERS));
        assert_eq!(case.len("in"), LETTERS as i64);
        for topic in ["in", "out", "letters", "copied"] {
            broker.delete(&case.name(topic));
        }
    }
);
