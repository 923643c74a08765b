//! A plan as people read it.

use super::super::table::{Table, short};
use crate::control::config_view::Value;
use crate::control::plan::{
    Begin, Change, GroupPlan, KeyChange, Origin, Plan, PluginChange, PluginPlan, RoutePlan, TopicPlan, TopicRole,
    TrialPlan, Unbound,
};

/// Of a route that comes or goes, the keys that say what it does.
const TELLING: &[&str] = &["from", "where", "through", "group", "failure.dead_letter"];

/// Line by line: `+` comes, `-` goes, `~` changes, `=` stays though the files say otherwise, `!` is refused.
pub(super) fn of(plan: &Plan) -> String {
    let head = format!("compared with generation {} ({}) of {}", plan.generation, short(&plan.hash), plan.instance);
    let mut lines = vec![head];
    let order = "~ order   routes come in another order, and so do their outputs of one event";
    let order = plan.reordered.then(|| order.to_owned());
    for part in [
        plan.refused.iter().map(|reason| format!("! {reason}")).collect(),
        plan.routes.iter().flat_map(route).chain(order).collect(),
        plan.plugins.iter().map(plugin).chain(plan.groups.iter().map(group)).collect(),
        plan.settings.iter().map(|change| format!("~ {}", key(change))).collect(),
        begins(&plan.begins),
        plan.topics.iter().map(topic).collect(),
        plan.unbound.iter().map(unbound).collect::<Vec<_>>(),
        vec![outcome(plan)],
    ] {
        if !part.is_empty() {
            lines.push(String::new());
            lines.extend(part);
        }
    }
    lines.join("\n") + "\n"
}

fn outcome(plan: &Plan) -> String {
    if !plan.refused.is_empty() {
        return "a reload would be refused, and change nothing".to_owned();
    }
    if let Some(held) = &plan.held {
        let rest = if plan.differs() { "; the above waits for `midplane resume`" } else { "" };
        return format!("nothing would change: generation {} is held since {}{rest}", held.generation, held.since);
    }
    match (plan.differs(), plan.same_bytes) {
        (true, _) => "a reload would change this",
        (false, true) => "nothing would change",
        (false, false) => {
            "nothing would change but the generation's number: the config has other bytes, which mean the same"
        }
    }
    .to_owned()
}

fn unbound(unbound: &Unbound) -> String {
    format!(
        "port `{}` of `{}` leads nowhere in route `{}`: events written to it become dead letters",
        unbound.port, unbound.plugin, unbound.route
    )
}

fn mark(change: Change) -> char {
    match change {
        Change::Added => '+',
        Change::Changed => '~',
        Change::Removed => '-',
    }
}

fn route(plan: &RoutePlan) -> Vec<String> {
    let mut lines = vec![format!("{} route   {}", mark(plan.change), plan.name)];
    let telling = |change: &&KeyChange| TELLING.contains(&change.key.as_str()) || change.key.starts_with("to.");
    match plan.change {
        Change::Changed => lines.extend(plan.keys.iter().map(|change| format!("    {}", key(change)))),
        Change::Added => {
            let value = |change: &KeyChange| format!("    {}: {}", change.key, shown(change.to.as_ref()));
            lines.extend(plan.keys.iter().filter(telling).map(value));
        }
        Change::Removed => {}
    }
    lines
}

fn key(change: &KeyChange) -> String {
    match (&change.from, &change.to) {
        (None | Some(Value::Hidden { .. }), Some(Value::Hidden { .. })) => {
            format!("{}: another value, which is not shown", change.key)
        }
        (from, to) => format!("{}: {} -> {}", change.key, shown(from.as_ref()), shown(to.as_ref())),
    }
}

fn shown(value: Option<&Value>) -> String {
    match value {
        Some(Value::Shown(text)) if text.is_empty() => "nothing".to_owned(),
        Some(Value::Shown(text)) => text.split_whitespace().collect::<Vec<_>>().join(" "),
        Some(Value::Hidden { .. }) => "a value that is not shown".to_owned(),
        None => "nothing".to_owned(),
    }
}

fn plugin(plan: &PluginPlan) -> String {
    let name = &plan.name;
    let version = |sha256: &Option<String>| sha256.as_deref().map_or("nothing", short).to_owned();
    let (from, to) = (version(&plan.from), version(&plan.to));
    let note = plan.note.as_ref().map(|note| format!(", {note}")).unwrap_or_default();
    match plan.change {
        PluginChange::Added => format!("+ plugin  {name}: {to}"),
        PluginChange::Changed => {
            let trial = plan.trial.as_ref().map(trial).unwrap_or_default();
            format!("~ plugin  {name}: {from} -> {to}{trial}")
        }
        PluginChange::Removed => format!("- plugin  {name}: {from}"),
        PluginChange::HeldBack => {
            format!("= plugin  {name}: {from} stays{note}; the directory has {}", version(&plan.directory))
        }
    }
}

