//! Outputs that their topic doesn't take: their events fail, and nothing else does.

use midplane_tests::{Broker, Record, on_each_broker};

use crate::case::{Case, Expected, orders, texts};

const CONFIG: &str = r#"
[routes.faulty]
from = "in~"
through = "faulty"
to = "out~"
group = "group~"
failure = { dead_letter = "letters~" }
"#;

on_each_broker!(
    fn an_output_that_its_topic_has_no_room_or_no_partition_for_fails_its_event(broker: &Broker) {
        let case = Case::new(broker, CONFIG);
        case.create("in", 1);
        case.produce("in", orders(0, &["ok 1", "output-bytes:2", "ok 2", "partition:99", "ok 3"]));
        case.run();

        // Nothing is sent before it is known that all of it can be: nobody's output is there twice.
        assert_eq!(texts(&case.all("out")), ["ok 1", "ok 2", "ok 3"]);
        let (events, letters) = (case.all("in"), case.all("letters"));
        assert_eq!(texts(&letters), ["output-bytes:2", "partition:99"]);
        let expected = |kind| Expected { kind, route: "faulty", plugin: Some("faulty"), attempts: 1 };
        case.check_letter(&letters[0], &events[1], &expected("too-large"));
        case.check_letter(&letters[1], &events[3], &expected("rejected"));
    }
);

/// The embedded broker's topics all take the same.
mod small_topics {
    use super::*;

    #[test]
    fn on_kafka() {
        let broker = Broker::kafka();
        let case = Case::new(&broker, CONFIG);
        case.create("in", 1);
        for topic in ["out", "letters"] {
            broker.create(&case.name(topic), 1, &[("max.message.bytes", "2000")]);
        }
        // Together far more than the topic takes at once; each of them far less, but for one.
        let value = |number: usize| match number {
            500 => format!("ok {}", "x".repeat(3000)),
            700 => format!("permanent {}", "x".repeat(3000)),
            number => format!("ok {number} {}", "x".repeat(100)),
        };
        let values: Vec<String> = (0..1000).map(value).collect();
        case.produce("in", values.iter().map(|value| Record::of(value).to(0)));
        case.run();

        let good: Vec<_> = values
            .iter()
            .enumerate()
            .filter(|(number, _)| ![500, 700].contains(number))
            .map(|(_, value)| value)
            .collect();
        assert_eq!(texts(&case.all("out")), good);
        let (events, letters) = (case.all("in"), case.all("letters"));
        assert_eq!(letters.len(), 2);
        let length = |number: usize| values[number].len().to_string();
        let expected = Expected { kind: "too-large", route: "faulty", plugin: Some("faulty"), attempts: 1 };
        case.check_letter_headers(&letters[0], &events[500], &expected, &[("truncated", &length(500))]);
        let expected = Expected { kind: "permanent", route: "faulty", plugin: Some("faulty"), attempts: 1 };
        case.check_letter_headers(&letters[1], &events[700], &expected, &[("truncated", &length(700))]);
        assert!(letters.iter().all(|letter| letter.value.is_none()));
    }
}
