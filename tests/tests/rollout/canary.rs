//! Candidates that serve a share of the keys.

use std::collections::{BTreeMap, BTreeSet};

use midplane_tests::wait::{DEADLINE, wait_until};
use midplane_tests::{Broker, on_each_broker};

use crate::case::{Case, another, bytes, check_complete, number, origin, version};

on_each_broker!(
    fn a_version_that_is_right_is_promoted_and_keys_stay_with_one_version_until_then(broker: &Broker) {
        let mut case = Case::start(broker, "mode = 'canary', share = '40%', events = 400");
        let (old, new) = (bytes("identity"), another(bytes("identity"), "second"));
        case.produce(100, |_| "ok");
        case.deploy_candidate(&new);
        let trial = case.report();
        assert_eq!(trial["plugins"]["subject"]["sha256"], *version(&old));
        assert_eq!(trial["plugins"]["subject"]["candidate"]["mode"], "canary");
        let ended = case.produce_until_it_ends(|_| "ok");
        assert_eq!((&ended["outcome"], &ended["plugin"]), (&"promoted".into(), &"subject".into()), "{ended}");
        assert_eq!((&ended["failures"], &ended["sample"]), (&0.into(), &serde_json::Value::Null), "{ended}");
        assert_eq!((case.live(), case.candidate()), (version(&new), serde_json::Value::Null));
        case.produce(100, |_| "ok");

        let produced = case.produced;
        let (outputs, letters) = case.finish();
        assert_eq!(letters, []);
        check_complete(&outputs, 0..produced);
        let mut versions: BTreeMap<u64, BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
        for record in &outputs {
            let origin = origin(record);
            let keys = versions.entry(origin.generation).or_default();
            keys.entry(record.key_text().to_owned()).or_default().insert(origin.version);
        }
        let keys = &versions[&trial["generation"].as_u64().expect("a number")];
        assert!(keys.values().all(|versions| versions.len() == 1), "{keys:?}");
        let serving: BTreeSet<&str> = keys.values().flatten().map(String::as_str).collect();
        assert_eq!(serving, BTreeSet::from([&version(&old)[..8], &version(&new)[..8]]));
        let (first, last) = (versions.first_key_value(), versions.last_key_value());
        let of = |found: Option<(&u64, &BTreeMap<String, BTreeSet<String>>)>, wasm: &[u8]| {
            found.is_some_and(|(_, keys)| keys.values().flatten().all(|sha8| *sha8 == version(wasm)[..8]))
        };
        assert!(of(first, &old) && of(last, &new), "{versions:?}");
    }
);

on_each_broker!(
    fn a_version_that_fails_one_event_in_a_hundred_is_rolled_back(broker: &Broker) {
        let mut case = Case::start(broker, "mode = 'canary', share = '100%', events = 2000, errors_max = 0.002");
        let (old, wrong) = (bytes("identity"), bytes("faulty"));
        case.deploy_candidate(&wrong);
        let word = |number: usize| if number % 100 == 7 { "permanent" } else { "ok" };
        let ended = case.produce_until_it_ends(word);
        assert_eq!((&ended["outcome"], &ended["sha256"]), (&"aborted".into(), &version(&wrong).into()), "{ended}");
        assert!(ended["reason"].as_str().is_some_and(|reason| reason.contains("`errors_max`")), "{ended}");
        let sample = ended["sample"]["reason"].as_str().expect("a sample");
        assert!(sample.contains("told to fail"), "{sample}");
        assert_eq!((case.live(), case.candidate()), (version(&old), serde_json::Value::Null));
        let logged = case.host.wait_for_entry("A candidate is given up.");
        assert_eq!((logged["plugin"].as_str(), logged["reason"].as_str()), (Some("subject"), ended["reason"].as_str()));

        // The same bytes are not tried again, others are.
        assert_eq!(case.order("/api/v1/reload").code, 200);
        assert_eq!((case.live(), case.candidate()), (version(&old), serde_json::Value::Null));
        case.produce(100, word);
        let produced = case.produced;
        case.deploy_candidate(&another(bytes("identity"), "third"));

        let (outputs, letters) = case.finish();
        for letter in &letters {
            assert_eq!(number(letter) % 100, 7);
            assert_eq!(letter.header_text("midplane-error-plugin-version"), Some(&*version(&wrong)));
        }
        assert!(letters.len() >= 5, "{}", letters.len());
        let failed: BTreeSet<_> = letters.iter().map(number).collect();
        check_complete(&outputs, (0..produced).filter(|number| !failed.contains(number)));
    }
);

