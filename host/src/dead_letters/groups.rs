//! Letters that failed in the same way, counted: by topic, route, plugin and its version, kind and message, each as the letters
//! have it. Pure.

use std::collections::HashMap;

use super::place::Place;
use super::selection::place;
use super::{Letter, Mark};

/// What the messages of different groups may have together, in bytes. Beyond it, letters are counted without theirs.
const MESSAGES_BYTES_MAX: usize = 32 << 20;
/// Of a sample's value.
const SAMPLE_BYTES_MAX: usize = 256;

/// What the letters of a group have in common.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Their topic.
    pub topic: String,
    /// Their route's id.
    pub route: String,
    /// The plugin that failed and its version, if it was one.
    pub plugin: Option<(String, String)>,
    /// The kind of failure.
    pub kind: String,
    /// What was said of it. None where there are too many different ones to be told apart.
    pub message: Option<String>,
}

/// A moment in the letters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment {
    /// When the letter was written, in milliseconds since the Unix epoch.
    pub at: i64,
    /// Where it stands.
    pub place: Place,
}

/// One letter of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// Where it stands, and when it was written.
    pub moment: Moment,
    /// Whether it was redriven.
    pub redriven: bool,
    /// Where the event was.
    pub event: Place,
    /// The event's key.
    pub key: Option<Vec<u8>>,
    /// The beginning of the event's value.
    pub value: Option<Vec<u8>>,
    /// Whether the value is longer.
    pub cut: bool,
}

/// What was counted of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Letters that were not redriven.
    pub open: u64,
    /// Those of them without their value.
    pub truncated: u64,
    /// Letters that were.
    pub redriven: u64,
    /// The first letter.
    pub first: Moment,
    /// The last letter.
    pub last: Moment,
    /// The newest one that was not redriven, else the newest.
    pub sample: Sample,
}

/// All groups.
#[derive(Debug, Default)]
pub struct Groups {
    groups: HashMap<Key, Group>,
    messages_bytes: usize,
}

impl Groups {
    /// One letter more.
    pub fn add(&mut self, topic: &str, letter: &Letter<'_>, mark: Option<&Mark>) {
        let said = &letter.said;
        let mut key = Key {
            topic: topic.to_owned(),
            route: said.route.to_owned(),
            plugin: said.plugin.map(|(name, version)| (name.to_owned(), version.to_owned())),
            kind: said.kind.to_owned(),
            message: Some(said.message.to_owned()),
        };
        if !self.groups.contains_key(&key) {
            match self.messages_bytes + said.message.len() <= MESSAGES_BYTES_MAX {
                true => self.messages_bytes += said.message.len(),
                false => key.message = None,
            }
        }
        let moment = Moment { at: said.timestamp, place: place(topic, letter) };
        let redriven = mark.is_some();
        let group = self.groups.entry(key).or_insert_with(|| Group {
            open: 0,
            truncated: 0,
            redriven: 0,
            first: moment.clone(),
            last: moment.clone(),
            sample: sample(letter, moment.clone(), redriven),
        });
        group.open += u64::from(!redriven);
        group.redriven += u64::from(redriven);
        group.truncated += u64::from(!redriven && said.truncated.is_some());
        if (!redriven, &moment) > (!group.sample.redriven, &group.sample.moment) {
            group.sample = sample(letter, moment.clone(), redriven);
        }
        group.first = group.first.clone().min(moment.clone());
        group.last = group.last.clone().max(moment);
    }

    /// Those with the most to be looked at first.
    pub fn sorted(self) -> Vec<(Key, Group)> {
        let mut groups: Vec<_> = self.groups.into_iter().collect();
        groups.sort_by(|(a_key, a), (b_key, b)| (b.open, b.redriven).cmp(&(a.open, a.redriven)).then(a_key.cmp(b_key)));
        groups
    }
}

