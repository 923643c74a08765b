//! What fails again has a letter again, and the times are counted.

use midplane_tests::binary::Finished;
use midplane_tests::wait::{DEADLINE, wait_until};
use midplane_tests::{Record, on_each_broker};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::case::{Case, ROUTES, built, finished, result, sorted_texts, stop};

/// The headers of a letter that don't tell when it was written.
fn timeless(letter: &Record) -> Vec<(&str, Option<&[u8]>)> {
    let headers = letter.headers.iter().map(|(name, value)| (name.as_str(), value.as_deref()));
    headers.filter(|(name, _)| *name != "midplane-error-timestamp").collect()
}

on_each_broker!(
    fn what_fails_again_is_a_letter_again_and_counts_up(broker: &Broker) {
        let case = Case::new(broker, ROUTES);
        let host = case.folder.start();
        case.fail(["permanent a", "partial b"]);
        stop(host);
        for times in 1..=2_u64 {
            let report = case.redrive(&["--execute"]);
            assert_eq!(
                (&result(&report)["letters"], &result(&report)["failed_again"]),
                (&json!(2), &json!(2)),
                "{report:#}"
            );
            assert_eq!(case.counts(), (2, 2 * times));
        }
        assert_eq!(case.all("out"), []);
        let letters = case.all("letters");
        assert_eq!(letters.len(), 6);
        let of = |value: &str| letters.iter().filter(|letter| letter.text() == value).collect::<Vec<_>>();
        for versions in [of("permanent a"), of("partial b")] {
            let redriven: Vec<_> = versions.iter().map(|letter| letter.header_text("midplane-redriven")).collect();
            assert_eq!(redriven, [None, Some("subject/1"), Some("subject/2")]);
            let event = |letter: &Record| (letter.key.clone(), letter.value.clone(), letter.timestamp);
            for again in &versions[1..] {
                assert_eq!(event(again), event(versions[0]));
                let mut headers = timeless(again);
                headers.retain(|(name, _)| *name != "midplane-redriven");
                assert_eq!(headers, timeless(versions[0]), "the reason is said as ever");
            }
        }
        case.install("identity", &built("identity"));
        let report = case.redrive(&["--execute", "--plugin", "subject=plugins/identity.wasm"]);
        assert_eq!(result(&report)["with_outputs"], 2, "{report:#}");
        let outputs = case.all("out");
        assert_eq!(sorted_texts(&outputs), ["partial b", "permanent a"]);
        assert!(outputs.iter().all(|output| output.header_text("midplane-redriven") == Some("subject/3")));
        assert!(outputs.iter().all(|it| it.headers.iter().all(|(name, _)| !name.starts_with("midplane-error-"))));
        assert_eq!(case.counts(), (0, 6));
    }
);

on_each_broker!(
    fn transient_failures_are_tried_as_often_as_is_said(broker: &Broker) {
        let case = Case::new(broker, ROUTES);
        let host = case.folder.start();
        case.fail(["transient:3 a", "permanent b", "transient:9 c", "transient:2 d"]);
        stop(host);
        let dry = case.redrive(&["--attempts", "3"]);
        assert_eq!(result(&dry)["failed_again"], 4, "whoever only looks waits for nothing: {dry:#}");
        let report = case.redrive(&["--attempts", "3", "--execute"]);
        assert_eq!((&result(&report)["with_outputs"], &result(&report)["failed_again"]), (&json!(2), &json!(2)));
        assert_eq!(sorted_texts(&case.all("out")), ["transient:2 d", "transient:3 a"]);
        let letters = case.all("letters");
        let again = letters.iter().filter(|letter| letter.header_text("midplane-redriven").is_some());
        let mut attempts: Vec<_> =
            again.map(|letter| (letter.text(), letter.header_text("midplane-error-attempts"))).collect();
        attempts.sort_unstable();
        assert_eq!(attempts, [("permanent b", Some("1")), ("transient:9 c", Some("3"))]);
    }
);

