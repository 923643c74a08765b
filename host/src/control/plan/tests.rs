//! Plans from configs as files would have them, and from what a broker might say.

use super::*;
use crate::control::overview::{DecisionKind, DecisionView, PluginView};

/// The view of a config with these tables, on Kafka.
fn config(tables: &str) -> ConfigView {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("midplane.toml");
    let broker = "[broker]\nbootstrap_servers = \"kafka:9092\"\n";
    let broker = if tables.contains("broker]") { "" } else { broker };
    std::fs::write(&file, format!("{broker}{tables}")).expect("writable");
    let loaded = crate::config::load(&file).unwrap_or_else(|problems| panic!("{problems}"));
    let mut view = ConfigView::of(&loaded.config);
    let place = folder.path().display().to_string();
    for value in view.settings.values_mut() {
        if let Value::Shown(text) = value {
            *text = text.replace(&place, "FOLDER");
        }
    }
    view
}

fn version(digit: char) -> String {
    digit.to_string().repeat(64)
}

fn plugin(name: &str, live: char) -> PluginView {
    PluginView {
        name: name.to_owned(),
        sha256: version(live),
        bytes: 1,
        loaded_at: "2026-01-01T00:00:00Z".to_owned(),
        directory_sha256: None,
        decision: None,
        candidate: None,
        versions: Vec::new(),
    }
}

fn live(config: ConfigView, plugins: Vec<PluginView>) -> Overview {
    Overview {
        generation: 7,
        hash: version('f'),
        config_sha256: version('c'),
        config_file: "midplane.toml".to_owned(),
        published_at: "2026-01-01T00:00:00Z".to_owned(),
        instance: "host-7".to_owned(),
        held: None,
        drift: Vec::new(),
        plugins,
        groups: Vec::new(),
        history: Vec::new(),
        config,
    }
}

fn next(config: ConfigView, directory: &[(&str, char)]) -> Next {
    let directory = directory.iter().map(|(name, digit)| ((*name).to_owned(), version(*digit)));
    Next { config, config_sha256: version('d'), directory: directory.collect(), ports: BTreeMap::new() }
}

/// A broker with these topics, of one partition each, and what groups committed there. Each partition holds 100 to 500.
fn broker(topics: &[&str], committed: &[(&str, &str, Option<i64>)]) -> OnBroker {
    let position = |(group, topic, committed): &(&str, &str, Option<i64>)| Position {
        group: (*group).to_owned(),
        topic: (*topic).to_owned(),
        partition: 0,
        committed: *committed,
        begin: 100,
        end: 500,
        start: 100,
    };
    OnBroker {
        topics: topics.iter().map(|topic| ((*topic).to_owned(), 1)).collect(),
        positions: committed.iter().map(position).collect(),
    }
}

const ROUTE: &str = "[routes.copy]\nfrom = \"in\"\nto = \"out\"\ngroup = \"a\"\n";
const TOPICS: &[&str] = &["in", "out", "copy.dead-letters"];

#[test]
fn keys_that_need_a_restart_are_named() {
    let config = |settings: &[(&str, &str)]| {
        let settings = settings.iter().map(|(key, value)| ((*key).to_owned(), Value::Shown((*value).to_owned())));
        ConfigView { settings: settings.collect(), ..ConfigView::default() }
    };
    let check = |live: &[(&str, &str)], next: &[(&str, &str)], expected: &[&str]| {
        assert_eq!(restart_keys(&config(live), &config(next)), expected, "{live:?} to {next:?}");
    };
    let kafka = [("broker.bootstrap_servers", "a:9092"), ("broker.create_topics", "false")];
    check(&kafka, &kafka, &[]);
    check(&kafka, &[("broker.bootstrap_servers", "b:9092"), kafka[1]], &["broker.bootstrap_servers"]);
    check(&kafka, &[kafka[0], kafka[1], ("broker.client.\"a\"", "1")], &["broker.client.\"a\""]);
    check(&kafka, &[("embedded_broker.listen", "127.0.0.1:0")], &["broker", "embedded_broker"]);
    check(
        &[("host.drain_timeout", "30s"), ("host.generations", "10")],
        &[("host.drain_timeout", "1m"), ("host.generations", "9")],
        &["host.drain_timeout", "host.generations"],
    );
    check(
        &[("admin.listen", "127.0.0.1:1"), ("admin.token_file", "a"), ("plugins.directory", "a")],
        &[("admin.listen", "127.0.0.1:2"), ("admin.token_file", "b"), ("plugins.directory", "b")],
        &["admin.listen"],
    );
}

