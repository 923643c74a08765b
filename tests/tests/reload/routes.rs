//! Routes and groups that come, go and move while events flow: where each begins, and what it has been given.

use midplane_tests::{Broker, Record, on_each_broker};

use crate::load::{Course, Load, PARTITIONS};
use crate::setting::{Setting, impatient, marked};

/// Numbers as events of one partition.
fn numbered(from: usize, to: usize) -> impl Iterator<Item = Record> {
    (from..to).map(|number| Record::new("k", number.to_string()).to(0))
}

fn values(records: &[Record]) -> Vec<usize> {
    records.iter().map(|record| record.text().parse().expect("a number")).collect()
}

fn numbers(expected: impl Iterator<Item = usize>) -> Vec<usize> {
    expected.collect()
}

/// A route that only forwards.
fn route(name: &str, from: &str, to: &str, group: &str) -> String {
    format!(
        r#"
        [routes.{name}]
        from = "{from}~"
        to = "{to}~"
        group = "{group}~"
        failure = {{ dead_letter = "letters~" }}
        "#
    )
}

/// The same config with one shard for each of its groups, whatever the machine has: another number is a case of its own.
fn with_single_shards(config: &str) -> String {
    let groups = config.lines().filter_map(|line| line.trim().strip_prefix("group = "));
    let groups: std::collections::BTreeSet<_> = groups.collect();
    groups.iter().fold(config.to_owned(), |config, group| format!("{config}\n[groups.{group}]\nshards = 1\n"))
}

fn setting<'b>(broker: &'b Broker, topics: &[&str], config: &str) -> Setting<'b> {
    let setting = Setting::new(broker, config);
    topics.iter().chain(&["letters"]).for_each(|topic| setting.create(topic, 1));
    setting
}

on_each_broker!(
    fn a_route_that_is_added_begins_where_its_group_stands(broker: &Broker) {
        let one = route("one", "in", "one", "group");
        let setting = setting(broker, &["in", "one", "two"], &one);
        let host = setting.start();
        setting.produce("in", numbered(0, 100));
        setting.wait_for("one", 100);
        setting.configure(&format!("{one}{}", route("two", "in", "two", "group")));
        host.reload_to_another();
        setting.produce("in", numbered(100, 200));
        setting.wait_settled("group", "in");
        let _log = host.stop();
        assert_eq!(values(&setting.all("one")), numbers(0..200));
        assert_eq!(values(&setting.all("two")), numbers(100..200));
    }
);

on_each_broker!(
    fn a_route_put_back_begins_at_the_position_of_its_group(broker: &Broker) {
        let one = route("one", "in", "one", "group");
        let both = format!("{one}{}", route("two", "in", "two", "group"));
        let setting = setting(broker, &["in", "one", "two"], &both);
        let host = setting.start();
        setting.produce("in", numbered(0, 100));
        setting.wait_for("two", 100);
        setting.configure(&one);
        host.reload_to_another();
        setting.produce("in", numbered(100, 200));
        setting.wait_for("one", 200);
        setting.configure(&both);
        host.reload_to_another();
        setting.produce("in", numbered(200, 300));
        setting.wait_settled("group", "in");
        let _log = host.stop();
        assert_eq!(values(&setting.all("one")), numbers(0..300));
        assert_eq!(values(&setting.all("two")), numbers((0..100).chain(200..300)));
    }
);

