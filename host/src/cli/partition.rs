//! `midplane partition`: the partitions that a running host has, how each stands, and what to do with one that stopped.

use std::io::Write;

use clap::{Args, Subcommand};
use serde_json::json;

use super::host::{HostArgs, OrderArgs, encoded};
use super::table::Table;
use super::topic::Output;
use super::{Exit, Failure, orders};
use crate::control::partitions::{PartitionView, Partitions};

/// `midplane partition`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  midplane partition list
  midplane partition resume payments/3              try again now
  midplane partition skip payments/3                dead-letter the event that it stands at
  midplane partition skip payments/3 --to 1042      … and all up to 1042, which is run again")]
pub(super) struct PartitionArgs {
    #[command(subcommand)]
    command: PartitionCommand,
}

#[derive(Debug, Subcommand)]
enum PartitionCommand {
    /// List the partitions that a host has, those that stopped first
    List(ListArgs),
    /// Have a partition that stopped try again now
    Resume(ResumeArgs),
    /// Dead-letter the events that a partition stopped at, and go on behind them
    Skip(SkipArgs),
}

/// `midplane partition list`
#[derive(Debug, Args)]
#[command(after_help = "\
STATE is one of
  halted    until somebody does something: a route says so (`on_permanent`), or
            nothing can be read there
  breaker   too much of a route fails: one event is tried now and then
  paused    an operator has paused a route
  waiting   for a while: an event runs again, or an output topic takes nothing
  running   it goes on
AT is the event that it stands at, or the next one. LAG is known of partitions
that were read. A host lists its own partitions: ask each host of a group.")]
struct ListArgs {
    #[command(flatten)]
    host: HostArgs,

    /// How the list is written
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// Which partition.
#[derive(Debug, Args)]
struct WhichArgs {
    /// The partition, as TOPIC/PARTITION
    #[arg(value_name = "TOPIC/PARTITION", value_parser = which)]
    partition: (String, i32),

    /// The group that reads it, where several do
    #[arg(long, value_name = "GROUP")]
    group: Option<String>,

    #[command(flatten)]
    order: OrderArgs,
}

/// `midplane partition resume`
#[derive(Debug, Args)]
#[command(after_help = "\
Whatever it waits for, it waits no longer: the event that it stands at runs
again. Where its offset is not in the log any more, it goes on at the nearest one
that is, and says what is lost; where its topic was deleted and made anew, at the
first event of the new one.")]
struct ResumeArgs {
    #[command(flatten)]
    which: WhichArgs,
}

/// `midplane partition skip`
#[derive(Debug, Args)]
#[command(after_help = "\
Each route that takes such an event has a dead letter of it: of the kind that it
failed with, where that is known, else of kind `skipped`. Nothing is run, and
nothing is skipped beyond what is asked for. Events that can't be read have no
letters; it is said which offsets they are.")]
struct SkipArgs {
    #[command(flatten)]
    which: WhichArgs,

