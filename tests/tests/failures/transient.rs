//! Failures that pass, and those that don't in time.

use midplane_tests::on_each_broker;

use crate::case::{Case, Expected, FAULTY, orders, origin, stop, texts};

/// Four attempts, with waits of these lengths.
fn config(first: &str, max: &str) -> String {
    let policy =
        format!("attempts = 4, backoff = {{ first = \"{first}\", max = \"{max}\", jitter = 0.0 }}, dead_letter");
    FAULTY.replace("dead_letter", &policy)
}

on_each_broker!(
    fn a_partition_waits_for_its_event_and_the_others_do_not(broker: &Broker) {
        let case = Case::new(broker, &config("500ms", "1s"));
        case.create("in", 2);
        case.create("out", 1);
        case.produce("in", orders(0, &["ok 1", "transient:3", "ok 2", "transient:2", "ok 3"]));
        case.produce("in", orders(1, &["ok 4", "ok 5", "ok 6"]));
        let host = case.folder.start();
        case.wait_for_end();
        let retried = "midplane_retried_events_total{route=\"faulty\",plugin=\"faulty\"} 3";
        assert!(host.get("/metrics").body.lines().any(|line| line == retried), "{}", host.get("/metrics").body);
        stop(host);

        let outputs = case.all("out");
        let of =
            |partition| outputs.iter().filter(move |output| origin(output).0 == partition).cloned().collect::<Vec<_>>();
        assert_eq!(texts(&of(0)), ["ok 1", "transient:3", "ok 2", "transient:2", "ok 3"]);
        assert_eq!(texts(&of(1)), ["ok 4", "ok 5", "ok 6"]);
        // The one topic has both in the order of their writing.
        let position = |text| texts(&outputs).iter().position(|found| *found == text);
        assert!(position("ok 6") < position("transient:3"), "{:?}", texts(&outputs));
        assert_eq!(case.all("letters"), []);
    }
);

on_each_broker!(
    fn spent_attempts_end_in_a_letter(broker: &Broker) {
        let case = Case::new(broker, &config("20ms", "50ms"));
        case.create("in", 1);
        case.create("out", 1);
        case.produce("in", orders(0, &["ok 1", "transient:4", "transient", "transient:5", "ok 2"]));
        case.run();

        assert_eq!(texts(&case.all("out")), ["ok 1", "transient:4", "ok 2"]);
        let (events, letters) = (case.all("in"), case.all("letters"));
        assert_eq!(texts(&letters), ["transient", "transient:5"]);
        let expected = Expected { kind: "transient", route: "faulty", plugin: Some("faulty"), attempts: 4 };
        case.check_letter(&letters[0], &events[2], &expected);
        case.check_letter(&letters[1], &events[3], &expected);
    }
);
