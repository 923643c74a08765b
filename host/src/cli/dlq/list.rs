//! `midplane dlq list`: what failed, counted by what the letters say.

use std::io::Write;

use clap::Args;
use serde::Serialize;
use serde_json::{Value, json};

use super::super::topic::Output;
use super::super::topic::record::Bytes;
use super::super::{Exit, Failure};
use super::text::{brief, cause, indented, letters, line, safe, time};
use super::{ChoiceArgs, failure};
use crate::dead_letters::archive::Seen;
use crate::dead_letters::groups::{Group, Groups, Key, Moment};

/// Groups that are shown where nobody says how many.
const GROUPS: usize = 20;

/// `midplane dlq list`
#[derive(Debug, Args)]
#[command(after_help = "\
Letters that say the same of route, plugin, version, kind and message are one
group, those with the most open letters first. A letter is open until it was
redriven; one that failed again has another letter, which is open. Messages are
compared as they are.

Examples:
  midplane dlq list
  midplane dlq list --route payments --since 2h
  midplane dlq list --kind permanent --where 'event.json.amount > 1000'")]
pub(super) struct ListArgs {
    #[command(flatten)]
    choice: ChoiceArgs,

    /// Show so many groups at most; 0 for all [default: 20, and all with --output json]
    #[arg(long, value_name = "N")]
    limit: Option<usize>,

    /// How the list is written
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// What was found.
struct Listing {
    topics: Vec<Row>,
    groups: Vec<(Key, Group)>,
    /// Groups that aren't shown, and their open letters.
    more: (usize, u64),
}

/// What was found in a topic.
#[derive(Debug, Default, Serialize)]
struct Row {
    topic: String,
    exists: bool,
    letters: u64,
    /// Of those that are meant.
    open: u64,
    /// Of those that are meant.
    redriven: u64,
    /// Letters that the expression can't be evaluated for.
    undecided: u64,
    undecided_why: Option<String>,
    /// Records that are no letters.
    other_records: u64,
}

pub(super) fn run(args: &ListArgs) -> Result<Exit, Failure> {
    let desk = args.choice.open(&[])?;
    let (mut groups, mut topics) = (Groups::default(), Vec::new());
    for topic in &desk.present {
        let mut row = Row { topic: topic.clone(), exists: true, ..Row::default() };
        let seen = desk.archive.visit(topic, &desk.selection, &mut |letter, mark| {
            *(if mark.is_some() { &mut row.redriven } else { &mut row.open }) += 1;
            groups.add(topic, letter, mark);
        });
        let Seen { letters, undecided, why, others, .. } = seen.map_err(failure)?;
        topics.push(Row { letters, undecided, undecided_why: why, other_records: others, ..row });
    }
    topics.extend(desk.absent.iter().map(|topic| Row { topic: topic.clone(), ..Row::default() }));
    let limit = match (args.limit, args.output) {
        (Some(0), _) | (None, Output::Json) => usize::MAX,
        (limit, _) => limit.unwrap_or(GROUPS),
    };
    let listing = Listing::new(topics, groups.sorted(), limit);
    let text = match args.output {
        Output::Text => listing.to_text(),
        Output::Json => format!("{:#}\n", listing.to_json()?),
    };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(Exit::Done)
}

impl Listing {
    fn new(mut topics: Vec<Row>, mut groups: Vec<(Key, Group)>, limit: usize) -> Self {
        topics.sort_by(|a, b| a.topic.cmp(&b.topic));
        let rest = groups.split_off(groups.len().min(limit));
        let more = (rest.len(), rest.iter().map(|(_, group)| group.open).sum());
        Self { topics, groups, more }
    }

    fn to_text(&self) -> String {
        let width = self.topics.iter().map(|row| row.topic.chars().count()).max().unwrap_or(0);
        let mut text = String::new();
        for row in &self.topics {
            text.push_str(&format!("{:width$}  {}\n", row.topic, row.to_text()));
        }
        for (key, group) in &self.groups {
            text.push('\n');
            text.push_str(&group_text(key, group));
        }
        match self.more {
            (0, _) => {}
            (groups, open) => text.push_str(&format!(
                "\n{groups} more group{}, with {open} open letters: `--limit 0` shows them\n",
                if groups == 1 { "" } else { "s" }
            )),
        }
        if self.topics.iter().any(|row| row.open > 0) {
            text.push_str("\n`midplane dlq show LETTER` has the whole of one; `midplane dlq redrive`, with the same options, says\nwhat sending them back would do\n");
        }
        text
    }

