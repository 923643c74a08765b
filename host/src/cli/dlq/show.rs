//! `midplane dlq show`: letters whole, and what can be done with each.

use std::collections::BTreeSet;
use std::io::Write;

use clap::Args;
use serde::Serialize;

use super::super::topic::Output;
use super::super::topic::record::{Bytes, Header, Record};
use super::super::{Exit, Failure};
use super::text::{indented, letters, safe, time, whole};
use super::{ChoiceArgs, all_found, failure, note};
use crate::data::event::Headers;
use crate::data::letter;
use crate::dead_letters::chains::Routes;
use crate::dead_letters::place::Place;
use crate::dead_letters::redrive::{Standing, standing};
use crate::dead_letters::selection::place;
use crate::dead_letters::{Letter, Mark};

/// `midplane dlq show`
#[derive(Debug, Args)]
#[command(after_help = "\
Without LETTER, the options choose: the oldest letters come first.

Examples:
  midplane dlq show payments.dead-letters/0/41
  midplane dlq show --route payments --kind permanent --limit 3
  midplane dlq show payments.dead-letters/0/41 --output json | jq .value")]
pub(super) struct ShowArgs {
    /// Letters, by their places: TOPIC/PARTITION/OFFSET
    #[arg(value_name = "LETTER")]
    letters: Vec<Place>,

    #[command(flatten)]
    choice: ChoiceArgs,

    /// Show so many letters at most; 0 for all
    #[arg(long, value_name = "N", default_value_t = 10)]
    limit: u64,

    /// `json` writes one letter a line, as `topic consume --output json` does, with what it says of the failure
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// A letter as JSON.
#[derive(Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    record: Record<'a>,
    error: ErrorJson<'a>,
    redriven: Option<&'a Mark>,
    next: String,
}

/// What a letter says.
#[derive(Serialize)]
struct ErrorJson<'a> {
    route: &'a str,
    plugin: Option<&'a str>,
    plugin_version: Option<&'a str>,
    kind: &'a str,
    message: &'a str,
    attempts: u32,
    at: String,
    event: String,
    truncated: Option<u64>,
    redriven_before: u32,
}

pub(super) fn run(args: &ShowArgs) -> Result<Exit, Failure> {
    let desk = args.choice.open(&args.letters)?;
    let limit = if args.limit == 0 || !args.letters.is_empty() { u64::MAX } else { args.limit };
    let (mut found, mut missing) = (0, args.letters.iter().cloned().collect::<BTreeSet<_>>());
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let mut written = Ok(());
    for topic in &desk.present {
        let seen = desk.archive.visit(topic, &desk.selection, &mut |letter, mark| {
            found += 1;
            missing.remove(&place(topic, letter));
            if found > limit || written.is_err() {
                return;
            }
            let next = next(topic, letter, mark, &desk.routes);
            written = match args.output {
                Output::Text => {
                    let gap = if found > 1 { "\n" } else { "" };
                    write!(out, "{gap}{}", to_text(topic, letter, mark, &next))
                }
                Output::Json => serde_json::to_writer(&mut out, &to_json(topic, letter, mark, next))
                    .map_err(Into::into)
                    .and_then(|()| out.write_all(b"\n")),
            };
        });
        seen.map_err(failure)?;
    }
    match written.and_then(|()| out.flush()) {
        // Whoever reads has seen enough, as `head` has.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return Ok(Exit::Done),
        written => written?,
    }
    drop(out);
    all_found(&missing)?;
    match found {
        0 => note("no letters are meant; `midplane dlq list` shows those that there are")?,
        found if found > limit => {
            note(format_args!("{} more are meant: `--limit 0` shows all", letters(found - limit)))?;
        }
        _ => {}
    }
    Ok(Exit::Done)
}

