//! What a redrive did, or would do, as people and programs read it. Does nothing by itself.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::super::text::{letters, line};
use crate::config::model::Config;
use crate::dead_letters::chains::{Chains, Source};
use crate::dead_letters::pace::Rate;
use crate::dead_letters::tally::Tally;
use crate::digest;

/// All of it.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// Whether it was done.
    executed: bool,
    /// Whether it was told to stop before it came to the end.
    pub(super) stopped: bool,
    rate: Option<RateReport>,
    topics: Vec<TopicReport>,
}

/// A rate, and what came of it.
#[derive(Debug, Serialize)]
struct RateReport {
    letters: u32,
    per_seconds: u64,
    /// Letters that were done at most within any such time.
    busiest: u32,
    #[serde(skip)]
    text: String,
}

/// The letters of one topic.
#[derive(Debug, Serialize)]
pub(super) struct TopicReport {
    topic: String,
    /// All that there are.
    letters: u64,
    /// Those that are meant.
    selected: u64,
    /// Those of them that are to be redriven.
    open: u64,
    routes: Vec<RouteReport>,
    left_alone: Left,
}

/// Letters that are meant, and can't be redriven.
#[derive(Debug, Default, Serialize)]
pub(super) struct Left {
    /// Those that were already.
    pub(super) redriven: u64,
    /// Those that are without their value.
    pub(super) without_value: u64,
    /// Those of routes that aren't in the config.
    pub(super) unknown_routes: BTreeMap<String, u64>,
    /// Those that the expression can't be evaluated for.
    pub(super) undecided: u64,
    /// Why not, for the first of them.
    pub(super) undecided_why: Option<String>,
}

/// The letters of one route in a topic.
#[derive(Debug, Serialize)]
struct RouteReport {
    route: String,
    /// Those to be redriven.
    open: u64,
    through: Vec<Through>,
    /// By port.
    to: BTreeMap<String, String>,
    dead_letter: String,
    result: Tally,
}

/// A plugin.
#[derive(Debug, Clone, Serialize)]
struct Through {
    plugin: String,
    version: String,
    /// Where that comes from.
    source: String,
}

impl TopicReport {
    pub(super) fn new(topic: &str, letters: u64, selected: u64, open: BTreeMap<String, u64>, left_alone: Left) -> Self {
        let all = open.values().sum();
        let route = |(route, open)| RouteReport {
            route,
            open,
            through: Vec::new(),
            to: BTreeMap::new(),
            dead_letter: String::new(),
            result: Tally::default(),
        };
        let routes = open.into_iter().map(route).collect();
        Self { topic: topic.to_owned(), letters, selected, open: all, routes, left_alone }
    }
}

impl Report {
    pub(super) fn new(executed: bool, topics: Vec<TopicReport>, rate: Option<Rate>) -> Self {
        let rate = rate.map(|rate| RateReport {
            letters: rate.letters,
            per_seconds: rate.per.as_secs(),
            busiest: 0,
            text: rate.to_string(),
        });
        Self { executed, stopped: false, rate, topics }
    }

    /// The letters that are to be redriven.
    pub(super) fn open(&self) -> u64 {
        self.topics.iter().map(|topic| topic.open).sum()
    }

    /// The topics that have some.
    pub(super) fn open_topics(&self) -> impl Iterator<Item = &str> {
        self.topics.iter().filter(|topic| topic.open > 0).map(|topic| topic.topic.as_str())
    }

    /// How many letters were redriven.
    pub(super) fn letters_done(&self) -> String {
        letters(self.routes().map(|route| route.result.letters).sum())
    }

    fn routes(&self) -> impl Iterator<Item = &RouteReport> {
        self.topics.iter().flat_map(|topic| &topic.routes)
    }

    /// Notes what the letters go through, and where to.
    pub(super) fn through(&mut self, config: &Config, chains: &Chains, routes: &BTreeSet<usize>) {
        for report in self.topics.iter_mut().flat_map(|topic| &mut topic.routes) {
            let of_config = routes.iter().map(|route| &config.routes[*route]).find(|route| route.id == report.route);
            let Some(route) = of_config else { continue };
            report.to.clone_from(&route.to);
            report.dead_letter.clone_from(&route.failure.dead_letter);
            let through = |stage: &crate::config::model::Stage| {
                let (sha256, source) = &chains.plugins[&stage.plugin];
                Through { plugin: stage.plugin.clone(), version: digest::hex(sha256), source: source_text(*source) }
            };
            report.through = route.through.iter().map(through).collect();
        }
    }

