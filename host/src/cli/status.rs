//! `midplane status`: what a host runs, whether it is well, and where its files differ from it.

use std::collections::BTreeSet;
use std::io::Write;

use clap::Args;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::host::{Client, HostArgs};
use super::table::{Table, short};
use super::topic::Output;
use super::{Exit, Failure};
use crate::control::admin::Probe;
use crate::control::overview::{DecisionKind, Overview, PluginView};
use crate::control::partitions::{Condition, PartitionView, Partitions, PausedView};

/// `midplane status`
#[derive(Debug, Args)]
#[command(after_help = "\
It shows the live generation, whether the host is ready, what the last refused
reload was refused for, which routes are paused and which breakers are open, how
many partitions have stopped, each way in which config and plugin directory
differ from what is live, and the generations that `midplane rollback` can go
back to.

Examples:
  midplane status
  midplane status --admin edge-7:8090 --output json

A host that answers is exit code 0, ready or not; one that doesn't, 4.")]
pub(super) struct StatusArgs {
    #[command(flatten)]
    host: HostArgs,

    /// How the status is written
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// Of `GET /api/v1/generation`, what the overview doesn't tell.
#[derive(Debug, Default, Deserialize)]
struct Generation {
    last_refused: Option<Refused>,
}

#[derive(Debug, Deserialize)]
struct Refused {
    at: String,
    error: String,
}

/// All that is shown.
#[derive(Debug)]
struct Status {
    address: String,
    healthy: Probe,
    ready: Probe,
    last_refused: Option<Refused>,
    overview: Overview,
    partitions: Partitions,
}

pub(super) fn run(args: &StatusArgs) -> Result<Exit, Failure> {
    let status = Status::ask(&args.host.client()?)?;
    let text = match args.output {
        Output::Text => status.to_text(),
        Output::Json => format!("{:#}\n", status.to_json()?),
    };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(Exit::Done)
}

impl Status {
    fn ask(client: &Client) -> Result<Self, Failure> {
        let (address, overview) = client.get("/api/v1/overview")?;
        let (_, Generation { last_refused }) = client.get("/api/v1/generation")?;
        let (_, healthy) = client.probe("/healthz")?;
        let (_, ready) = client.probe("/readyz")?;
        let (_, partitions) = client.get("/api/v1/partitions")?;
        Ok(Self { address, healthy, ready, last_refused, overview, partitions })
    }

    fn to_json(&self) -> Result<Value, Failure> {
        let refused = self.last_refused.as_ref();
        Ok(json!({
            "address": self.address,
            "healthy": self.healthy,
            "ready": self.ready,
            "last_refused": refused.map(|refused| json!({ "at": refused.at, "error": refused.error })),
            "partitions": serde_json::to_value(&self.partitions).map_err(Failure::failed)?,
            "overview": serde_json::to_value(&self.overview).map_err(Failure::failed)?,
        }))
    }

    fn to_text(&self) -> String {
        let overview = &self.overview;
        let mut text = self.head();
        text.push('\n');
        let mut plugins = Table::new(&["PLUGIN", "VERSION", "LOADED", "STATE"]);
        for plugin in &overview.plugins {
            let version = short(&plugin.sha256).to_owned();
            plugins.row([plugin.name.clone(), version, plugin.loaded_at.clone(), state(plugin)]);
        }
        text.push_str(&plugins.to_text(""));
        text.push('\n');
        let mut groups = Table::new(&["GROUP", "SHARDS", "TOPICS", "ROUTES"]);
        for group in &overview.groups {
            let (shards, topics) = (group.shards.to_string(), group.topics.to_string());
            groups.row([group.name.clone(), shards, topics, group.routes.join(", ")]);
        }
        text.push_str(&groups.to_text(""));
        text.push('\n');
        let mut history = Table::new(&["GENERATION", "HASH", "PUBLISHED", "WHY"]);
        for generation in overview.history.iter().rev() {
            let number = format!("{}{}", generation.generation, if generation.live { " live" } else { "" });
            let hash = short(&generation.hash).to_owned();
            history.row([number, hash, generation.published_at.clone(), generation.why.clone()]);
        }
        text.push_str(&history.to_text(""));
        text
    }

    /// What stands in no table.
    fn head(&self) -> String {
        let overview = &self.overview;
        let mut lines = Vec::new();
        let mut field = |name: &str, value: String| lines.push(format!("{name:<12}{}", indented(&value)));
        field("host", format!("{} at {}", overview.instance, self.address));
        field("state", self.state());
        let (hash, published) = (short(&overview.hash), &overview.published_at);
        field("generation", format!("{} ({hash}), live since {published}", overview.generation));
        field("config", format!("{} ({})", overview.config_file, short(&overview.config_sha256)));
        if let Some(held) = &overview.held {
            let text = format!(
                "the contents of generation {}, since {}: files change nothing until the config's bytes change or `midplane \
                 resume`",
                held.generation, held.since
            );
            field("held", text);
        }
        if let Some(refused) = &self.last_refused {
            field("refused", format!("a reload at {}:\n{}", refused.at, refused.error));
        }
        for stopped in &self.partitions.stopped {
            field("stopped", format!("since {}: {}", stopped.since, stopped.text()));
        }
        for PausedView { route, since } in &self.partitions.paused {
            field("paused", format!("route {route}, since {since}: `midplane route resume {route}` lets it go on"));
        }
        for route in self.open_breakers() {
            field("breaker", format!("too much of route {route} fails: its group pauses where it takes events"));
        }
        if let Some(stopped) = self.stopped() {
            field("stopped", stopped);
        }
        match overview.drift.as_slice() {
            [] => field("files", "as they are live".to_owned()),
            drift => field("files", drift.join("\n")),
        }
        lines.join("\n") + "\n"
    }