/// What can be done with a letter.
fn next(topic: &str, letter: &Letter<'_>, mark: Option<&Mark>, routes: &Routes) -> String {
    match (standing(letter, mark, routes), mark) {
        (Standing::Open(_), _) => {
            format!("midplane dlq redrive {}", place(topic, letter))
        }
        (Standing::Truncated, _) => format!(
            "can't be redriven: its value was too large for the letter; the event is at {}, while its topic keeps it",
            letter.origin()
        ),
        (Standing::NoRoute, _) => {
            format!("can't be redriven: the config has no route `{}`", safe(letter.said.route))
        }
        (Standing::Redriven, mark) => {
            let outcome = mark.map_or_else(String::new, |mark| format!(": {}", outcome(mark)));
            format!("nothing: it was redriven{outcome}")
        }
    }
}

fn outcome(mark: &Mark) -> &'static str {
    use crate::dead_letters::marks::Outcome;
    match mark.outcome {
        Outcome::Outputs => "its outputs are in the topics of its route",
        Outcome::Dropped => "the event was dropped",
        Outcome::NotTaken => "the route's filter doesn't take the event",
        Outcome::FailedAgain => "it failed again, and there is another letter",
    }
}

fn to_text(topic: &str, letter: &Letter<'_>, mark: Option<&Mark>, next: &str) -> String {
    const INDENT: &str = "             ";
    let said = &letter.said;
    let mut text = format!("{}\n", place(topic, letter));
    let mut field = |name: &str, value: &str| text.push_str(&format!("  {name:<11}{}\n", indented(value, INDENT)));
    field("route", &safe(said.route));
    if let Some((plugin, version)) = said.plugin {
        field("plugin", &safe(&format!("{plugin}@{version}")));
    }
    field("kind", &safe(said.kind));
    field("message", &safe(said.message));
    field("attempts", &said.attempts.to_string());
    field("written", &time(said.timestamp));
    let when =
        if letter.event.timestamp < 0 { String::new() } else { format!(", of {}", time(letter.event.timestamp)) };
    field("event", &format!("{}{when}", letter.origin()));
    if said.times > 0 {
        field("before", &format!("redriven {} time{}", said.times, if said.times == 1 { "" } else { "s" }));
    }
    if let Some(mark) = mark {
        field("redriven", &format!("{}, by route {}", time(mark.at), safe(&mark.route)));
    }
    field("next", next);
    field("key", &letter.event.key.map_or_else(|| "none".to_owned(), whole));
    let own = letter.event.headers.iter().filter(|header| !header.name.starts_with(letter::PREFIX.as_bytes()));
    for header in own {
        let value = header.value.map_or_else(|| "null".to_owned(), whole);
        field("header", &format!("{}: {value}", whole(header.name)));
    }
    let value = match (said.truncated, letter.event.value) {
        (Some(bytes), _) => format!("{bytes} bytes, which were too large for the letter"),
        (None, value) => value.map_or_else(|| "none".to_owned(), whole),
    };
    field("value", &value);
    text
}

fn to_json<'a>(topic: &'a str, letter: &Letter<'a>, mark: Option<&'a Mark>, next: String) -> Shown<'a> {
    let (said, event) = (&letter.said, &letter.event);
    let headers: Headers<'a> = event.headers;
    let header =
        |header: crate::data::event::Header<'a>| Header { name: Bytes(header.name), value: header.value.map(Bytes) };
    Shown {
        record: Record {
            topic,
            partition: letter.partition,
            offset: letter.offset,
            timestamp: Some(event.timestamp).filter(|timestamp| *timestamp >= 0),
            key: event.key.map(Bytes),
            value: event.value.map(Bytes),
            headers: headers.iter().map(header).collect(),
        },
        error: ErrorJson {
            route: said.route,
            plugin: said.plugin.map(|(plugin, _)| plugin),
            plugin_version: said.plugin.map(|(_, version)| version),
            kind: said.kind,
            message: said.message,
            attempts: said.attempts,
            at: time(said.timestamp),
            event: letter.origin().to_string(),
            truncated: said.truncated,
            redriven_before: said.times,
        },
        redriven: mark,
        next,
    }
}