    /// The first event that is run again [default: the one behind where it stands]
    #[arg(long, value_name = "OFFSET", value_parser = clap::value_parser!(i64).range(0..))]
    to: Option<i64>,
}

fn which(text: &str) -> Result<(String, i32), String> {
    let parsed = text.rsplit_once('/').and_then(|(topic, number)| Some((topic, number.parse::<i32>().ok()?)));
    match parsed {
        Some((topic, number)) if !topic.is_empty() && number >= 0 => Ok((topic.to_owned(), number)),
        _ => Err("expected TOPIC/PARTITION, such as `payments/3`".to_owned()),
    }
}

pub(super) fn run(args: &PartitionArgs) -> Result<Exit, Failure> {
    match &args.command {
        PartitionCommand::List(args) => list(args),
        PartitionCommand::Resume(ResumeArgs { which }) => which.give("resume", &json!({ "group": which.group })),
        PartitionCommand::Skip(SkipArgs { which, to }) => {
            which.give("skip", &json!({ "group": which.group, "to": to }))
        }
    }
}

impl WhichArgs {
    fn give(&self, verb: &str, particulars: &serde_json::Value) -> Result<Exit, Failure> {
        let (topic, number) = &self.partition;
        let path = format!("/api/v1/partitions/{}/{number}/{verb}", encoded(topic));
        orders::give(&self.order, &path, particulars)
    }
}

fn list(args: &ListArgs) -> Result<Exit, Failure> {
    let (_, partitions): (_, Partitions) = args.host.client()?.get("/api/v1/partitions")?;
    let text = match args.output {
        Output::Text => text(&partitions),
        Output::Json => serde_json::to_string_pretty(&partitions).map_err(Failure::failed)? + "\n",
    };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(Exit::Done)
}

fn text(partitions: &Partitions) -> String {
    let mut table = Table::new(&["PARTITION", "GROUP", "STATE", "SINCE", "AT", "COMMITTED", "LAG", "WHY"]);
    for view in &partitions.partitions {
        let number = |number: Option<i64>| number.map_or("-".to_owned(), |number| number.to_string());
        table.row([
            format!("{}/{}", view.topic, view.partition),
            view.group.clone(),
            view.state.as_str().to_owned(),
            view.since.clone().unwrap_or_else(|| "-".to_owned()),
            view.position.to_string(),
            number(view.committed),
            number(view.lag),
            why(view),
        ]);
    }
    let mut text = table.to_text("");
    for stopped in &partitions.stopped {
        text.push_str(&format!("\nsince {}: {}\n", stopped.since, stopped.text()));
    }
    if !partitions.silent.is_empty() {
        let silent = partitions.silent.join(", ");
        text.push_str(&format!("\nno answer yet from busy shards, of which this is what they said before: {silent}\n"));
    }
    text
}

/// All that is known of why a partition stands, in a sentence.
fn why(view: &PartitionView) -> String {
    let mut parts = Vec::new();
    parts.extend(view.why.clone());
    parts.extend(view.route.as_ref().map(|route| format!("route {route}")));
    parts.extend(view.plugin.as_ref().map(|plugin| format!("plugin {plugin}")));
    parts.extend(view.attempt.map(|attempt| format!("call {attempt} is next")));
    parts.extend(view.until.as_ref().map(|until| format!("at {until}")));
    let failure = view.kind.as_ref().map(|kind| format!("{kind}: {}", view.message.as_deref().unwrap_or_default()));
    parts.extend(failure);
    // A message is a plugin's: it may have lines, and would break the table.
    parts.join("; ").split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;
    use crate::control::partitions::Condition;
    use crate::control::stopped::StoppedView;

    #[test]
    fn partitions_are_named_by_topic_and_number() {
        assert_eq!(which("payments/3"), Ok(("payments".to_owned(), 3)));
        for text in ["payments", "payments/", "/3", "payments/-1", "payments/x"] {
            assert!(which(text).is_err(), "{text}");
        }
    }

    fn view(number: i32, state: Condition) -> PartitionView {
        testing::partition("in", number, state)
    }

    #[test]
    fn a_list_says_why_each_stands() {
        let text_of = |text: &str| Some(text.to_owned());
        let halted = PartitionView {
            why: text_of("the route says so (`on_permanent = \"halt\"`)"),
            since: text_of("2026-01-02T12:30:00Z"),
            route: text_of("large"),
            plugin: text_of("fraud-score"),
            kind: text_of("permanent"),
            message: text_of("amount is\nmissing"),
            lag: Some(7),
            ..view(1, Condition::Halted)
        };
        let waiting = PartitionView {
            why: text_of("the event failed, and runs again"),
            attempt: Some(3),
            until: text_of("2026-01-02T12:30:05Z"),
            committed: None,
            lag: None,
            ..view(3, Condition::Waiting)
        };
        let partitions = vec![halted, waiting, view(0, Condition::Running)];
        let stopped = StoppedView {
            group: "audit".to_owned(),
            shard: "audit/0".to_owned(),
            since: "2026-01-02T12:29:58Z".to_owned(),
            until: None,
            why: "another producer has its name; `midplane reload` starts it again".to_owned(),
        };
        let (stopped, silent) = (vec![stopped], vec!["payments/1".to_owned()]);
        let partitions = Partitions { partitions, stopped, silent, ..Partitions::default() };
        insta::assert_snapshot!(text(&partitions));
    }
}