    /// Notes what came of the letters.
    pub(super) fn done(&mut self, tallies: &BTreeMap<(String, String), Tally>, busiest: u32) {
        for topic in &mut self.topics {
            for route in &mut topic.routes {
                if let Some(tally) = tallies.get(&(topic.topic.clone(), route.route.clone())) {
                    route.result = tally.clone();
                }
            }
        }
        if let Some(rate) = &mut self.rate {
            rate.busiest = busiest;
        }
    }

    pub(super) fn to_text(&self) -> String {
        let mut text = String::new();
        if !self.executed && self.open() > 0 {
            text.push_str("A dry run: nothing is written.\n\n");
        }
        for topic in self.topics.iter().filter(|topic| topic.selected + topic.left_alone.undecided > 0) {
            text.push_str(&topic.to_text(self.executed));
        }
        let nothing: Vec<_> =
            self.topics.iter().filter(|topic| topic.selected + topic.left_alone.undecided == 0).collect();
        for topic in nothing {
            let what = if topic.letters == 0 {
                "no letters".to_owned()
            } else {
                format!("none of its {} is meant", letters(topic.letters))
            };
            text.push_str(&format!("{}: {what}\n", topic.topic));
        }
        text.push_str(&self.ending());
        text
    }

    /// What there is to be said in the end.
    fn ending(&self) -> String {
        let rate = self.rate.as_ref().filter(|_| self.executed).map_or_else(String::new, RateReport::to_text);
        match (self.open(), self.executed, self.stopped) {
            (0, ..) => "There is nothing to be redriven.\n".to_owned(),
            (_, true, false) => rate,
            (_, true, true) => format!(
                "{rate}\nIt was told to stop: {} are redriven, and the same command goes on with the rest.\n",
                self.letters_done()
            ),
            (_, false, true) => "\nIt was told to stop before it had looked at all of them.\n".to_owned(),
            (_, false, false) if self.routes().all(|route| route.result.failed_again == route.result.letters) => {
                "\nNone of them would get through: mend the plugin or the route first, or take another version with --plugin.\n"
                    .to_owned()
            }
            (_, false, false) => {
                "\nThe same command with --execute redrives them: each once, to the topics of its route alone.\n"
                    .to_owned()
            }
        }
    }
}

impl RateReport {
    fn to_text(&self) -> String {
        let unit = match self.per_seconds {
            1 => "second",
            60 => "minute",
            _ => "hour",
        };
        format!("\nAt most {}: the busiest {unit} had {}.\n", self.text, self.busiest)
    }
}

fn source_text(source: Source) -> String {
    match source {
        Source::Live(generation) => format!("live in generation {generation}"),
        Source::Directory => "of the plugin directory".to_owned(),
        Source::Asked => "as asked for".to_owned(),
    }
}

impl TopicReport {
    fn to_text(&self, executed: bool) -> String {
        let done: u64 = self.routes.iter().map(|route| route.result.letters).sum();
        let of = letters(self.letters);
        let mut text = match executed {
            true => format!("{}: {done} of {of} redriven\n", self.topic),
            false => format!("{}: {} of {of} would be redriven\n", self.topic, self.open),
        };
        for route in &self.routes {
            text.push_str(&route.to_text(executed));
        }
        let left = self.left_alone.lines();
        if !left.is_empty() {
            text.push_str("  left alone\n");
            for (count, reason) in left {
                text.push_str(&format!("    {count:>6}  {reason}\n"));
            }
        }
        text
    }
}

impl RouteReport {
    fn to_text(&self, executed: bool) -> String {
        let mut text = format!("  route {}\n", self.route);
        let mut field = |name: &str, value: String| text.push_str(&format!("    {name:<9}{value}\n"));
        for (index, through) in self.through.iter().enumerate() {
            let Through { plugin, version, source } = through;
            let name = if index == 0 { "through" } else { "" };
            field(name, format!("{plugin}@{}, {source}", version.get(..8).unwrap_or(version)));
        }
        for (index, (port, topic)) in self.to.iter().enumerate() {
            let port = if port == "default" { String::new() } else { format!(" (port {port})") };
            field(if index == 0 { "to" } else { "" }, format!("{topic}{port}"));
        }
        let Tally { letters, with_outputs, outputs, dropped, not_taken, failed_again, failures, other_failures } =
            &self.result;
        let mut field_count = |name: &str, count: u64, what: String| {
            text.push_str(&format!("    {name:<9}{count:>6}  {what}\n"));
        };
        field_count("letters", *letters, if executed { "redriven" } else { "tried" }.to_owned());
        if *with_outputs > 0 {
            let outputs: Vec<_> = outputs.iter().map(|(topic, count)| format!("{count} to {topic}")).collect();
            field_count("", *with_outputs, format!("with outputs: {}", outputs.join(", ")));
        }
        if *dropped > 0 {
            field_count("", *dropped, "dropped, by a plugin or the route's policy".to_owned());
        }
        if *not_taken > 0 {
            field_count("", *not_taken, "not taken by the route's `where`, which can be evaluated now".to_owned());
        }
        if *failed_again > 0 {
            let verb = if executed { "failed" } else { "would fail" };
            field_count("", *failed_again, format!("{verb} again: new letters in {}", self.dead_letter));
        }
        for failed in failures {
            text.push_str(&format!(
                "                       {}  {}: {}\n",
                failed.letters,
                failed.kind,
                line(&failed.message)
            ));
        }
        if *other_failures > 0 {
            text.push_str(&format!("                       {other_failures}  in other ways\n"));
        }
        text
    }
}

