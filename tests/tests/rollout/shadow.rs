//! Candidates that are compared with the live version.

use midplane_tests::on_each_broker;

use crate::case::{Case, another, bytes, check_complete, origin, version};

/// Every event was answered, once, by the live version alone.
fn check_untouched(case: Case<'_>, live: &[u8]) {
    let (produced, version) = (case.produced, version(live));
    let (outputs, letters) = case.finish();
    assert_eq!(letters, []);
    check_complete(&outputs, 0..produced);
    assert!(outputs.iter().all(|output| origin(output).version == version[..8]));
}

on_each_broker!(
    fn a_version_that_answers_as_the_live_one_does_is_promoted(broker: &Broker) {
        let mut case = Case::start(broker, "mode = 'shadow', events = 400");
        let new = another(bytes("identity"), "second");
        case.deploy_candidate(&new);
        let ended = case.produce_until_it_ends(|_| "ok");
        assert_eq!((&ended["outcome"], &ended["differences"]), (&"promoted".into(), &0.into()), "{ended}");
        assert!(ended["events"].as_u64() >= Some(400), "{ended}");
        assert_eq!(case.live(), version(&new));
        let produced = case.produced;
        let (outputs, letters) = case.finish();
        assert_eq!(letters, []);
        check_complete(&outputs, 0..produced);
    }
);

on_each_broker!(
    fn a_version_that_answers_one_event_in_a_hundred_otherwise_is_rolled_back(broker: &Broker) {
        let mut case = Case::start(broker, "mode = 'shadow', events = 2000");
        case.deploy_candidate(&bytes("faulty"));
        let ended = case.produce_until_it_ends(|number| if number % 100 == 57 { "outputs:2" } else { "ok" });
        assert_eq!(ended["outcome"], "aborted", "{ended}");
        assert!(ended["reason"].as_str().is_some_and(|reason| reason.contains("`differences_max`")), "{ended}");
        assert_eq!(ended["sample"]["reason"], "it made 2 outputs instead of 1");
        let origin = ended["sample"]["origin"].as_str().expect("an origin");
        assert!(origin.starts_with("in-"), "{origin}");
        check_untouched(case, &bytes("identity"));
    }
);

on_each_broker!(
    fn whatever_goes_wrong_in_the_shadow_touches_nothing(broker: &Broker) {
        let mut case = Case::start(
            broker,
            "mode = 'shadow', events = 2000, differences_max = 1.0, errors_max = 0.01, latency_max = '1s'",
        );
        case.deploy_candidate(&bytes("faulty"));
        let word = |number: usize| match number % 50 {
            3 => "trap",
            13 => "loop",
            23 => "output-bytes",
            33 => "transient",
            _ => "ok",
        };
        let ended = case.produce_until_it_ends(word);
        assert_eq!(ended["outcome"], "aborted", "{ended}");
        assert!(ended["reason"].as_str().is_some_and(|reason| reason.contains("`errors_max`")), "{ended}");
        check_untouched(case, &bytes("identity"));
    }
);