on_each_broker!(
    fn the_last_route_of_a_topic_put_back_goes_on_at_the_old_offset(broker: &Broker) {
        let one = route("one", "in", "one", "group");
        let both = format!("{one}{}", route("other", "other", "two", "group"));
        let setting = setting(broker, &["in", "one", "other", "two"], &both);
        let host = setting.start();
        let mut sent = 0;
        let mut produce = || {
            setting.produce("in", numbered(sent, sent + 50));
            setting.produce("other", numbered(sent, sent + 50));
            sent += 50;
        };
        produce();
        setting.wait_for("two", 50);
        // With time for the group to notice, and without.
        let rounds = [true, false, false, true, false];
        for waits in rounds {
            produce();
            setting.configure(&one);
            host.reload_to_another();
            produce();
            if waits {
                setting.wait_settled("group", "in");
            }
            setting.configure(&both);
            host.reload_to_another();
            produce();
            if waits {
                setting.wait_settled("group", "other");
            }
        }
        setting.wait_settled("group", "in");
        setting.wait_settled("group", "other");
        let _log = host.stop();
        let expected = numbers(0..50 + 150 * rounds.len());
        assert_eq!(values(&setting.all("one")), expected);
        assert_eq!(values(&setting.all("two")), expected);
    }
);

on_each_broker!(
    fn a_group_that_is_added_begins_where_it_says(broker: &Broker) {
        let one = route("one", "in", "one", "group");
        let setting = setting(broker, &["in", "one", "two", "three"], &one);
        let host = setting.start();
        setting.produce("in", numbered(0, 100));
        setting.wait_for("one", 100);
        let latest = r#"[groups."late~"]
            start = "latest"
        "#;
        let [early, late] =
            [route("two", "in", "two", "early"), format!("{latest}{}", route("three", "in", "three", "late"))];
        setting.configure(&format!("{one}{early}{late}"));
        host.reload_to_another();
        setting.produce("in", numbered(100, 200));
        ["group", "early", "late"].iter().for_each(|group| setting.wait_settled(group, "in"));
        let _log = host.stop();
        assert_eq!(values(&setting.all("one")), numbers(0..200));
        assert_eq!(values(&setting.all("two")), numbers(0..200));
        assert_eq!(values(&setting.all("three")), numbers(100..200));
    }
);

on_each_broker!(
    fn a_group_is_retired_and_comes_back(broker: &Broker) {
        let one = route("one", "in", "one", "group");
        let both = format!("{one}{}", route("two", "in", "two", "second"));
        let setting = setting(broker, &["in", "one", "two"], &both);
        let host = setting.start();
        setting.produce("in", numbered(0, 100));
        setting.wait_settled("second", "in");
        setting.configure(&format!("{one}\n[groups.\"second~\"]\nretired = true\n"));
        host.reload_to_another();
        setting.produce("in", numbered(100, 200));
        setting.wait_for("one", 200);
        assert_eq!(values(&setting.all("two")), numbers(0..100), "a retired group reads nothing");
        setting.configure(&both);
        host.reload_to_another();
        setting.wait_settled("second", "in");
        setting.wait_settled("group", "in");
        let _log = host.stop();
        assert_eq!(values(&setting.all("one")), numbers(0..200));
        assert_eq!(values(&setting.all("two")), numbers(0..200), "it goes on where it stood");
    }
);

on_each_broker!(
    fn a_halted_partition_goes_on_once_a_reload_mends_it(broker: &Broker) {
        let faulty = |policy: &str| {
            format!(
                r#"
                [routes.faulty]
                from = "in~"
                through = "faulty"
                to = "one~"
                group = "group~"
                failure = {{ dead_letter = "letters~", on_permanent = "{policy}" }}
                "#
            )
        };
        let setting = setting(broker, &["in", "one"], &faulty("halt"));
        let faulty_bytes = std::fs::read(midplane_tests::plugins::wasm("faulty")).expect("the plugin's file");
        setting.install("faulty", &faulty_bytes);
        let host = setting.start();
        let orders = |values: &[&str]| values.iter().map(|value| Record::of(value).to(0)).collect::<Vec<_>>();
        setting.produce("in", orders(&["ok 1", "permanent", "ok 2"]));
        host.host.wait_for_entry("A partition has halted: `midplane partition list` says why.");
        setting.wait_for("one", 1);
        setting.produce("in", orders(&["ok 3"]));
        setting.configure(&faulty("dead-letter"));
        host.reload_to_another();
        setting.wait_settled("group", "in");
        let _log = host.stop();
        let texts = |topic: &str| setting.all(topic).iter().map(|record| record.text().to_owned()).collect::<Vec<_>>();
        assert_eq!(texts("one"), ["ok 1", "ok 2", "ok 3"]);
        assert_eq!(texts("letters"), ["permanent"]);
    }
);