    fn to_json(&self) -> Result<Value, Failure> {
        let topics = serde_json::to_value(&self.topics).map_err(Failure::failed)?;
        let groups: Vec<_> = self.groups.iter().map(|(key, group)| group_json(key, group)).collect();
        let (groups_left_out, _) = self.more;
        Ok(json!({ "topics": topics, "groups": groups, "groups_left_out": groups_left_out }))
    }
}

impl Row {
    fn to_text(&self) -> String {
        let meant = self.open + self.redriven;
        let mut parts = Vec::new();
        match (self.exists, self.letters, meant) {
            (false, ..) => parts.push("no letters: the topic does not exist".to_owned()),
            (true, 0, _) => parts.push("no letters".to_owned()),
            (true, all, 0) => parts.push(format!("none of its {} is meant", letters(all))),
            (true, all, meant) => {
                let of = if meant < all { format!("{meant} of {}", letters(all)) } else { letters(all) };
                parts.push(format!("{of}: {} open, {} redriven", self.open, self.redriven));
            }
        }
        if let Some(why) = &self.undecided_why {
            parts.push(format!("{} that `--where` can't be evaluated for ({})", self.undecided, line(why)));
        }
        if self.other_records > 0 {
            parts.push(format!("{} other records, which are no letters", self.other_records));
        }
        parts.join("; ")
    }
}

fn group_text(key: &Key, group: &Group) -> String {
    let redriven = if group.redriven > 0 { format!(", {} redriven", group.redriven) } else { String::new() };
    let mut text = format!("{} open{redriven}: {}\n", group.open, cause(key));
    match &key.message {
        Some(message) => text.push_str(&format!("  {}\n", indented(&safe(message), "  "))),
        None => text.push_str("  (further messages, more than can be told apart)\n"),
    }
    let moment = |moment: &Moment| format!("{}  {}", time(moment.at), moment.place);
    text.push_str(&format!("  first   {}\n  last    {}\n", moment(&group.first), moment(&group.last)));
    let sample = &group.sample;
    let key = sample.key.as_deref().map_or_else(|| "no key".to_owned(), |key| format!("key {}", brief(key, false)));
    let value = sample.value.as_deref().map_or_else(|| "no value".to_owned(), |value| brief(value, sample.cut));
    text.push_str(&format!("  sample  {}, of {}, {key}\n          {value}\n", sample.moment.place, sample.event));
    if group.truncated > 0 {
        text.push_str(&format!("  {} of them without the value, which was too large\n", group.truncated));
    }
    text
}

fn group_json(key: &Key, group: &Group) -> Value {
    let moment = |moment: &Moment| json!({ "at": time(moment.at), "letter": moment.place.to_string() });
    let bytes = |bytes: &Option<Vec<u8>>| bytes.as_deref().map(|bytes| json!(Bytes(bytes)));
    let sample = &group.sample;
    json!({
        "topic": key.topic,
        "route": key.route,
        "plugin": key.plugin.as_ref().map(|(name, _)| name),
        "plugin_version": key.plugin.as_ref().map(|(_, version)| version),
        "kind": key.kind,
        "message": key.message,
        "open": group.open,
        "open_without_value": group.truncated,
        "redriven": group.redriven,
        "first": moment(&group.first),
        "last": moment(&group.last),
        "sample": {
            "letter": sample.moment.place.to_string(),
            "event": sample.event.to_string(),
            "key": bytes(&sample.key),
            "value": bytes(&sample.value),
            "value_is_cut": sample.cut,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dead_letters::groups::Sample;

    fn moment(at: i64, place: &str) -> Moment {
        Moment { at, place: place.parse().expect("a place") }
    }

    fn key(route: &str, plugin: Option<(&str, &str)>, kind: &str, message: Option<&str>) -> Key {
        Key {
            topic: "large.dead-letters".to_owned(),
            route: route.to_owned(),
            plugin: plugin.map(|(name, version)| (name.to_owned(), version.repeat(32))),
            kind: kind.to_owned(),
            message: message.map(str::to_owned),
        }
    }

    fn group(open: u64, redriven: u64, value: Option<&[u8]>) -> Group {
        let last = moment(1_795_815_600_120, "large.dead-letters/0/400");
        let sample = Sample {
            moment: last.clone(),
            redriven: open == 0,
            event: "payments/3/1234".parse().expect("a place"),
            key: value.is_some().then(|| b"card-7".to_vec()),
            value: value.map(<[u8]>::to_vec),
            cut: false,
        };
        let first = moment(1_795_813_331_000, "large.dead-letters/1/12");
        Group { open, truncated: u64::from(value.is_none()), redriven, first, last, sample }
    }

    fn listing(limit: usize) -> Listing {
        let row = |topic: &str| Row { topic: topic.to_owned(), exists: true, ..Row::default() };
        let topics = vec![
            Row { letters: 128, open: 98, redriven: 30, ..row("large.dead-letters") },
            row("archive.dead-letters"),
            Row { letters: 12, undecided: 2, undecided_why: Some("not JSON".to_owned()), ..row("other.dead-letters") },
            Row { exists: false, ..row("new.dead-letters") },
            Row { letters: 9, open: 1, other_records: 3, ..row("shared") },
        ];
        let groups = vec![
            (
                key("large", Some(("mask", "1f")), "permanent", Some("amount is missing")),
                group(97, 8, Some(br#"{"amount":null}"#)),
            ),
            (key("large", None, "filter", Some("the value isn't valid JSON:\nat 1\u{1b}[2J")), group(1, 0, None)),
            (key("large", Some(("mask", "1e")), "trap", None), group(0, 22, Some(b"\xff"))),
        ];
        Listing::new(topics, groups, limit)
    }

    #[test]
    fn groups_as_people_read_them() {
        insta::assert_snapshot!(listing(2).to_text());
    }

    #[test]
    fn groups_as_programs_read_them() {
        insta::assert_snapshot!(format!("{:#}", listing(usize::MAX).to_json().expect("JSON")));
    }

    #[test]
    fn that_there_is_nothing_is_said() {
        let row = Row { topic: "a.dead-letters".to_owned(), exists: true, ..Row::default() };
        assert_eq!(Listing::new(vec![row], Vec::new(), 20).to_text(), "a.dead-letters  no letters\n");
    }
}