fn trial(plan: &TrialPlan) -> String {
    let TrialPlan { mode, share, events, time } = plan;
    let how = match share {
        Some(share) => format!("as a {mode} for {share} of the keys"),
        None => format!("in the {mode}"),
    };
    format!(", which is first tried {how}, for {events} events or {time}")
}

fn group(plan: &GroupPlan) -> String {
    let note = match (plan.change, plan.seen) {
        (Change::Added, true) => ", which has offsets of an earlier time",
        (Change::Added, false) => ", which starts anew",
        _ => "",
    };
    format!("{} group   {}{note}", mark(plan.change), plan.name)
}

fn begins(begins: &[Begin]) -> Vec<String> {
    if begins.is_empty() {
        return Vec::new();
    }
    let mut table =
        Table::new(&["ROUTE", "GROUP", "PARTITION", "BEGINS AT", "SKIPPED", "REPEATED", "WAITING", "WHICH IS"]);
    for begin in begins {
        for partition in &begin.partitions {
            table.row([
                begin.route.clone(),
                begin.group.clone(),
                format!("{}/{}", begin.topic, partition.partition),
                partition.offset.to_string(),
                partition.skipped.to_string(),
                partition.repeated.to_string(),
                partition.waiting.to_string(),
                origin(partition.origin).to_owned(),
            ]);
        }
    }
    let mut lines = vec!["routes begin, with counts of offsets:".to_owned()];
    lines.extend(table.to_text("  ").lines().map(str::to_owned));
    lines
}

fn origin(origin: Origin) -> &'static str {
    match origin {
        Origin::Committed => "where the group stands",
        Origin::Start => "its `start`: it is new",
        Origin::Moved => "where the route's old group stands",
        Origin::First => "the first event: it is new to the group",
        Origin::OutOfRange => "out of range: `out_of_range` decides",
    }
}

