//! The one header that the host writes, and events that go in circles.

use midplane_tests::{Record, on_each_broker};

use crate::case::{Case, Expected, texts};

const CONFIG: &str = r#"
[routes.faulty]
from = "in~"
through = "faulty"
to = "out~"
group = "group~"
failure = { dead_letter = "letters~" }

[routes.plain]
from = "in~"
to = "plain~"
provenance = false
group = "group~"
failure = { dead_letter = "letters-plain~" }

[routes.elsewhere]
from = "in~"
where = 'event.headers["missing"] == "x"'
to = "plain~"
group = "group~"
failure = { dead_letter = "letters-elsewhere~" }
"#;

fn names(record: &Record) -> Vec<&str> {
    record.headers.iter().map(|(name, _)| name.as_str()).collect()
}

on_each_broker!(
    fn the_origin_replaces_whatever_was_there_and_ends_circles(broker: &Broker) {
        let case = Case::new(broker, CONFIG);
        case.create("in", 1);
        let event = |value: &str| Record::new("key", value).header("own", "1").to(0);
        let hops = |hops: &str| format!("elsewhere/3/17/0 r@1{hops}");
        case.produce(
            "in",
            [
                event("first"),
                event("second").header("midplane-origin", hops("")).header("midplane-other", "x").header("last", "2"),
                event("sixteenth").header("midplane-origin", hops(" hops=15")),
                event("seventeenth").header("midplane-origin", hops(" hops=16")).header("midplane-other", "x"),
            ],
        );
        case.run();

        let outputs = case.all("out");
        assert_eq!(texts(&outputs), ["first", "second", "sixteenth"]);
        assert_eq!(names(&outputs[0]), ["own", "midplane-origin"]);
        assert_eq!(names(&outputs[1]), ["own", "last", "midplane-origin"]);
        let version = case.version("faulty");
        for (offset, hops) in ["", " hops=2", " hops=16"].iter().enumerate() {
            let expected = format!("{}/0/{offset}/0 faulty@1 faulty@{}{hops}", case.name("in"), &version[..8]);
            assert_eq!(outputs[offset].header_text("midplane-origin"), Some(&*expected));
        }
        let plain = case.all("plain");
        assert_eq!(texts(&plain), ["first", "second", "sixteenth"]);
        assert_eq!(names(&plain[1]), ["own", "last"]);

        let events = case.all("in");
        for (route, stem) in [("faulty", "letters"), ("plain", "letters-plain")] {
            let letters = case.all(stem);
            assert_eq!(letters.len(), 1);
            case.check_letter(&letters[0], &events[3], &Expected { kind: "loop", route, plugin: None, attempts: 1 });
        }
        assert_eq!(case.all("letters-elsewhere"), [], "a route that doesn't take an event has no word in it");
    }
);