const COURSE: Course = Course { from: "in", to: "out", rate: 1000, outputs: 1 };

/// A route that goes from group to group under a load, and back: its old group keeps other routes of the same topic, routes
/// of another one, or none.
fn move_about(broker: &Broker, others: &str) {
    let config = |group: &str| with_single_shards(&format!("{}{others}", route("moved", "in", "out", group)));
    let setting = Setting::flowing(broker, &config("first"));
    ["other", "rest"].iter().for_each(|topic| setting.create(topic, PARTITIONS));
    let host = setting.start();
    let load = Load::start(&setting, COURSE);
    load.wait_for_generation("moved", host.number());
    for group in ["second", "third"] {
        setting.configure(&config(group));
        let generation = host.reload_to_another();
        load.wait_for_generation("moved", generation);
        load.wait_for_more();
    }
    load.dry_up();
    setting.wait_settled("third", "in");
    let _log = host.stop();
    load.finish();
}

on_each_broker!(
    fn a_route_moved_from_its_group_of_its_own_goes_on_where_it_stood(broker: &Broker) {
        move_about(broker, "");
    }
);

on_each_broker!(
    fn a_route_moved_from_a_group_that_reads_on_goes_on_where_it_stood(broker: &Broker) {
        move_about(broker, &route("stays", "in", "rest", "first"));
    }
);

on_each_broker!(
    fn a_route_moved_from_a_group_of_other_topics_goes_on_where_it_stood(broker: &Broker) {
        move_about(broker, &route("stays", "other", "rest", "first"));
    }
);

on_each_broker!(
    fn shards_come_and_go_live(broker: &Broker) {
        let setting = Setting::flowing(broker, &marked("marked", 1));
        setting.install("marker", &crate::setting::Marker::new().version(0).0);
        let host = setting.start();
        let load = Load::start(&setting, Course { outputs: 2, ..COURSE });
        load.wait_for_generation("marked", host.number());
        for shards in [4, 2, 3, 1] {
            setting.configure(&marked("marked", shards));
            let generation = host.reload_to_another();
            load.wait_for_generation("marked", generation);
            let running = || setting.broker.lag(&setting.named("group~"), &setting.named("in~")) < 1000;
            midplane_tests::wait_until("the shards keep up", crate::setting::PATIENCE, running);
            load.wait_for_more();
        }
        load.dry_up();
        setting.wait_settled("group", "in");
        let _log = host.stop();
        load.finish().assert_versions("marked", &[].into());
    }
);

/// Two routes between two groups, each from a topic of its own.
fn crossed(first: &str, second: &str) -> String {
    with_single_shards(&format!("{}{}", route("one", "in", "one", first), route("two", "other", "two", second)))
}

/// Sends so many numbers to both routes of [`crossed`], and waits until they are through.
fn send_both(setting: &Setting<'_>, numbers: std::ops::Range<usize>, [first, second]: [&str; 2]) {
    setting.produce("in", numbered(numbers.start, numbers.end));
    setting.produce("other", numbered(numbers.start, numbers.end));
    setting.wait_settled(first, "in");
    setting.wait_settled(second, "other");
}

on_each_broker!(
    fn routes_that_change_places_go_on_where_they_stood(broker: &Broker) {
        let setting = setting(broker, &["in", "other", "one", "two"], &crossed("first", "second"));
        let host = setting.start();
        send_both(&setting, 0..100, ["first", "second"]);
        setting.configure(&crossed("second", "first"));
        host.reload_to_another();
        send_both(&setting, 100..200, ["second", "first"]);
        let _log = host.stop();
        assert_eq!(values(&setting.all("one")), numbers(0..200));
        assert_eq!(values(&setting.all("two")), numbers(0..200));
    }
);