fn topic(plan: &TopicPlan) -> String {
    let what = match plan.role {
        TopicRole::Output => "an output",
        TopicRole::DeadLetter => "for dead letters",
        TopicRole::Input => "an input",
    };
    let then = match (plan.made, plan.role) {
        (true, _) => "it would be made",
        (false, TopicRole::Input) => "it is read once it exists",
        (false, _) => "make it first",
    };
    format!("topic `{}`, {what}, does not exist: {then}", plan.topic)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::overview::Held;
    use crate::control::plan::BeginPartition;

    fn nothing() -> Plan {
        Plan {
            generation: 7,
            hash: "3f".repeat(32),
            instance: "host-7".to_owned(),
            held: None,
            refused: Vec::new(),
            settings: Vec::new(),
            routes: Vec::new(),
            reordered: false,
            plugins: Vec::new(),
            groups: Vec::new(),
            begins: Vec::new(),
            topics: Vec::new(),
            unbound: Vec::new(),
            same_bytes: true,
        }
    }

    fn set(key: &str, from: Option<&str>, to: Option<&str>) -> KeyChange {
        let value = |text: &str| Value::Shown(text.to_owned());
        KeyChange { key: key.to_owned(), from: from.map(value), to: to.map(value) }
    }

    fn version(plugin: &str, change: PluginChange, versions: [Option<&str>; 3], note: Option<&str>) -> PluginPlan {
        let [from, to, directory] = versions.map(|byte| byte.map(|byte| byte.repeat(32)));
        let note = note.map(str::to_owned);
        PluginPlan { name: plugin.to_owned(), change, from, to, directory, note, trial: None }
    }

    /// Another version of a plugin, which is tried first.
    fn tried(plugin: &str, mode: &str, share: Option<&str>) -> PluginPlan {
        let share = share.map(str::to_owned);
        let trial = TrialPlan { mode: mode.to_owned(), share, events: 10_000, time: "10m".to_owned() };
        let changed = version(plugin, PluginChange::Changed, [Some("1e"), Some("2e"), Some("2e")], None);
        PluginPlan { trial: Some(trial), ..changed }
    }

    fn begin(partition: i32, origin: Origin, [offset, skipped, repeated, waiting]: [i64; 4]) -> BeginPartition {
        BeginPartition { partition, offset, origin, skipped, repeated, waiting }
    }

    fn route(name: &str, change: Change, keys: Vec<KeyChange>) -> RoutePlan {
        RoutePlan { name: name.to_owned(), change, keys }
    }

    /// Something of everything that a reload takes up.
    fn everything() -> Plan {
        let hidden = Value::Hidden { digest: "00ff00ff".to_owned() };
        let secret =
            KeyChange { key: "through.mask.config.key".to_owned(), from: Some(hidden.clone()), to: Some(hidden) };
        let keys = vec![
            set("failure.attempts", None, Some("10")),
            set("from", None, Some("payments")),
            set("group", None, Some("payments")),
            set("to.default", None, Some("large")),
            set("where", None, Some("event.json.amount\n  > 10")),
        ];
        Plan {
            settings: vec![
                set("plugins.poll_interval", Some("2s"), Some("5s")),
                set("groups.payments.shards", None, Some("2")),
            ],
            routes: vec![
                route("large", Change::Added, keys),
                route("archive", Change::Changed, vec![set("group", Some("a"), Some("b")), secret]),
                route("old", Change::Removed, vec![set("from", Some("payments"), None)]),
            ],
            reordered: true,
            plugins: vec![
                version("added", PluginChange::Added, [None, Some("1e"), Some("1e")], None),
                version("deleted", PluginChange::HeldBack, [Some("1e"), Some("1e"), None], Some("its file is gone")),
                tried("mask", "shadow", None),
                tried("parse", "canary", Some("5%")),
                version("pinned", PluginChange::HeldBack, [Some("1e"), Some("1e"), Some("2e")], Some("pinned")),
                version("swapped", PluginChange::Changed, [Some("1e"), Some("2e"), Some("2e")], None),
                version("unused", PluginChange::Removed, [Some("1e"), None, None], None),
            ],
            groups: [("b", Change::Added, false), ("c", Change::Added, true), ("a", Change::Removed, true)]
                .map(|(name, change, seen)| GroupPlan { name: name.to_owned(), change, seen })
                .into(),
            begins: vec![Begin {
                route: "archive".to_owned(),
                group: "b".to_owned(),
                topic: "payments".to_owned(),
                partitions: vec![
                    begin(0, Origin::Moved, [300, 0, 0, 200]),
                    begin(1, Origin::Committed, [250, 0, 50, 250]),
                    begin(2, Origin::OutOfRange, [40, 0, 260, 400]),
                    begin(3, Origin::First, [100, 0, 0, 400]),
                    begin(4, Origin::Start, [500, 400, 0, 0]),
                ],
            }],
            topics: [("large", TopicRole::Output, true), ("archive.dead-letters", TopicRole::DeadLetter, false)]
                .into_iter()
                .chain([("payments", TopicRole::Input, false)])
                .map(|(topic, role, made)| TopicPlan { topic: topic.to_owned(), role, made })
                .collect(),
            unbound: vec![Unbound { route: "large".to_owned(), plugin: "mask".to_owned(), port: "alert".to_owned() }],
            ..nothing()
        }
    }

    #[test]
    fn everything_that_a_plan_may_say() {
        insta::assert_snapshot!(of(&everything()));
    }

    #[test]
    fn a_refusal_comes_first() {
        let refused = vec!["`host.generations` needs a restart to change".to_owned()];
        let settings = vec![set("host.generations", Some("10"), Some("3"))];
        insta::assert_snapshot!(of(&Plan { refused, settings, ..nothing() }));
    }

    #[test]
    fn the_last_line_says_what_would_happen() {
        let held = Held { generation: 5, config_sha256: "cc".repeat(32), since: "2026-01-02T12:30:00Z".to_owned() };
        let held = Some(held);
        let reordered = true;
        let ends = |plan: Plan, end: &str| {
            let text = of(&plan);
            assert_eq!(text.lines().last(), Some(end), "{text}");
        };
        ends(nothing(), "nothing would change");
        ends(
            Plan { same_bytes: false, ..nothing() },
            "nothing would change but the generation's number: the config has other bytes, which mean the same",
        );
        ends(Plan { reordered, ..nothing() }, "a reload would change this");
        let text = "nothing would change: generation 5 is held since 2026-01-02T12:30:00Z";
        ends(Plan { held: held.clone(), ..nothing() }, text);
        ends(Plan { held, reordered, ..nothing() }, &format!("{text}; the above waits for `midplane resume`"));
    }
}
