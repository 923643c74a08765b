//! What failed is listed and shown; redriven, it goes through the plugins that are live, once, to its own route alone.

use midplane_tests::{Record, on_each_broker};
use serde_json::{Value, json};

use crate::case::{Case, ROUTES, built, reload, result, short, sorted_texts, stop};

/// What fails: two in the same way, one in another.
const FAILING: [&str; 3] = ["permanent a", "permanent b", "trap c"];

on_each_broker!(
    fn letters_go_through_their_route_once_and_nobody_else_sees_them(broker: &Broker) {
        let case = Case::new(broker, ROUTES);
        let host = case.folder.start();
        case.fail(["ok 1", FAILING[0], FAILING[1], "ok 2", FAILING[2]]);
        check_list(&case);
        let letters = case.all("letters");

        // Nothing is better yet, and a dry run changes nothing.
        let dry = case.redrive(&[]);
        assert_eq!((&dry["executed"], &dry["topics"][0]["open"]), (&json!(false), &json!(3)));
        assert_eq!((&result(&dry)["failed_again"], &result(&dry)["with_outputs"]), (&json!(3), &json!(0)), "{dry:#}");
        let fixed = built("identity");
        case.install("subject", &fixed);
        let generation = reload(&host);
        let dry = case.redrive(&["--dry-run"]);
        let route = &dry["topics"][0]["routes"][0];
        let version = midplane::digest::hex(&midplane::digest::of(&fixed));
        let source = format!("live in generation {generation}");
        assert_eq!(route["through"], json!([{ "plugin": "subject", "version": version, "source": source }]));
        assert_eq!(
            (&route["to"], &route["result"]["with_outputs"]),
            (&json!({ "default": case.name("out") }), &json!(3))
        );
        assert_eq!((case.counts(), case.all("out").len()), ((3, 0), 2));

        let report = case.redrive(&["--execute"]);
        assert_eq!(result(&report)["outputs"], json!({ case.name("out"): 3 }), "{report:#}");
        let outputs: Vec<_> =
            case.all("out").into_iter().filter(|it| it.header_text("midplane-redriven").is_some()).collect();
        assert_eq!(sorted_texts(&outputs), FAILING);
        for output in &outputs {
            check_output(&case, output, generation, &short(&fixed));
        }
        // Once: neither of these finds anything left to do.
        assert_eq!(case.redrive(&["--execute"])["topics"][0]["left_alone"]["redriven"], 3);
        assert_eq!(case.dlq(&["redrive", "--all", "--execute"]).code, Some(0));
        assert_eq!((case.counts(), case.all("out").len(), case.all("letters").len()), ((0, 3), 5, letters.len()));
        // The other group saw what came, and nothing more comes; nor does the topic have more than was written.
        case.fail(["ok 3"]);
        let input = case.all("in");
        assert_eq!((input.len(), sorted_texts(&case.all("copied"))), (6, sorted_texts(&input)));
        assert_eq!(case.len("in"), 6);
        check_shown_after(&case, &letters);
        stop(host);
    }
);

/// The embedded broker compacts nothing.
mod compaction {
    use midplane_tests::Broker;

    use super::*;

    #[test]
    fn on_kafka() {
        let broker = Broker::kafka();
        let case = Case::new(&broker, ROUTES);
        let (letters, marks) = (case.name("letters"), format!("{}.redriven", case.name("letters")));
        broker.create(&letters, 1, &[("cleanup.policy", "compact")]);
        broker.create(&marks, 1, &[("cleanup.policy", "compact,delete")]);
        let host = case.folder.start();
        let doubts = host.entries("A topic that routes write to may not be what it is taken for.");
        let doubts: Vec<_> = doubts.iter().filter_map(|entry| entry["doubt"].as_str()).collect();
        assert!(
            matches!(&*doubts, [doubt] if doubt.contains(&letters) && doubt.contains("without a key")),
            "{doubts:?}"
        );

        case.fail([FAILING[0]]);
        case.install("subject", &built("identity"));
        reload(&host);
        let refused = case.dlq(&["redrive", "--all", "--execute"]);
        let mends = format!("--entity-name {marks} --add-config cleanup.policy=compact");
        assert!(refused.code == Some(3) && refused.stderr.contains(&mends), "{refused:?}");
        assert_eq!(case.counts(), (1, 0));
        broker.alter(&marks, &[("cleanup.policy", "compact")]);
        case.redrive(&["--execute"]);
        assert_eq!(case.counts(), (0, 1));
        stop(host);
    }
}