    /// The routes whose breakers are open, each once.
    fn open_breakers(&self) -> BTreeSet<&str> {
        self.partitions.breakers.iter().map(|breaker| breaker.route.as_str()).collect()
    }

    /// How many partitions stand that won't go on by themselves, or haven't for a while.
    fn stopped(&self) -> Option<String> {
        let all = &self.partitions.partitions;
        let stands = |view: &&PartitionView| match view.state {
            Condition::Halted | Condition::Breaker | Condition::Paused => true,
            Condition::Waiting => view.since.as_deref().is_some_and(is_long_ago),
            Condition::Closing | Condition::Running => false,
        };
        let stopped: Vec<_> = all.iter().filter(stands).collect();
        let first = stopped.first()?;
        let (count, all, which) = (stopped.len(), all.len(), format!("{}/{}", first.topic, first.partition));
        Some(format!("{count} of {all} partitions, {which} among them: `midplane partition list` says why"))
    }

    fn state(&self) -> String {
        let (health, readiness) = (&self.healthy, &self.ready);
        if !health.ok {
            return format!("NOT HEALTHY: {}", health.reasons.join("; "));
        }
        if !readiness.ok {
            return format!("NOT READY: {}", readiness.reasons.join("; "));
        }
        "ready".to_owned()
    }
}

/// Whether something was so long ago that it hasn't passed by itself.
fn is_long_ago(since: &str) -> bool {
    const LONG_S: i64 = 30;
    since.parse::<Timestamp>().is_ok_and(|since| Timestamp::now().as_second() - since.as_second() >= LONG_S)
}

/// What is out of the ordinary about a plugin.
fn state(plugin: &PluginView) -> String {
    let mut states = Vec::new();
    if let Some(decision) = &plugin.decision {
        let verb = match decision.kind {
            DecisionKind::Pin => "pinned".to_owned(),
            DecisionKind::Rollback => {
                let from = decision.from.as_deref().map(|from| format!(" from {}", short(from)));
                format!("rolled back{}", from.unwrap_or_default())
            }
        };
        states.push(format!("{verb} since {}", decision.since));
    }
    if let Some(candidate) = &plugin.candidate {
        let share = candidate.share * 100.0;
        states.push(format!("{} on trial as {}, {share:.0}%", short(&candidate.sha256), candidate.mode));
    }
    match &plugin.directory_sha256 {
        Some(directory) if *directory != plugin.sha256 => {
            states.push(format!("the directory has {}", short(directory)));
        }
        None => states.push("its file is gone from the directory".to_owned()),
        Some(_) => {}
    }
    states.join(", ")
}

/// Lines after the first stand under it.
fn indented(text: &str) -> String {
    text.trim_end().replace('\n', "\n            ")
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;
    use crate::control::partitions::BreakerView;

    fn probe(reasons: &[&str]) -> Probe {
        Probe { ok: reasons.is_empty(), reasons: reasons.iter().map(|reason| (*reason).to_owned()).collect() }
    }

    fn partitions() -> Partitions {
        let view = |number, state| testing::partition("payments", number, state);
        let since = "2026-01-03T08:00:00Z".to_owned();
        let breaker =
            BreakerView { route: "large".to_owned(), shard: "payments/0".to_owned(), next_try: since.clone() };
        Partitions {
            partitions: vec![view(2, Condition::Breaker), view(0, Condition::Paused), view(1, Condition::Running)],
            paused: vec![PausedView { route: "archive".to_owned(), since }],
            breakers: vec![breaker],
            silent: Vec::new(),
            ..Partitions::default()
        }
    }

    #[test]
    fn a_status_that_somebody_should_look_at() {
        let status = Status {
            address: "127.0.0.1:8090".to_owned(),
            healthy: probe(&[]),
            ready: probe(&["shard payments/1 has no assignment yet", "the broker has not answered yet"]),
            last_refused: Some(Refused {
                at: "2026-01-03T08:00:00Z".to_owned(),
                error: "plugin `mask` is not WebAssembly: it is empty\nhint: build it".to_owned(),
            }),
            overview: testing::overview(),
            partitions: partitions(),
        };
        insta::assert_snapshot!(status.to_text());
    }

    #[test]
    fn a_status_without_anything_to_look_at() {
        let mut overview = testing::overview();
        (overview.held, overview.drift) = (None, Vec::new());
        overview.plugins.truncate(1);
        let plugin = &mut overview.plugins[0];
        (plugin.decision, plugin.candidate, plugin.directory_sha256) = (None, None, Some(plugin.sha256.clone()));
        let address = "127.0.0.1:8090".to_owned();
        let status = Status {
            address,
            healthy: probe(&[]),
            ready: probe(&[]),
            last_refused: None,
            overview,
            partitions: Partitions::default(),
        };
        insta::assert_snapshot!(status.to_text());
    }
}
