//! Stopping in the middle of events that take all the time they get.

use midplane_tests::{Record, on_each_broker};

use crate::case::{Case, Expected, FAULTY, stop};

/// Each takes a deadline of 100 ms: altogether far longer than a stop may take.
const EVENTS: usize = 500;

on_each_broker!(
    fn a_host_stops_in_time_with_events_at_hand_that_use_up_their_deadlines(broker: &Broker) {
        let case = Case::new(broker, &format!("[host]\ndrain_timeout = \"10s\"\n{FAULTY}"));
        case.create("in", 1);
        case.create("letters", 1);
        case.produce("in", (0..EVENTS).map(|_| Record::of("loop").to(0)));
        let host = case.folder.start();
        case.wait_for("letters", 1);
        stop(host);

        let (events, letters) = (case.all("in"), case.all("letters"));
        assert!(letters.len() < EVENTS, "the stop came too late to show anything");
        assert_eq!(case.committed(0), i64::try_from(letters.len()).ok(), "what was written was committed");
        let expected = Expected { kind: "deadline", route: "faulty", plugin: Some("faulty"), attempts: 1 };
        for (letter, event) in letters.iter().zip(&events) {
            case.check_letter(letter, event, &expected);
        }
    }
);