on_each_broker!(
    fn a_route_that_moves_on_a_chain_goes_on_where_it_stood(broker: &Broker) {
        let setting = setting(broker, &["in", "other", "one", "two"], &crossed("first", "second"));
        let host = setting.start();
        send_both(&setting, 0..100, ["first", "second"]);
        // The group that gets the one loses the other.
        setting.configure(&crossed("second", "third"));
        host.reload_to_another();
        send_both(&setting, 100..200, ["second", "third"]);
        let _log = host.stop();
        assert_eq!(values(&setting.all("one")), numbers(0..200));
        assert_eq!(values(&setting.all("two")), numbers(0..200));
    }
);

on_each_broker!(
    fn a_route_that_has_just_moved_goes_on_where_it_stood_after_one_more_reload(broker: &Broker) {
        let setting = setting(broker, &["in", "other", "one", "two"], &crossed("first", "second"));
        let host = setting.start();
        send_both(&setting, 0..100, ["first", "second"]);
        for (round, group) in ["second", "third", "fourth"].into_iter().enumerate() {
            setting.configure(&crossed(group, "second"));
            host.reload_to_another();
            setting.configure(&format!("{}\n# again\n", crossed(group, "second")));
            host.reload_to_another();
            send_both(&setting, 100 * (round + 1)..100 * (round + 2), [group, "second"]);
        }
        let _log = host.stop();
        assert_eq!(values(&setting.all("one")), numbers(0..400));
        assert_eq!(values(&setting.all("two")), numbers(0..400));
    }
);

on_each_broker!(
    fn a_route_that_has_just_moved_goes_on_where_it_stood_after_a_kill(broker: &Broker) {
        let config = |group: &str| format!("{}{}", impatient(broker), crossed(group, "second"));
        let setting = setting(broker, &["in", "other", "one", "two"], &config("first"));
        let host = setting.start();
        send_both(&setting, 0..100, ["first", "second"]);
        // Nothing is in flight: whatever came out twice was committed before.
        setting.configure(&config("third"));
        host.reload_to_another();
        host.host.kill();
        let host = setting.start();
        setting.produce("in", numbered(100, 200));
        setting.wait_settled("third", "in");
        let _log = host.stop();
        assert_eq!(values(&setting.all("one")), numbers(0..200));
    }
);

on_each_broker!(
    fn a_route_that_moves_while_its_host_is_stopped_goes_on_where_it_stood(broker: &Broker) {
        let setting = setting(broker, &["in", "other", "one", "two"], &crossed("first", "second"));
        let host = setting.start();
        send_both(&setting, 0..100, ["first", "second"]);
        let _log = host.stop();
        setting.produce("in", numbered(100, 200));
        setting.configure(&crossed("third", "second"));
        let host = setting.start();
        setting.wait_settled("third", "in");
        let _log = host.stop();
        assert_eq!(values(&setting.all("one")), numbers(0..200));
    }
);

on_each_broker!(
    fn a_guarantee_changes_live(broker: &Broker) {
        let config = |guarantee: &str| {
            marked("marked", 2).replace("shards = 2", &format!("shards = 2\nguarantee = \"{guarantee}\""))
        };
        let setting = Setting::flowing(broker, &config("at-least-once"));
        let marker = crate::setting::Marker::new();
        setting.install("marker", &marker.version(0).0);
        let host = setting.start();
        let load = Load::start(&setting, Course { outputs: 2, ..COURSE });
        load.wait_for_generation("marked", host.number());
        for (mark, guarantee) in (1..).zip(["exactly-once", "at-least-once", "exactly-once"]) {
            setting.configure(&config(guarantee));
            let generation = host.reload_to_another();
            load.wait_for_generation("marked", generation);
            setting.install("marker", &marker.version(mark).0);
            let generation = host.reload_to_another();
            load.wait_for_generation("marked", generation);
            load.wait_for_more();
        }
        load.dry_up();
        setting.wait_settled("group", "in");
        let _log = host.stop();
        load.finish_transactions();
    }
);
