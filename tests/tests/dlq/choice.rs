//! Which letters are meant, and which can't be redriven.

use midplane_tests::{Record, on_each_broker};
use serde_json::{Value, json};

use crate::case::{Case, ROUTES, built, sorted_texts, stop};

/// A second route that fails, into the same topic of letters; and one whose filter can't be evaluated for what isn't JSON.
const MORE: &str = r#"
[routes.second]
from = "in~"
where = 'event.text.startsWith("trap")'
through = "subject"
to = "second-out~"
group = "group~"
failure = { dead_letter = "letters~", attempts = 1 }

[routes.filtered]
from = "in~"
where = 'event.json.amount > 10'
to = "filtered-out~"
group = "group~"
failure = { dead_letter = "filtered-letters~" }
"#;

/// Just below what a topic takes: there is no room for a letter's headers.
const ALMOST_TOO_LARGE: usize = 1_048_400;

/// How many letters a dry run would redrive.
#[track_caller]
fn open(case: &Case<'_>, args: &[&str]) -> u64 {
    let report = case.json(&[&["redrive"], args].concat());
    let topics = report["topics"].as_array().expect("topics");
    topics.iter().map(|topic| topic["open"].as_u64().expect("a number")).sum()
}

on_each_broker!(
    fn letters_are_chosen_by_everything_that_they_say(broker: &Broker) {
        let case = Case::new(broker, &format!("{ROUTES}{MORE}"));
        let host = case.folder.start();
        case.fail(["permanent a", "trap b", "permanent c"]);
        stop(host);
        // Three of `subject`, one of `second`, three of `filtered`.
        let (letters, filtered) = (case.name("letters"), case.name("filtered-letters"));
        assert_eq!(open(&case, &["--all"]), 7);
        for (args, expected) in [
            (&["--route", "subject"][..], 3),
            (&["--route", "second"], 1),
            (&["--route", "second", "--route", "filtered"], 4),
            (&["--topic", &letters], 4),
            (&["--topic", &filtered], 3),
            (&["--kind", "trap"], 2),
            (&["--kind", "trap", "--kind", "filter"], 5),
            (&["--kind", "trap", "--route", "subject"], 1),
            (&["--where", "string(event.key) == 'a'"], 2),
            (&["--where", "event.headers['midplane-error-message'] == 'told to fail'"], 2),
            (&["--where", "event.partition == 1"], 3),
            (&["--since", "1h"], 7),
            (&["--until", "1h"], 0),
        ] {
            assert_eq!(open(&case, args), expected, "{args:?}");
        }
        let lines = case.dlq(&["show", "--route", "subject", "--output", "json"]).success();
        let mut shown: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        let written = |letter: &Value| {
            let headers = letter["headers"].as_array().expect("headers");
            let header = headers.iter().find(|header| header["name"] == "midplane-error-timestamp");
            let text = header.and_then(|header| header["value"].as_str()).expect("a time");
            text.parse::<u64>().expect("milliseconds")
        };
        shown.sort_by_key(written);
        let last = shown[2]["error"]["at"].as_str().expect("a time").to_owned();
        // What was written in the same millisecond can't be told apart.
        let since = shown.iter().filter(|letter| written(letter) == written(&shown[2])).count() as u64;
        assert_eq!(open(&case, &["--route", "subject", "--since", &last]), since);
        assert_eq!(open(&case, &["--route", "subject", "--until", &last]), 3 - since);
        let place = |letter: &Value| format!("{letters}/{}/{}", letter["partition"], letter["offset"]);
        let (one, other) = (place(&shown[0]), place(&shown[1]));
        assert_eq!(open(&case, &[&one, &other]), 2);
        let none = case.dlq(&["redrive", &one, &other, "--route", "second"]);
        assert_eq!(none.code, Some(1), "{}", none.stdout);
        assert!(none.stderr.contains("no letter at `"), "{}", none.stderr);

        // What is chosen is redriven, and no other letter.
        case.install("identity", &built("identity"));
        let report = case.json(&["redrive", &one, "--execute", "--plugin", "subject=plugins/identity.wasm"]);
        assert_eq!(report["topics"][0]["routes"][0]["result"]["letters"], 1, "{report:#}");
        let outputs = case.all("out");
        assert_eq!(sorted_texts(&outputs), [shown[0]["value"].as_str().expect("text")]);
        assert_eq!((case.counts(), case.all("second-out")), ((6, 1), Vec::new()));
    }
);

on_each_broker!(
    fn what_can_not_be_redriven_is_said_and_left(broker: &Broker) {
        let case = Case::new(broker, &format!("{ROUTES}{MORE}"));
        broker.create(&case.name("letters"), 1, &[]);
        let host = case.folder.start();
        let large = format!("permanent {}", "x".repeat(ALMOST_TOO_LARGE - "permanent ".len()));
        broker.produce(&case.name("in"), [Record::new("large", large).to(0)]);
        case.fail(["permanent a", "trap b"]);
        stop(host);
        broker.produce(&case.name("letters"), [Record::of("a stranger's")]);
        case.configure(ROUTES);
        let dry = case.json(&["redrive", "--topic", &case.name("letters"), "--where", "event.json.amount > 1"]);
        // Of the letter without its value, nothing is asked.
        assert_eq!((&dry["topics"][0]["open"], &dry["topics"][0]["left_alone"]["undecided"]), (&json!(0), &json!(3)));
        let report = case.json(&["redrive", "--topic", &case.name("letters"), "--execute"]);
        let topic = &report["topics"][0];
        let expected = json!({
            "redriven": 0, "without_value": 1, "unknown_routes": { "second": 1 }, "undecided": 0, "undecided_why": null,
        });
        assert_eq!((&topic["left_alone"], &topic["open"]), (&expected, &json!(2)), "{report:#}");
        let list = case.json(&["list", "--topic", &case.name("letters")]);
        assert_eq!(list["topics"][0]["other_records"], 1);
        let text = case.dlq(&["redrive", "--topic", &case.name("letters")]).success();
        assert!(text.contains("1  of route second, which is not in the config\n"), "{text}");
        let show = |args: &[&str]| case.dlq(&[&["show", "--topic", &case.name("letters")], args].concat()).success();
        assert!(show(&["--route", "second"]).contains("can't be redriven: the config has no route `second`"));
        let truncated = show(&["--where", "string(event.key) == 'large'"]);
        assert!(
            truncated.contains(&format!("value      {ALMOST_TOO_LARGE} bytes, which were too large")),
            "{truncated}"
        );
    }
);

on_each_broker!(
    fn what_a_filter_could_not_say_is_asked_again(broker: &Broker) {
        let case = Case::new(broker, &format!("{ROUTES}{MORE}"));
        let host = case.folder.start();
        case.fail(["ok a", "ok b"]);
        stop(host);
        let failing = case.json(&["redrive", "--route", "filtered"]);
        assert_eq!(failing["topics"][0]["routes"][0]["result"]["failed_again"], 2, "{failing:#}");
        let fixed = MORE.replace("event.json.amount > 10", r#"event.text.endsWith("a")"#);
        case.configure(&format!("{ROUTES}{fixed}"));
        let report = case.json(&["redrive", "--route", "filtered", "--execute"]);
        let result = &report["topics"][0]["routes"][0]["result"];
        assert_eq!((&result["with_outputs"], &result["not_taken"]), (&json!(1), &json!(1)), "{report:#}");
        assert_eq!(sorted_texts(&case.all("filtered-out")), ["ok a"]);
        assert_eq!(case.json(&["list", "--route", "filtered"])["topics"][0]["open"], 0);
    }
);