impl Left {
    fn lines(&self) -> Vec<(u64, String)> {
        let mut lines = vec![
            (self.redriven, "redriven already".to_owned()),
            (self.without_value, "without the value, which was too large for the letter".to_owned()),
        ];
        let unknown = self.unknown_routes.iter();
        lines.extend(
            unknown.map(|(route, count)| (*count, format!("of route {}, which is not in the config", line(route)))),
        );
        let why = self.undecided_why.as_deref().map(line).unwrap_or_default();
        lines.push((self.undecided, format!("that --where can't be evaluated for: {why}")));
        lines.retain(|(count, _)| *count > 0);
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dead_letters::tally::Failed;

    fn report(executed: bool) -> Report {
        let left = Left {
            redriven: 8,
            without_value: 1,
            unknown_routes: [("gone".to_owned(), 20)].into(),
            undecided: 2,
            undecided_why: Some("the value isn't valid JSON".to_owned()),
        };
        let open = [("large".to_owned(), 97), ("archive".to_owned(), 1)].into();
        let topics = vec![
            TopicReport::new("large.dead-letters", 200, 127, open, left),
            TopicReport::new("other.dead-letters", 3, 0, BTreeMap::new(), Left::default()),
            TopicReport::new("new.dead-letters", 0, 0, BTreeMap::new(), Left::default()),
        ];
        let mut report = Report::new(executed, topics, "100/s".parse().ok());
        let through = |plugin: &str, version: &str, source| Through {
            plugin: plugin.to_owned(),
            version: version.repeat(32),
            source: source_text(source),
        };
        let route = &mut report.topics[0].routes[1];
        route.through = vec![through("mask", "1f", Source::Live(7)), through("fraud-score", "2e", Source::Asked)];
        let topic = |port: &str, topic: &str| (port.to_owned(), topic.to_owned());
        route.to = [topic("default", "scored"), topic("alert", "alerts")].into();
        route.dead_letter = "large.dead-letters".to_owned();
        report.topics[0].routes[0].to = [topic("default", "archive")].into();
        let failed =
            |kind: &str, message: &str, letters| Failed { kind: kind.to_owned(), message: message.to_owned(), letters };
        let tally = Tally {
            letters: 97,
            with_outputs: 90,
            outputs: [("scored".to_owned(), 90), ("alerts".to_owned(), 12)].into(),
            dropped: 1,
            not_taken: 2,
            failed_again: 4,
            failures: vec![
                failed("permanent", "amount is missing", 3),
                failed("trap", "wasm `unreachable`\n  at x", 1),
            ],
            other_failures: 1,
        };
        let direct =
            Tally { letters: 1, with_outputs: 1, outputs: [("archive".to_owned(), 1)].into(), ..Tally::default() };
        let key = |route: &str| ("large.dead-letters".to_owned(), route.to_owned());
        report.done(&[(key("large"), tally), (key("archive"), direct)].into(), 100);
        report
    }

    #[test]
    fn a_dry_run_as_people_read_it() {
        insta::assert_snapshot!(report(false).to_text());
    }

    #[test]
    fn what_was_done_as_people_read_it() {
        insta::assert_snapshot!(report(true).to_text());
    }

    #[test]
    fn what_was_done_as_programs_read_it() {
        insta::assert_snapshot!(serde_json::to_string_pretty(&report(true)).expect("JSON"));
    }

    #[test]
    fn what_was_stopped_and_what_was_nothing_is_said() {
        let stopped = Report { stopped: true, ..report(true) }.to_text();
        assert!(
            stopped.ends_with(
                "It was told to stop: 98 letters are redriven, and the same command goes on with the rest.\n"
            )
        );
        let nothing = Report::new(false, Vec::new(), None).to_text();
        assert_eq!(nothing, "There is nothing to be redriven.\n");
    }
}