#[test]
fn the_same_again_changes_nothing() {
    let broker = broker(TOPICS, &[("a", "in", Some(200))]);
    let plan = plan(&live(config(ROUTE), Vec::new()), &next(config(ROUTE), &[]), Some(&broker));
    assert!(!plan.changes() && !plan.same_bytes && plan.refused.is_empty() && plan.begins.is_empty(), "{plan:#?}");
}

#[test]
fn routes_come_change_move_and_go() {
    let before = config(&format!("{ROUTE}[routes.old]\nfrom = \"in\"\nto = \"out\"\ngroup = \"a\"\n"));
    let after = config(&format!(
        "[routes.new]\nfrom = \"in\"\nto = \"out\"\ngroup = \"a\"\n{}where = \"event.json.amount > 1\"\n",
        ROUTE.replace("\"out\"", "{ default = \"out\" }"),
    ));
    let plan = plan(&live(before, Vec::new()), &next(after, &[]), None);
    let routes: Vec<_> = plan.routes.iter().map(|route| (route.name.as_str(), route.change)).collect();
    assert_eq!(routes, [("new", Change::Added), ("copy", Change::Changed), ("old", Change::Removed)]);
    let filter = Value::Shown("event.json.amount > 1".to_owned());
    assert_eq!(plan.routes[1].keys, [KeyChange { key: "where".to_owned(), from: None, to: Some(filter) }]);
    assert!(plan.changes() && !plan.reordered);
}

#[test]
fn another_order_of_routes_is_a_change() {
    let other = "[routes.other]\nfrom = \"in\"\nto = \"out\"\ngroup = \"a\"\n";
    let (before, after) = (config(&format!("{ROUTE}{other}")), config(&format!("{other}{ROUTE}")));
    let plan = plan(&live(before, Vec::new()), &next(after, &[]), None);
    assert!(plan.reordered && plan.changes() && plan.routes.is_empty(), "{plan:#?}");
}