on_each_broker!(
    fn a_plugin_that_takes_its_time_answers_each_letter_once(broker: &Broker) {
        let case = Case::new(broker, ROUTES);
        // It takes none of them.
        case.install("subject", &built("fraud-score"));
        let host = case.folder.start();
        let slow: Vec<String> = (0..60).map(|number| format!("spin:60 {number}")).collect();
        let values = slow.iter().map(String::as_str).chain(["transient:2 a", "transient:2 b"]);
        case.fail(values);
        stop(host);
        assert_eq!(case.counts(), (62, 0));
        case.install("slow", &built("faulty"));
        let report = case.redrive(&["--plugin", "subject=plugins/slow.wasm", "--attempts", "2", "--execute"]);
        assert_eq!(
            (&result(&report)["with_outputs"], &result(&report)["letters"]),
            (&json!(62), &json!(62)),
            "{report:#}"
        );
        assert_eq!((case.all("out").len(), case.counts()), (62, (0, 62)));
    }
);

on_each_broker!(
    fn of_two_redrives_one_goes_on(broker: &Broker) {
        let case = Case::new(broker, ROUTES);
        let host = case.folder.start();
        let values: Vec<String> = (0..300).map(|number| format!("permanent {number}")).collect();
        case.fail(values.iter().map(String::as_str));
        stop(host);
        case.install("identity", &built("identity"));
        let fixed = ["--plugin", "subject=plugins/identity.wasm"];
        let first = case.spawn_redrive(&[&fixed[..], &["--rate", "5/s"]].concat());
        wait_until("the first has begun", DEADLINE, || case.len("out") > 0);
        let second =
            case.dlq(&[&["redrive", "--route", "subject", "--execute", "--output", "json"], &fixed[..]].concat());
        let first = finished(first);
        // As a rule it is the second one. Where the first has to replace its producer at that moment, it takes the name back.
        let (ended, gone_on) = if second.code == Some(0) { (&first, &second) } else { (&second, &first) };
        assert_eq!((ended.code, gone_on.code), (Some(1), Some(0)), "{} {}", first.stderr, second.stderr);
        let said = format!("another redrive of `{}` has begun", case.name("letters"));
        assert!(ended.stderr.contains(&said) && ended.stderr.contains("goes on with the rest"), "{}", ended.stderr);
        let letters = |redrive: &Finished| {
            let report: Value = serde_json::from_str(&redrive.stdout).expect("what was done is said");
            result(&report)["letters"].as_u64().unwrap_or(0)
        };
        let (by_first, by_second) = (letters(&first), letters(&second));
        assert!(by_first > 0, "{by_first} and {by_second}");
        assert_eq!((by_first + by_second, case.all("out").len(), case.counts()), (300, 300, (0, 300)));
    }
);

on_each_broker!(
    fn a_redrive_that_is_told_to_stop_ends_well_and_can_be_gone_on_with(broker: &Broker) {
        let case = Case::new(broker, ROUTES);
        let host = case.folder.start();
        let values: Vec<String> = (0..200).map(|number| format!("permanent {number}")).collect();
        case.fail(values.iter().map(String::as_str));
        stop(host);
        case.install("identity", &built("identity"));
        let fixed = ["--plugin", "subject=plugins/identity.wasm"];
        let child = case.spawn_redrive(&[&fixed[..], &["--rate", "5/s"]].concat());
        wait_until("it has begun", DEADLINE, || case.len("out") > 0);
        let id = i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a process id");
        kill_process(id, Signal::TERM).expect("a process of ours");
        let stopped = finished(child).success();
        let report: Value = serde_json::from_str(&stopped).expect("JSON");
        let done = result(&report)["letters"].as_u64().expect("a number");
        assert_eq!(report["stopped"], true);
        assert!((1..200).contains(&done), "the end fell outside of the work: {done}");
        assert_eq!(case.all("out").len() as u64, done);
        let rest = case.redrive(&[&fixed[..], &["--execute"]].concat());
        assert_eq!(result(&rest)["letters"], 200 - done);
        assert_eq!(case.all("out").len(), 200);
    }
);