/// Two groups, counted; and the whole of a letter.
fn check_list(case: &Case<'_>) {
    let list = case.json(&["list", "--route", "subject"]);
    let groups = list["groups"].as_array().expect("groups");
    let shown = |group: &Value| {
        let text = |name: &str| group[name].as_str().unwrap_or_default().to_owned();
        (text("kind"), text("message"), group["open"].as_u64(), text("plugin_version")[..8].to_owned())
    };
    let version = short(&built("faulty"));
    assert_eq!(groups.len(), 2, "{list:#}");
    assert_eq!(shown(&groups[0]), ("permanent".to_owned(), "told to fail".to_owned(), Some(2), version.clone()));
    let (kind, _, open, of_trap) = shown(&groups[1]);
    assert_eq!((kind.as_str(), open, of_trap), ("trap", Some(1), version));
    let (first, last) = (&groups[0]["first"]["letter"], &groups[0]["last"]["letter"]);
    assert_ne!(first, last);
    let sample = groups[0]["sample"]["letter"].as_str().expect("a letter");
    let shown = case.json(&["show", sample]);
    assert_eq!(shown["key"].as_str().map(str::len), Some(1), "{shown:#}");
    assert_eq!(shown["error"]["event"].as_str(), groups[0]["sample"]["event"].as_str());
    assert_eq!((&shown["redriven"], &shown["error"]["kind"]), (&Value::Null, &json!("permanent")));
    assert_eq!(shown["next"], format!("midplane dlq redrive {sample}"));
    let text = case.dlq(&["show", sample]).success();
    for part in ["route      subject\n", "message    told to fail\n", "header     own: kept\n", "value      permanent "]
    {
        assert!(text.contains(part), "no `{part}` in:\n{text}");
    }
    let text = case.dlq(&["list"]).success();
    assert!(
        text.contains(&format!(
            "2 open: route subject, plugin subject@{}, permanent\n  told to fail\n",
            short(&built("faulty"))
        )),
        "{text}"
    );
    assert!(text.contains(&format!("{}  no letters\n", case.name("copy-letters"))), "{text}");
}

/// An output of a redriven letter is one of the event, not of the letter.
fn check_output(case: &Case<'_>, output: &Record, generation: u64, version: &str) {
    let input = case.all("in");
    let event = input.iter().find(|event| event.value == output.value).expect("the event");
    let place = format!("{}/{}/{}/0", case.name("in"), event.partition.unwrap_or_default(), event.offset);
    let expected = [
        ("own".to_owned(), Some(b"kept".to_vec())),
        ("midplane-redriven".to_owned(), Some(b"subject/1".to_vec())),
        ("midplane-origin".to_owned(), Some(format!("{place} subject@{generation} subject@{version}").into_bytes())),
    ];
    assert_eq!(output.headers, expected);
    assert_eq!((&output.key, output.timestamp), (&event.key, event.timestamp));
}

fn check_shown_after(case: &Case<'_>, letters: &[Record]) {
    let place = format!("{}/{}/{}", case.name("letters"), letters[0].partition.unwrap_or_default(), letters[0].offset);
    let shown = case.json(&["show", &place]);
    assert_eq!(shown["redriven"]["outcome"], "outputs", "{shown:#}");
    assert_eq!(shown["next"], "nothing: it was redriven: its outputs are in the topics of its route");
}

on_each_broker!(
    fn a_version_can_be_chosen_and_a_rate(broker: &Broker) {
        let case = Case::new(broker, ROUTES);
        let host = case.folder.start();
        let values: Vec<String> = (0..60).map(|number| format!("permanent {number}")).collect();
        case.fail(values.iter().map(String::as_str));
        let (old, new) = (short(&built("faulty")), short(&built("marker")));
        case.install("subject", &built("marker"));
        reload(&host);
        stop(host);
        // Without a host the store has what it had.
        let chosen = |args: &[&str]| {
            let dry = case.redrive(args);
            let through = &dry["topics"][0]["routes"][0]["through"][0];
            let text = |name: &str| through[name].as_str().unwrap_or_default().to_owned();
            (text("version")[..8].to_owned(), text("source"), result(&dry)["failed_again"].as_u64())
        };
        assert_eq!(chosen(&[]), (new.clone(), "live in generation 2".to_owned(), Some(0)));
        let digits = format!("subject={}", &old[..6]);
        assert_eq!(chosen(&["--plugin", &digits]), (old, "as asked for".to_owned(), Some(60)));
        let file = case.folder.path().join("elsewhere.wasm");
        std::fs::write(&file, built("identity")).expect("a file");
        let asked = format!("subject={}", file.display());
        assert_eq!(chosen(&["--plugin", &asked]), (short(&built("identity")), "as asked for".to_owned(), Some(0)));
        let unknown = case.dlq(&["redrive", "--route", "subject", "--plugin", "subject=00000000"]);
        assert_eq!(unknown.code, Some(3));
        assert!(
            unknown.stderr.contains("plugin `subject` has no version `00000000` in the store"),
            "{}",
            unknown.stderr
        );

        let report = case.redrive(&["--plugin", &asked, "--rate", "20/s", "--execute"]);
        assert_eq!(result(&report)["letters"], 60);
        let busiest = report["rate"]["busiest"].as_u64().expect("a number");
        assert!((2..=20).contains(&busiest), "{report:#}");
        let outputs = case.all("out");
        let version = format!("subject@{}", short(&built("identity")));
        assert_eq!(outputs.len(), 60);
        assert!(
            outputs.iter().all(|it| it.header_text("midplane-origin").is_some_and(|origin| origin.ends_with(&version)))
        );
    }
);
