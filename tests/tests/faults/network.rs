//! The network as a whole: away, silent, slow, narrow, unsteady.

use std::time::Duration;

use midplane_tests::payments::{Payments, Setup};
use midplane_tests::proxy::{ApiKey, Proxy, Side};
use midplane_tests::wait::{DEADLINE, wait_until};
use midplane_tests::{http, on_each_broker};

use crate::case::{Case, both, exactly_once};

/// Longer than sessions last.
const OUTAGE: Duration = Duration::from_secs(7);
/// Events that take a thin line longer than a transaction may take, with the fetches that bring them, and what passes in a second.
const BACKLOG: usize = 12_000;
const FETCHES: usize = 40;
const THIN: u64 = 250_000;

on_each_broker!(
    fn a_broker_that_is_away_at_the_start(broker: &Broker) {
        let proxy = Proxy::start(broker.servers());
        let mut payments = Payments::with(broker, &Setup { servers: Some(proxy.servers().to_owned()), ..both() });
        payments.send_up_to(1000);
        proxy.refuse();
        let folder = payments.folder();
        let host = folder.spawn(&[]);
        host.wait_for_entry("The broker does not answer; waiting for it.");
        assert_eq!(host.get("/readyz").code, 503);
        assert!(proxy.tally().refused > 0);
        proxy.heal();
        host.wait_ready();
        payments.wait_settled();
        assert_eq!(host.stop(), Some(0));
        payments.assert();
    }
);

on_each_broker!(
    fn a_broker_that_is_away_in_between(broker: &Broker) {
        let mut case = Case::start(broker, both());
        case.payments.interrupted();
        case.pile_up();
        case.be_away_for(OUTAGE);
        assert!(case.proxy.tally().refused > 0);
        case.finish();
    }
);

on_each_broker!(
    fn orders_while_a_broker_is_away(broker: &Broker) {
        let mut case = Case::start(broker, both());
        case.payments.interrupted();
        case.proxy.refuse();
        assert!(case.proxy.cut() > 0, "nobody was connected");
        // What needs the broker is refused, and nothing waits for it: not for what doesn't, either.
        let interval = "commit_interval = \"50ms\"\n            guarantee";
        case.folder.write(&case.payments.config().replace("guarantee", interval));
        let order = |path: &str| http::post(&case.host.admin(), path, "").expect("an answer");
        let refused = order("/api/v1/reload");
        assert_eq!(refused.code, 504, "{}", refused.body);
        assert!(refused.body.contains("no answer from the broker"), "{}", refused.body);
        let route = case.payments.groups().next().expect("a route is named after its group").to_owned();
        for hand in ["pause", "resume"] {
            assert_eq!(order(&format!("/api/v1/routes/{route}/{hand}")).code, 200);
        }
        wait_until("it is said", DEADLINE, || case.host.get("/readyz").body.contains("the broker does not answer"));
        case.proxy.heal();
        wait_until("the reload is made up for", DEADLINE, || {
            case.host.get("/api/v1/generation").json()["generation"] == 2
        });
        case.work();
        case.finish();
    }
);

on_each_broker!(
    fn a_broker_that_is_silent(broker: &Broker) {
        let mut case = Case::start(broker, both());
        case.payments.interrupted();
        case.pile_up();
        case.be_silent_for(OUTAGE);
        case.finish();
    }
);

on_each_broker!(
    fn a_broker_that_is_slow(broker: &Broker) {
        let mut case = Case::start(broker, both());
        case.payments.interrupted();
        case.proxy.delay(Duration::from_millis(50));
        case.work();
        case.payments.wait_settled();
        assert!(case.proxy.tally().delayed > 20, "{:?}", case.proxy.tally());
        case.finish();
    }
);

on_each_broker!(
    fn a_broker_that_is_far_away(broker: &Broker) {
        let mut case = Case::start(broker, both());
        case.payments.interrupted();
        case.proxy.delay(Duration::from_millis(250));
        case.work();
        // Not only once it is near again.
        case.payments.wait_settled();
        case.finish();
    }
);

on_each_broker!(
    fn a_broker_that_takes_less_than_there_is(broker: &Broker) {
        let mut case = Case::start(broker, exactly_once());
        // The host has far more in hand than passes in the time that a transaction may take.
        let held = case.proxy.hold(Side::Request, ApiKey::Produce, usize::MAX);
        case.payments.send_up_to(case.payments.sent() + BACKLOG);
        held.wait();
        let fetched = case.proxy.passed(Side::Answer, ApiKey::Fetch);
        wait_until("more is fetched", DEADLINE, || case.proxy.passed(Side::Answer, ApiKey::Fetch) > fetched + FETCHES);
        case.proxy.throttle(THIN);
        held.release();
        case.payments.wait_settled();
        case.finish();
    }
);

on_each_broker!(
    fn a_broker_behind_a_narrow_line(broker: &Broker) {
        let mut case = Case::start(broker, both());
        case.payments.interrupted();
        let before = case.payments.sent();
        case.proxy.throttle(300_000);
        case.work();
        case.payments.wait_past(before);
        wait_until("frames wait for the line", DEADLINE, || case.proxy.tally().throttled > 20);
        case.finish();
    }
);

on_each_broker!(
    fn a_broker_behind_an_unsteady_line(broker: &Broker) {
        let mut case = Case::start(broker, both());
        case.payments.interrupted();
        case.pile_up();
        case.be_unsteady(12);
        case.finish();
    }
);