#[test]
fn versions_follow_the_directory_unless_somebody_decided() {
    let route = |plugins: &str| config(&format!("{ROUTE}through = [{plugins}]\n"));
    let mut pinned = plugin("pinned", '1');
    let decision = |kind, sha256, from: Option<char>| DecisionView {
        kind,
        sha256: version(sha256),
        from: from.map(version),
        since: "2026-01-02T00:00:00Z".to_owned(),
    };
    pinned.decision = Some(decision(DecisionKind::Pin, '1', None));
    let mut back = plugin("back", '1');
    back.decision = Some(decision(DecisionKind::Rollback, '1', Some('2')));
    let mut ended = plugin("ended", '1');
    ended.decision = Some(decision(DecisionKind::Rollback, '1', Some('2')));
    let before = route(r#""pinned", "back", "ended", "swapped", "same", "deleted", "unused""#);
    let after = route(r#""pinned", "back", "ended", "swapped", "same", "deleted", "added""#);
    let plain = ["swapped", "same", "deleted", "unused"].map(|name| plugin(name, '1'));
    let plugins = [pinned, back, ended].into_iter().chain(plain).collect();
    let directory = [
        ("pinned", '2'),
        ("back", '2'),
        ("ended", '3'),
        ("swapped", '2'),
        ("same", '1'),
        ("added", '4'),
        ("unused", '1'),
    ];
    let plan = plan(&live(before, plugins), &next(after, &directory), None);
    let seen: Vec<_> = plan
        .plugins
        .iter()
        .map(|plugin| {
            let digit =
                |sha256: &Option<String>| sha256.as_ref().map_or('-', |sha256| sha256.chars().next().expect("hex"));
            (plugin.name.as_str(), plugin.change, digit(&plugin.from), digit(&plugin.to))
        })
        .collect();
    assert_eq!(
        seen,
        [
            ("added", PluginChange::Added, '-', '4'),
            ("back", PluginChange::HeldBack, '1', '1'),
            ("deleted", PluginChange::HeldBack, '1', '1'),
            ("ended", PluginChange::Changed, '1', '3'),
            ("pinned", PluginChange::HeldBack, '1', '1'),
            ("swapped", PluginChange::Changed, '1', '2'),
            ("unused", PluginChange::Removed, '1', '-'),
        ]
    );
}

#[test]
fn a_new_version_is_tried_first_where_the_config_says_so_and_nobody_asked_for_it() {
    let check = |rollout: &str, decision: Option<DecisionView>, expected: Option<(&str, Option<&str>, u64, &str)>| {
        let config = config(&format!("{ROUTE}through = \"mask\"\n[plugin.mask]\n{rollout}\n"));
        let view = PluginView { decision, ..plugin("mask", '1') };
        let plan = plan(&live(config.clone(), vec![view]), &next(config, &[("mask", '2')]), None);
        let [PluginPlan { change: PluginChange::Changed, trial, .. }] = &*plan.plugins else {
            panic!("{:#?}", plan.plugins);
        };
        let trial = trial.as_ref().map(|it| (it.mode.as_str(), it.share.as_deref(), it.events, it.time.as_str()));
        assert_eq!(trial, expected, "{rollout}");
    };
    let canary = "rollout = { mode = 'canary', share = '7%', events = 500, time = '90s' }";
    check("", None, None);
    check(canary, None, Some(("canary", Some("7%"), 500, "90s")));
    check("rollout = { mode = 'shadow' }", None, Some(("shadow", None, 10_000, "10m")));
    check(&format!("{canary}\nsha256 = '{}'", version('2')), None, None);
    let since = "2026-01-02T00:00:00Z".to_owned();
    let pin = DecisionView { kind: DecisionKind::Pin, sha256: version('2'), from: None, since };
    check(canary, Some(pin), None);
}

#[test]
fn versions_that_are_held_back_are_no_change() {
    let config = config(&format!("{ROUTE}through = \"mask\"\n"));
    let plan = plan(&live(config.clone(), vec![plugin("mask", '1')]), &next(config, &[]), None);
    assert_eq!(plan.plugins[0].note.as_deref(), Some("its file is gone from the directory"));
    assert!(!plan.changes());
}

#[test]
fn what_is_refused_says_what_to_do() {
    let before = config(ROUTE);
    let after = config(&format!(
        "[broker]\nbootstrap_servers = \"other:9092\"\n[host]\ngenerations = 3\n{}",
        ROUTE.replace("\"a\"", "\"b\"").replace("routes.copy", "routes.other")
    ));
    let plan = plan(&live(before.clone(), Vec::new()), &next(after, &[]), Some(&broker(&["in"], &[])));
    assert_eq!(
        plan.refused,
        [
            "`broker.bootstrap_servers` needs a restart to change",
            "`host.generations` needs a restart to change",
            "group `a` has no routes any more; if it is to be dropped, say so: `[groups.a] retired = true`",
            "topics that routes write to do not exist; make them with `midplane topic create other.dead-letters out`, or set \
             `create_topics = true` in [broker]",
        ]
    );
    let dropped = |tables: &str| dropped(&before, &config(tables));
    let other = "[routes.other]\nfrom = \"in\"\nto = \"out\"\ngroup = \"b\"\n";
    assert_eq!(dropped(other), ["a"]);
    assert_eq!(dropped(&format!("{other}[groups.a]\nretired = true\n")), Vec::<String>::new());
    assert_eq!(dropped(&ROUTE.replace("\"a\"", "\"b\"")), Vec::<String>::new());
    assert_eq!(dropped(&format!("{other}was = \"copy\"\n")), Vec::<String>::new());
}

#[test]
fn topics_are_made_where_the_config_says_so() {
    let made = |tables: &str| -> Vec<(String, TopicRole, bool)> {
        let view = config(&format!("{tables}{ROUTE}"));
        let plan = plan(&live(view.clone(), Vec::new()), &next(view, &[]), Some(&broker(&["out"], &[])));
        plan.topics.into_iter().map(|plan| (plan.topic, plan.role, plan.made)).collect()
    };
    let topics = |output, input| {
        vec![
            ("copy.dead-letters".to_owned(), TopicRole::DeadLetter, output),
            ("in".to_owned(), TopicRole::Input, input),
        ]
    };
    assert_eq!(made(""), topics(false, false));
    assert_eq!(made("[broker]\nbootstrap_servers = \"kafka:9092\"\ncreate_topics = true\n"), topics(true, false));
    assert_eq!(made("[embedded_broker]\n"), topics(true, true));
}

#[test]
fn routes_begin_where_the_host_lets_them_begin() {
    let moved = ROUTE.replace("\"a\"", "\"b\"") + "[groups.a]\nretired = true\n";
    let added = format!("{ROUTE}[routes.new]\nfrom = \"in\"\nto = \"out\"\ngroup = \"a\"\n");
    let wider = ROUTE.replace("\"in\"", "[\"in\", \"/^more/\"]");
    let check = |after: &str,
                 committed: &[(&str, &str, Option<i64>)],
                 expected: &[(&str, i64, Origin, i64, i64, i64)]| {
        let on_broker = broker(&["in", "more-1", "__more", "out", "copy.dead-letters", "new.dead-letters"], committed);
        let plan = plan(&live(config(ROUTE), Vec::new()), &next(config(after), &[]), Some(&on_broker));
        let begins: Vec<_> = plan
            .begins
            .iter()
            .flat_map(|begin| begin.partitions.iter().map(|partition| (begin.topic.as_str(), partition)))
            .map(|(topic, at)| (topic, at.offset, at.origin, at.skipped, at.repeated, at.waiting))
            .collect();
        assert_eq!(begins, expected, "{after} {committed:?}");
    };
    let a = ("a", "in", Some(300));
    // A route new to a group begins where the group stands.
    check(&added, &[a], &[("in", 300, Origin::Committed, 200, 0, 200)]);
    // A route moved to a group without offsets takes its old group's.
    check(&moved, &[a, ("b", "in", None)], &[("in", 300, Origin::Moved, 0, 0, 200)]);
    // A route moved to a group with offsets goes on where that one stands.
    check(&moved, &[a, ("b", "in", Some(250))], &[("in", 250, Origin::Committed, 0, 50, 250)]);
    check(&moved, &[a, ("b", "in", Some(400))], &[("in", 400, Origin::Committed, 100, 0, 100)]);
    // A group that stands where nothing is any more.
    check(&moved, &[("a", "in", Some(40)), ("b", "in", None)], &[("in", 100, Origin::Moved, 60, 0, 400)]);
    check(&moved, &[a, ("b", "in", Some(40))], &[("in", 40, Origin::OutOfRange, 0, 260, 400)]);
    // What no group has read begins with its first event, though the group is new: the topic was brought to it.
    check(&moved, &[("a", "in", None), ("b", "in", None)], &[("in", 100, Origin::First, 0, 0, 400)]);
    // A topic new to a known group is read from its first event, unless the group read it once.
    check(&wider, &[a, ("a", "more-1", None)], &[("more-1", 100, Origin::First, 0, 0, 400)]);
    check(&wider, &[a, ("a", "more-1", Some(450))], &[("more-1", 450, Origin::Committed, 350, 0, 50)]);
    // A new group with a new route begins at its `start`.
    let new = format!("{ROUTE}[routes.new]\nfrom = \"in\"\nto = \"out\"\ngroup = \"n\"\n");
    check(&new, &[a, ("n", "in", None)], &[("in", 100, Origin::Start, 0, 0, 400)]);
}

#[test]
fn a_group_that_comes_starts_anew_or_was_seen() {
    let after = format!("{ROUTE}[routes.new]\nfrom = \"in\"\nto = \"out\"\ngroup = \"n\"\n");
    for (committed, seen) in [(None, false), (Some(120), true)] {
        let on_broker = broker(TOPICS, &[("n", "in", committed)]);
        let plan = plan(&live(config(ROUTE), Vec::new()), &next(config(&after), &[]), Some(&on_broker));
        assert_eq!(plan.groups, [GroupPlan { name: "n".to_owned(), change: Change::Added, seen }]);
    }
}

#[test]
fn positions_are_wanted_of_old_and_new_groups() {
    let topics = broker(&["in", "more-1", "__more"], &[]).topics;
    let next = config("[routes.copy]\nfrom = [\"absent\", \"/more/\"]\nto = \"out\"\ngroup = \"b\"\n");
    let wanted = wanted(&config(ROUTE), &next, &topics);
    let expected = [("a", "in"), ("b", "more-1")].map(|(group, topic)| (group.to_owned(), [topic.to_owned()].into()));
    assert_eq!(wanted, expected.into());
}

#[test]
fn a_hold_lasts_until_the_bytes_of_the_config_change() {
    let mut overview = live(config(ROUTE), Vec::new());
    let mut after = next(config(&ROUTE.replace("\"out\"", "\"other\"")), &[]);
    overview.held = Some(Held {
        generation: 5,
        config_sha256: after.config_sha256.clone(),
        since: "2026-01-02T00:00:00Z".to_owned(),
    });
    let held = plan(&overview, &after, None);
    assert!(held.held.is_some() && held.differs() && !held.changes());
    after.config_sha256 = version('e');
    assert!(plan(&overview, &after, None).changes());
}

#[test]
fn ports_that_lead_nowhere_are_named_once() {
    let view = config(&format!("{ROUTE}through = [\"score\", \"score\", \"mask\"]\n"));
    let mut after = next(view.clone(), &[("score", '1'), ("mask", '1')]);
    let ports = |ports: &[&str]| ports.iter().map(|port| (*port).to_owned()).collect::<Vec<_>>();
    after.ports = [("score".to_owned(), ports(&["default", "alert"])), ("mask".to_owned(), ports(&["default"]))].into();
    let unbound = plan(&live(view, Vec::new()), &after, None).unbound;
    let expected = Unbound { route: "copy".to_owned(), plugin: "score".to_owned(), port: "alert".to_owned() };
    assert_eq!(unbound, [expected]);
}

#[test]
fn secrets_change_without_being_shown() {
    let view = |threshold: &str, key: &str| {
        let through = format!("{{ plugin = \"score\", config = {{ threshold = {threshold}, key = \"{key}\" }} }}");
        config(&format!("{ROUTE}through = {through}\n"))
    };
    let (before, after) = (view("0.5", "first"), view("0.9", "second"));
    let plan = plan(&live(before, vec![plugin("score", '1')]), &next(after, &[("score", '1')]), None);
    let keys: Vec<_> = plan.routes[0].keys.iter().map(|change| change.key.as_str()).collect();
    assert_eq!(keys, ["through.score.config.key", "through.score.config.threshold"]);
    let json = serde_json::to_string(&plan).expect("JSON");
    assert!(!json.contains("first") && !json.contains("second"), "{json}");
    assert_eq!(serde_json::from_str::<Plan>(&json).expect("a plan"), plan);
}