on_each_broker!(
    fn a_version_that_is_slow_is_rolled_back(broker: &Broker) {
        let mut case = Case::start(broker, "mode = 'canary', share = '50%', errors_max = 1.0, latency_max = '1ms'");
        let old = bytes("identity");
        case.deploy_candidate(&bytes("faulty"));
        let ended = case.produce_until_it_ends(|_| "spin:25");
        assert_eq!(ended["outcome"], "aborted", "{ended}");
        assert!(ended["reason"].as_str().is_some_and(|reason| reason.contains("`latency_max`")), "{ended}");
        assert_eq!(case.live(), version(&old));
        let produced = case.produced;
        let (outputs, _) = case.finish();
        check_complete(&outputs, 0..produced);
    }
);

on_each_broker!(
    fn a_version_that_is_slow_now_and_then_is_rolled_back_though_its_mean_is_small(broker: &Broker) {
        let mut case = Case::start(broker, "mode = 'canary', share = '100%', events = 5000, latency_max = '4ms'");
        let old = bytes("identity");
        case.deploy_candidate(&bytes("faulty"));
        let ended = case.produce_until_it_ends(|number| if number % 20 == 7 { "spin:100" } else { "ok" });
        assert_eq!(ended["outcome"], "aborted", "{ended}");
        assert!(ended["latency_us"].as_u64() < Some(4000), "{ended}");
        let reason = ended["reason"].as_str().expect("a reason");
        assert!(reason.contains("events that were timed took longer than `latency_max`, 4ms"), "{reason}");
        assert_eq!(case.live(), version(&old));
        let ended_by = case.metric("trials_ended_total");
        assert_eq!(ended_by, [r#"{plugin="subject",outcome="aborted",reason="latency_max"} 1"#]);
        let produced = case.produced;
        let (outputs, letters) = case.finish();
        assert_eq!(letters, []);
        check_complete(&outputs, 0..produced);
    }
);

// What follows from orders and over restarts has nothing to do with the broker.

#[test]
fn operators_end_a_trial_as_they_like() {
    let broker = Broker::embedded();
    let case = Case::start(&broker, "mode = 'canary', share = '50%'");
    let [second, third] = ["second", "third"].map(|name| another(bytes("identity"), name));
    assert_eq!(case.order("/api/v1/plugins/subject/promote").code, 409);
    assert_eq!(case.order("/api/v1/plugins/unheard-of/abort").code, 404);
    case.deploy_candidate(&second);
    let labels = format!(r#"{{plugin="subject",version="{}",mode="canary"}}"#, &version(&second)[..8]);
    assert_eq!(case.metric("trial_share"), [format!("{labels} 0.5")]);
    assert_eq!(case.metric("trial_events_total"), [format!("{labels} 0")]);
    let promoted = case.order("/api/v1/plugins/subject/promote");
    assert_eq!((promoted.code, &promoted.json()["changed"]), (200, &true.into()), "{}", promoted.body);
    assert_eq!((case.live(), case.candidate()), (version(&second), serde_json::Value::Null));
    assert_eq!(case.metric("trial_share"), Vec::<String>::new());
    let ended = r#"{plugin="subject",outcome="promoted",reason="ordered"} 1"#;
    assert_eq!(case.metric("trials_ended_total"), [ended]);
    case.deploy_candidate(&third);
    assert_eq!(case.order("/api/v1/plugins/subject/abort").code, 200);
    assert_eq!((case.live(), case.candidate()), (version(&second), serde_json::Value::Null));
    assert_eq!(case.report()["last_trial"]["outcome"], "aborted");
    // It is tried again only once it has been away.
    assert_eq!(case.order("/api/v1/reload").code, 200);
    assert_eq!(case.candidate(), serde_json::Value::Null);
    case.deploy(&second);
    wait_until("nothing is tried", DEADLINE, || case.order("/api/v1/reload").code == 200 && case.candidate().is_null());
    assert_eq!(case.live(), version(&second));
}

#[test]
fn a_trial_begins_anew_with_a_restart_and_what_was_given_up_stays_so() {
    let broker = Broker::embedded();
    let mut case = Case::start(&broker, "mode = 'canary', share = '50%'");
    let (old, new) = (bytes("identity"), another(bytes("identity"), "second"));
    case.deploy_candidate(&new);
    let generation = case.report()["generation"].clone();
    case.kill_and_start();
    let report = case.report();
    assert_eq!((case.live(), &case.candidate()["sha256"]), (version(&old), &version(&new).into()), "{report}");
    assert_eq!(report["generation"], generation, "what ran before has its number");
    assert_eq!(case.order("/api/v1/plugins/subject/abort").code, 200);
    case.kill_and_start();
    assert_eq!((case.live(), case.candidate()), (version(&old), serde_json::Value::Null));
}
