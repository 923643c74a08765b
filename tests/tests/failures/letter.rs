//! Letters that can't be written as they are, or not at all.

use midplane_tests::{Broker, Record, on_each_broker};

use crate::case::{Case, Expected, FAULTY, orders, stop, texts};

/// Just below what a topic takes: there is no room for a letter's headers.
const ALMOST_TOO_LARGE: usize = 1_048_400;

/// An event whose letter can't be written holds up its partition, and no other one.
fn check_without_its_letter(broker: &Broker, guarantee: &str) {
    let case = Case::new(broker, &FAULTY.replace("shards = 1", &format!("shards = 1\nguarantee = \"{guarantee}\"")));
    case.create("in", 2);
    let host = case.folder.start();
    case.produce("in", orders(0, &["ok 1"]));
    case.produce("in", orders(1, &["ok 2"]));
    case.wait_for_commit(0, 1);
    case.wait_for_commit(1, 1);
    broker.delete(&case.name("letters"));
    case.produce("in", orders(0, &["permanent", "ok 3"]));
    host.wait_for_entry("A message was not written: its event runs again.");
    // The other partition goes on, so that there are commits, and this one's is not among them.
    case.produce("in", orders(1, &["ok 4", "ok 5"]));
    case.wait_for_commit(1, 3);
    assert_eq!(case.committed(0), Some(1));

    case.create("letters", 1);
    case.wait_for_end();
    stop(host);
    let (events, letters) = (case.all("in"), case.all("letters"));
    let event = events.iter().find(|event| event.text() == "permanent").expect("it was written");
    let expected = Expected { kind: "permanent", route: "faulty", plugin: Some("faulty"), attempts: 1 };
    case.check_letter(&letters[0], event, &expected);
    let outputs = case.all("out");
    let mut outputs = texts(&outputs);
    outputs.sort_unstable();
    if guarantee == "at-least-once" {
        // What was written before the event ran again may be there twice.
        outputs.dedup();
    }
    assert_eq!(outputs, ["ok 1", "ok 2", "ok 3", "ok 4", "ok 5"]);
}

on_each_broker!(
    fn without_its_letter_an_event_is_not_passed(broker: &Broker) {
        check_without_its_letter(broker, "at-least-once");
    }
);

on_each_broker!(
    fn without_its_letter_an_event_is_not_passed_in_transactions_either(broker: &Broker) {
        check_without_its_letter(broker, "exactly-once");
    }
);

on_each_broker!(
    fn a_letter_that_is_too_large_goes_without_its_value(broker: &Broker) {
        let case = Case::new(broker, FAULTY);
        case.create("in", 1);
        case.create("letters", 1);
        let large = format!("permanent {}", "x".repeat(ALMOST_TOO_LARGE - "permanent ".len()));
        let large = Record::new("large", large).header("own", "kept").to(0);
        let small = Record::new("small", "permanent").to(0);
        case.produce("in", [large, small]);
        case.run();

        let (events, letters) = (case.all("in"), case.all("letters"));
        assert_eq!(letters.len(), 2);
        let expected = Expected { kind: "permanent", route: "faulty", plugin: Some("faulty"), attempts: 1 };
        let (key, timestamp) = (&events[0].key, events[0].timestamp);
        assert_eq!((&letters[0].key, &letters[0].value, letters[0].timestamp), (key, &None, timestamp));
        let truncated = ALMOST_TOO_LARGE.to_string();
        case.check_letter_headers(&letters[0], &events[0], &expected, &[("truncated", &truncated)]);
        case.check_letter(&letters[1], &events[1], &expected);
    }
);
