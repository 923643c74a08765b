//! A partition that goes back while records of it are in hand: those come again, and nothing between is passed over.

use midplane_tests::{Record, on_each_broker};

use crate::case::{Case, Expected, noise, stop, texts};

/// Compression keeps the host from knowing what a topic takes: the broker refuses, some time after the output was sent.
const CONFIG: &str = r#"
client = { "compression.type" = "zstd" }

[plugin.faulty]
deadline = "1s"

[groups."group~"]
shards = 1

[routes.copy]
from = "in~"
to = "out~"
group = "group~"
failure = { dead_letter = "letters~" }

[routes.slow]
from = "slow~"
through = "faulty"
to = "slowed~"
group = "group~"
failure = { dead_letter = "slow-letters~" }
"#;

/// What an event of the input topic may have at most, nearly: with the header that an output gains it is too much.
const ALMOST_TOO_LARGE: usize = 1_048_500;
/// More than a shard takes into its hand at a time.
const FILLERS: usize = 1_100;
/// Each takes all of its deadline, which is longer than the shard leaves its other duties alone.
const SLOW: &str = "loop";

on_each_broker!(
    fn an_event_that_is_refused_late_is_not_passed_over(broker: &Broker) {
        let case = Case::new(broker, CONFIG);
        for topic in ["in", "slow", "out", "slowed", "letters", "slow-letters"] {
            case.create(topic, 1);
        }
        let host = case.folder.start();
        host.wait_ready();
        // While the shard is busy, this fills its queue: the event whose output is refused, more than a handful, slow events
        // during which the refusal arrives, and one behind it, which is in hand then.
        case.produce("slow", [SLOW, SLOW].map(|order| Record::of(order).to(0)));
        case.produce("in", [Record::of(noise(ALMOST_TOO_LARGE)).to(0)]);
        case.wait_for("in", 1);
        let fillers = (0..FILLERS).map(|_| "drop");
        case.produce("slow", fillers.chain([SLOW, SLOW]).map(|order| Record::of(order).to(0)));
        case.wait_for("slow", 2 + FILLERS + 2);
        case.produce("in", [Record::of("behind it").to(0)]);
        case.wait_for_commit(0, 2);
        stop(host);

        // Its letter is refused, too, before it goes without the value: what is behind it runs again then.
        let outputs = case.all("out");
        let mut outputs = texts(&outputs);
        outputs.dedup();
        assert_eq!(outputs, ["behind it"]);
        let (events, letters) = (case.all("in"), case.all("letters"));
        assert_eq!(letters.len(), 1);
        let expected = Expected { kind: "too-large", route: "copy", plugin: None, attempts: 1 };
        let length = ALMOST_TOO_LARGE.to_string();
        case.check_letter_headers(&letters[0], &events[0], &expected, &[("truncated", &length)]);
    }
);