fn sample(letter: &Letter<'_>, moment: Moment, redriven: bool) -> Sample {
    let value = letter.event.value;
    Sample {
        moment,
        redriven,
        event: letter.origin(),
        key: letter.event.key.map(<[u8]>::to_vec),
        value: value.map(|value| beginning(value).to_vec()),
        cut: value.is_some_and(|value| beginning(value).len() < value.len()),
    }
}

/// The first bytes of a value, no character cut in two where it is text.
fn beginning(value: &[u8]) -> &[u8] {
    if value.len() <= SAMPLE_BYTES_MAX {
        return value;
    }
    let is_boundary = |at: &usize| value.get(*at).is_none_or(|byte| byte & 0xc0 != 0x80);
    let end = (SAMPLE_BYTES_MAX - 3..=SAMPLE_BYTES_MAX).rev().find(is_boundary).unwrap_or(SAMPLE_BYTES_MAX);
    &value[..end]
}

#[cfg(test)]
mod tests {
    use super::super::marks::{Mark, Outcome};
    use super::super::testing::letter;
    use super::*;

    #[test]
    fn letters_that_failed_in_the_same_way_are_one_group() {
        let mut groups = Groups::default();
        let mut add = |offset, headers: &[(&str, &str)], redriven: bool| {
            let letter = letter(offset, headers, &offset.to_string());
            let mark = redriven.then(|| Mark::new(&letter, "r", 1, Outcome::Outputs));
            groups.add("letters", &letter, mark.as_ref());
        };
        let version = |version: &'static str| [("plugin", "p"), ("plugin-version", version)];
        add(5, &version("aa"), false);
        add(4, &version("aa"), false);
        add(9, &version("aa"), true);
        add(6, &version("bb"), false);
        add(7, &[("kind", "trap")], false);
        add(8, &[("message", "No")], true);
        add(3, &[("route", "s"), ("truncated", "9")], false);
        let sorted = groups.sorted();
        let shown: Vec<_> = sorted
            .iter()
            .map(|(key, group)| {
                let plugin = key.plugin.as_ref().map_or("-", |(_, version)| version);
                let message = key.message.as_deref().unwrap_or("…");
                let (first, last, sample) = (group.first.at, group.last.at, group.sample.moment.at);
                let Group { open, truncated, redriven, .. } = group;
                format!(
                    "{} {plugin} {} {message}: {open} ({truncated}) {redriven}, {first} to {last}, {sample}",
                    key.route, key.kind
                )
            })
            .collect();
        assert_eq!(
            shown,
            [
                "r aa permanent no: 2 (0) 1, 4 to 9, 5",
                "r - trap no: 1 (0) 0, 7 to 7, 7",
                "r bb permanent no: 1 (0) 0, 6 to 6, 6",
                "s - permanent no: 1 (1) 0, 3 to 3, 3",
                "r - permanent No: 0 (0) 1, 8 to 8, 8",
            ]
        );
        assert_eq!(sorted[0].1.sample.event.to_string(), "in/3/1005");
        assert_eq!(sorted[0].1.sample.value.as_deref(), Some(&b"5"[..]));
    }

    #[test]
    fn too_many_different_messages_are_counted_without() {
        let mut groups = Groups { messages_bytes: MESSAGES_BYTES_MAX - 4, ..Groups::default() };
        for (offset, message) in [(1, "four"), (2, "none"), (3, "more"), (4, "four")] {
            groups.add("letters", &letter(offset, &[("message", message)], ""), None);
        }
        let counts: Vec<_> = groups.sorted().into_iter().map(|(key, group)| (key.message, group.open)).collect();
        assert_eq!(counts, [(None, 2), (Some("four".to_owned()), 2)]);
    }

    #[test]
    fn a_sample_is_cut_between_characters() {
        assert_eq!(beginning(b"short"), b"short");
        let text = format!("{}äb", "x".repeat(SAMPLE_BYTES_MAX - 1));
        assert_eq!(beginning(text.as_bytes()).len(), SAMPLE_BYTES_MAX - 1);
        assert_eq!(beginning(&[0x80; 500]).len(), SAMPLE_BYTES_MAX);
    }
}
