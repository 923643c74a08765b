//! A host that is killed in the middle of reloads: what runs afterwards is the old generation or the new one, whole.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use midplane_tests::wait::{DEADLINE, wait_until};
use midplane_tests::{Broker, http, on_each_broker};

use crate::load::{Course, Load};
use crate::setting::{Marker, Running, Setting, impatient, marked};

const COURSE: Course = Course { from: "in", to: "out", rate: 200, outputs: 2 };
/// On the embedded broker, and on Kafka, which takes six seconds to miss a member that was killed.
const ROUNDS: [u32; 2] = [30, 10];
const MOVES: [u32; 2] = [10, 2];
/// A reload is over after this, mostly.
const KILL_AFTER_MS_MAX: u64 = 400;

on_each_broker!(
    fn a_host_killed_in_a_reload_comes_back_with_the_old_generation_or_the_new(broker: &Broker) {
        let rounds = ROUNDS[usize::from(!broker.is_embedded())];
        let setting = Setting::flowing(broker, &format!("{}{}", hasty(broker), marked("marked", 1)));
        let marker = Marker::new();
        setting.install("marker", &marker.version(0).0);
        let mut host = setting.start();
        let load = Load::start(&setting, COURSE);
        let mut numbers = BTreeMap::from([(host.number(), host.version("marker"))]);
        let (mut new, mut live, mut interrupted) = (0, 0, 0);
        for round in 1..=rounds {
            let number = host.number();
            let (old_bytes, old) = marker.version(live);
            let (bytes, next) = marker.version(round);
            load.wait_for_generation("marked", number);
            setting.install("marker", &bytes);
            let (answered, lost) = kill_in_a_reload(host);
            interrupted += lost + 1;
            // Every other time the deployment is taken back while nothing runs.
            if round % 2 == 0 {
                setting.install("marker", &old_bytes);
            }
            host = setting.start();
            let (restarted, version) = (host.number(), host.version("marker"));
            assert!(restarted >= number, "round {round}: generation {restarted} after {number}");
            assert!([old, next].contains(&version), "round {round}: neither the old version nor the new one runs");
            assert!(restarted > number || version == old, "round {round}: generation {number} runs something else now");
            let known = numbers.entry(restarted).or_insert(version);
            assert_eq!(*known, version, "round {round}: generation {restarted} was something else before");
            new += u32::from(answered);
            live = if version == next { round } else { live };
        }
        eprintln!("{new} of {rounds} reloads were over when the host was killed");
        let sent = load.dry_up();
        setting.wait_settled("group", "in");
        interrupted += host.host.lost_partitions();
        let _log = host.stop();
        let outputs = load.collect();
        outputs.assert_nothing_lost(sent, interrupted);
        outputs.assert_versions("marked", &BTreeMap::new());
        assert_eq!(setting.all("letters"), []);
    }
);

/// A route that goes from group to group. Each of those would begin with what comes next, if nobody knew better.
fn moving(broker: &Broker, group: u32) -> String {
    format!(
        r#"{}
        [groups."group-{group}~"]
        start = "latest"
        shards = 1

        [routes.moving]
        from = "in~"
        to = "out~"
        group = "group-{group}~"
        failure = {{ dead_letter = "letters~" }}
        "#,
        hasty(broker)
    )
}

on_each_broker!(
    fn a_host_killed_while_a_route_moves_passes_nothing_over(broker: &Broker) {
        let rounds = MOVES[usize::from(!broker.is_embedded())];
        let setting = Setting::flowing(broker, &moving(broker, 0));
        let mut host = setting.start();
        let load = Load::start(&setting, Course { outputs: 1, ..COURSE });
        let (mut moved, mut interrupted) = (0, 0);
        for group in 1..=rounds {
            load.wait_for_generation("moving", host.number());
            setting.configure(&moving(broker, group));
            let (answered, lost) = kill_in_a_reload(host);
            (moved, interrupted) = (moved + u32::from(answered), interrupted + lost + 1);
            host = setting.start();
        }
        eprintln!("{moved} of {rounds} moves were over when the host was killed");
        load.wait_for_generation("moving", host.number());
        let sent = load.dry_up();
        setting.wait_settled(&format!("group-{rounds}"), "in");
        interrupted += host.host.lost_partitions();
        let _log = host.stop();
        load.collect().assert_nothing_lost(sent, interrupted);
    }
);

/// Asks a host to reload, and kills it in the middle of that, or a little later. Whether it had answered, and how often it had
/// lost its partitions.
fn kill_in_a_reload(host: Running) -> (bool, usize) {
    let asking = std::thread::spawn({
        let admin = host.admin.clone();
        // It may be killed before it answers, or before it listens to anybody.
        move || http::post(&admin, "/api/v1/reload", "")
    });
    let (begin, wait) = (Instant::now(), random_wait());
    wait_until("it is time", DEADLINE, || begin.elapsed() >= wait);
    let lost = host.host.lost_partitions();
    host.host.kill();
    (asking.join().expect("no panic").is_ok_and(|answer| answer.code == 200), lost)
}

/// As [`impatient`], and as much sooner as the broker allows: where members are missed that live, events are repeated, which they
/// may be here.
fn hasty(broker: &Broker) -> &'static str {
    match broker.is_embedded() {
        true => "client = { 'session.timeout.ms' = '600', 'heartbeat.interval.ms' = '150' }\n",
        false => impatient(broker),
    }
}

/// Some time, as good as any.
fn random_wait() -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Duration::from_millis(u64::from(now.subsec_nanos()) / 1000 % KILL_AFTER_MS_MAX)
}
