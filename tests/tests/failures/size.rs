//! Outputs, and letters, that their topic doesn't take: their events fail, and nothing else does.

use midplane_tests::{Broker, Record, on_each_broker};

use crate::case::{Case, Expected, hex_noise, orders, texts};

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
        let stout = Record::new("k", "permanent").header("stout", "x".repeat(3000)).to(0);
        case.produce("in", [stout]);
        case.run();

        let good: Vec<_> = values
            .iter()
            .enumerate()
            .filter(|(number, _)| ![500, 700].contains(number))
            .map(|(_, value)| value)
            .collect();
        assert_eq!(texts(&case.all("out")), good);
        let (events, letters) = (case.all("in"), case.all("letters"));
        assert_eq!(letters.len(), 3);
        let length = |number: usize| values[number].len().to_string();
        let expected = Expected { kind: "too-large", route: "faulty", plugin: Some("faulty"), attempts: 1 };
        case.check_letter_headers(&letters[0], &events[500], &expected, &[("truncated", &length(500))]);
        let expected = Expected { kind: "permanent", route: "faulty", plugin: Some("faulty"), attempts: 1 };
        case.check_letter_headers(&letters[1], &events[700], &expected, &[("truncated", &length(700))]);
        assert!(letters.iter().all(|letter| letter.value.is_none()));
        // Of what is too large without its value, only where it was is left.
        assert_eq!((&letters[2].key, letters[2].header_text("stout")), (&None, None));
        assert_eq!(letters[2].header_text("midplane-error-offset"), Some("1000"));
        assert_eq!(letters[2].header_text("midplane-error-truncated"), Some("9"));
    }
}

/// The embedded broker's topics all take the same.
mod small_topics_that_nobody_knows {
    use super::*;

    #[test]
    fn on_kafka() {
        let broker = Broker::kafka();
        // What a compressed record has only the broker can tell. At least once, who shared a batch would be there twice.
        let client = r#"client = { "compression.type" = "zstd" }"#;
        let group = "[groups.'group~']\nguarantee = 'exactly-once'";
        let case = Case::new(&broker, &format!("{client}\n{group}\n{CONFIG}"));
        case.create("in", 1);
        for topic in ["out", "letters"] {
            broker.create(&case.name(topic), 1, &[("max.message.bytes", "2000")]);
        }
        let good: Vec<String> = (0..1000).map(|number| format!("ok {number} {}", "x".repeat(100))).collect();
        let (before, after) = good.split_at(500);
        let event = |value: &String| Record::new("k", value).to(0);
        // What compresses passes, however large it is; what doesn't fails alone.
        let long = format!("ok {}", "x".repeat(100_000));
        let noisy = format!("ok {}", hex_noise(6000));
        let stout = Record::new("k", "permanent").header("stout", hex_noise(6000)).to(0);
        case.produce("in", before.iter().map(event).chain([event(&noisy), event(&long), stout]));
        case.produce("in", after.iter().chain([&long]).map(event));
        case.run();

        let expected: Vec<&String> = before.iter().chain([&long]).chain(after).chain([&long]).collect();
        assert_eq!(texts(&case.all("out")).len(), expected.len());
        assert_eq!(texts(&case.all("out")), expected);
        let (events, letters) = (case.all("in"), case.all("letters"));
        assert_eq!(letters.len(), 2);
        let too_large = Expected { kind: "too-large", route: "faulty", plugin: Some("faulty"), attempts: 1 };
        let length = noisy.len().to_string();
        case.check_letter_headers(&letters[0], &events[500], &too_large, &[("truncated", &length)]);
        assert_eq!((&letters[1].key, letters[1].header_text("stout")), (&None, None));
        assert_eq!(letters[1].header_text("midplane-error-offset"), Some("502"));
    }
}

/// The embedded broker takes any time.
mod times {
    use super::*;

    /// The year 2100: further ahead than topics take by default, which is an hour.
    const FAR: i64 = 4_102_444_800_000;

    #[test]
    fn on_kafka() {
        let broker = Broker::kafka();
        let case = Case::new(&broker, CONFIG);
        broker.create(&case.name("in"), 1, &[("message.timestamp.after.max.ms", "9223372036854775807")]);
        let far = |mut event: Record| {
            event.timestamp = Some(FAR);
            event
        };
        let good: Vec<String> = (0..500).map(|number| format!("ok {number}")).collect();
        let events = good.iter().map(String::as_str).collect::<Vec<_>>();
        // Two in a row, of which the broker doesn't say that it is their times.
        case.produce("in", orders(0, &["permanent 1", "permanent 2"]).map(far));
        case.produce("in", orders(0, &events[..250]));
        case.produce("in", orders(0, &["timestamp-far"]).chain(orders(0, &["ok", "permanent"]).map(far)));
        case.produce("in", orders(0, &events[250..]));
        case.run();

        assert_eq!(texts(&case.all("out")), events);
        let (events, letters) = (case.all("in"), case.all("letters"));
        assert_eq!(texts(&letters), ["permanent 1", "permanent 2", "timestamp-far", "ok", "permanent"]);
        let (events, letters) = (&events[2..], &letters[2..]);
        let expected = |kind| Expected { kind, route: "faulty", plugin: Some("faulty"), attempts: 1 };
        case.check_letter(&letters[0], &events[250], &expected("rejected"));
        let time = [("event-timestamp", "4102444800000")];
        case.check_letter_headers(&letters[1], &events[251], &expected("rejected"), &time);
        case.check_letter_headers(&letters[2], &events[252], &expected("permanent"), &time);
    }
}
