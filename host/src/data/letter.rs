//! Dead letters: the event as it was, plus headers that say what happened to it. Decides how a letter reads, and reads it
//! back; never decides whether one is written, or what becomes of it.

use super::engine::{Refusal, Refused};
use super::event::{Event, Header, Headers};
use super::failure::Failure;
use super::size;

/// The prefix of all headers that a letter adds.
pub const PREFIX: &str = "midplane-error-";

/// The first of the headers that a letter adds: where it last stands, the event's own end.
const FIRST: &str = "midplane-error-partition";
/// The header of a letter that was too large for its topic, and goes without the event's value, or without key and headers,
/// too: how many bytes the value had.
pub const TRUNCATED: &str = "midplane-error-truncated";
/// The header of a letter whose topic refuses the event's time: that time, in milliseconds since the Unix epoch.
pub const EVENT_TIMESTAMP: &str = "midplane-error-event-timestamp";
/// The header of an event that a letter became again, and of what that led to: `ROUTE/TIMES`.
pub const REDRIVEN: &str = "midplane-redriven";

/// What a letter says beyond the event.
#[derive(Debug)]
pub struct Letter<'a> {
    /// The event, unchanged.
    pub event: &'a Event<'a>,
    /// The route that failed, by its id.
    pub route: &'a str,
    /// The plugin that failed and its version as hexadecimal digits, if it was one.
    pub plugin: Option<(&'a str, &'a str)>,
    /// What happened.
    pub failure: &'a Failure,
    /// Calls that were made for it.
    pub attempts: u32,
    /// When the letter was written, in milliseconds since the Unix epoch.
    pub timestamp: i64,
}

/// What a letter goes without, since its topic doesn't take it whole.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cut {
    /// It is whole.
    #[default]
    Nothing,
    /// The event's value.
    Value,
    /// All of the event: its value, its key and its headers. Where it was is left.
    Event,
}

/// What a route's letter of an event has to go without, by what was refused of the event before.
pub fn cut_of(refused: impl Iterator<Item = Refused>, route: u16) -> Cut {
    let cut = refused.filter(|refused| refused.route == route).map(|refused| match refused.reason {
        Refusal::LetterTooLarge { cut: true } => Cut::Event,
        Refusal::LetterTooLarge { cut: false } => Cut::Value,
        Refusal::TooLarge | Refusal::Rejected => Cut::Nothing,
    });
    cut.max().unwrap_or_default()
}

impl Letter<'_> {
    /// What has to be left out of it, so that it has at most so many bytes. What it says of the failure always stays.
    pub fn cut(&self, record_bytes_max: usize) -> Cut {
        let Event { key, value, headers, .. } = *self.event;
        let mut said = size::header(TRUNCATED.as_bytes(), Some(&[0; 20]));
        self.headers(|name, value| said += size::header(name.as_bytes(), Some(value)));
        let whole = size::record(key, value, headers) + said;
        if whole <= record_bytes_max {
            Cut::Nothing
        } else if whole - size::bytes(value) <= record_bytes_max {
            Cut::Value
        } else {
            Cut::Event
        }
    }

    /// Calls `add` with each header in a fixed order, names complete.
    pub fn headers(&self, mut add: impl FnMut(&str, &[u8])) {
        let mut number = |name: &str, number: i64| add(name, number.to_string().as_bytes());
        number(FIRST, self.event.partition.into());
        number("midplane-error-offset", self.event.offset);
        number("midplane-error-attempts", self.attempts.into());
        number("midplane-error-timestamp", self.timestamp);
        add("midplane-error-topic", self.event.topic.as_bytes());
        add("midplane-error-route", self.route.as_bytes());
        if let Some((plugin, version)) = self.plugin {
            add("midplane-error-plugin", plugin.as_bytes());
            add("midplane-error-plugin-version", version.as_bytes());
        }
        add("midplane-error-kind", self.failure.kind.as_str().as_bytes());
        add("midplane-error-message", self.failure.message.as_bytes());
    }
}

/// What a letter that was read says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Said<'a> {
    /// Where the event was.
    pub topic: &'a str,
    /// Where the event was.
    pub partition: i32,
    /// Where the event was.
    pub offset: i64,
    /// The route that failed, by the id that it had.
    pub route: &'a str,
    /// The plugin that failed and its version as hexadecimal digits, if it was one.
    pub plugin: Option<(&'a str, &'a str)>,
    /// Which kind of failure: one of [`Kind`](super::failure::Kind)'s, unless another version wrote it.
    pub kind: &'a str,
    /// What happened, as the letter has it: what a plugin says is text.
    pub message: &'a str,
    /// Calls that were made for it.
    pub attempts: u32,
    /// When the letter was written, in milliseconds since the Unix epoch.
    pub timestamp: i64,
    /// How many bytes the value had that the letter goes without.
    pub truncated: Option<u64>,
    /// The event's time, where it isn't the letter's.
    pub event_timestamp: Option<i64>,
    /// How often this route had the event back before.
    pub times: u32,
    /// How many of the headers are the event's own: the first ones.
    own: usize,
}

impl<'a> Said<'a> {
    /// What the headers of a letter say. None where they aren't a letter's.
    pub fn read(headers: Headers<'a>) -> Option<Self> {
        let own = (0..headers.len()).rfind(|index| named(headers, *index, FIRST))?;
        // A route can read letters: those that such an event brought along are not about it.
        let text = |name: &str| {
            let index = (own..headers.len()).rfind(|index| named(headers, *index, name))?;
            headers.get(index)?.value.and_then(|value| std::str::from_utf8(value).ok())
        };
        let route = text("midplane-error-route")?;
        let plugin = text("midplane-error-plugin").zip(text("midplane-error-plugin-version"));
        Some(Self {
            topic: text("midplane-error-topic")?,
            partition: text(FIRST)?.parse().ok()?,
            offset: text("midplane-error-offset")?.parse().ok()?,
            route,
            plugin,
            kind: text("midplane-error-kind")?,
            message: text("midplane-error-message").unwrap_or_default(),
            attempts: text("midplane-error-attempts").and_then(|text| text.parse().ok()).unwrap_or(0),
            timestamp: text("midplane-error-timestamp")?.parse().ok()?,
            truncated: text(TRUNCATED).map(|text| text.parse().unwrap_or(0)),
            event_timestamp: text(EVENT_TIMESTAMP).and_then(|text| text.parse().ok()),
            times: times(headers, own, route),
            own,
        })
    }

    /// The headers with which the event is to be had again: its own, and `redriven` as what [`REDRIVEN`] says.
    pub fn restore(&self, headers: Headers<'a>, redriven: &'a str) -> Vec<Header<'a>> {
        let own = headers.iter().take(self.own).filter(|header| header.name != REDRIVEN.as_bytes());
        let header = Header { name: REDRIVEN.as_bytes(), value: Some(redriven.as_bytes()) };
        own.chain([header]).collect()
    }
}

fn named(headers: Headers<'_>, index: usize, name: &str) -> bool {
    headers.get(index).is_some_and(|header| header.name == name.as_bytes())
}

/// How often a route had an event back, by the event's own headers. What another route redrove is no time of this one's.
fn times(headers: Headers<'_>, own: usize, route: &str) -> u32 {
    let of_route = |index: &usize| named(headers, *index, REDRIVEN);
    let value = (0..own).rfind(of_route).and_then(|index| headers.get(index)?.value);
    let text = value.and_then(|value| std::str::from_utf8(value).ok());
    let parts = text.and_then(|text| text.rsplit_once('/')).filter(|(by, _)| *by == route);
    parts.and_then(|(_, times)| times.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::failure::Kind;

    const EVENT: Event<'static> =
        Event { topic: "in", partition: 2, offset: 41, timestamp: 5, key: None, value: None, headers: Headers::Empty };

    #[test]
    fn what_is_left_out_is_no_more_than_has_to_be() {
        let failure = Failure::new(Kind::Permanent, "amount is missing");
        let check = |key: usize, value: usize, expected| {
            let (key, value) = (vec![b'k'; key], vec![b'v'; value]);
            let event = Event { key: Some(&key), value: Some(&value), ..EVENT };
            let letter =
                Letter { event: &event, route: "r", plugin: None, failure: &failure, attempts: 1, timestamp: 9 };
            assert_eq!(letter.cut(2_000), expected, "a key of {}, a value of {}", key.len(), value.len());
        };
        check(0, 0, Cut::Nothing);
        check(500, 500, Cut::Nothing);
        check(500, 1_500, Cut::Value);
        check(1_900, 1_500, Cut::Event);
        check(3_000, 1, Cut::Event);
    }

    /// The headers of a letter of route `r` about an event with these headers.
    fn written(own: &[(&str, &str)], plugin: Option<(&str, &str)>) -> Vec<(String, Vec<u8>)> {
        let failure = Failure::new(Kind::Permanent, "amount is missing");
        let letter = Letter { event: &EVENT, route: "r", plugin, failure: &failure, attempts: 3, timestamp: 99 };
        let own = own.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec()));
        let mut headers: Vec<_> = own.collect();
        letter.headers(|name, value| headers.push((name.to_owned(), value.to_vec())));
        headers
    }

    fn borrowed(headers: &[(String, Vec<u8>)]) -> Vec<Header<'_>> {
        headers.iter().map(|(name, value)| Header { name: name.as_bytes(), value: Some(value) }).collect()
    }

    #[test]
    fn a_letter_is_read_as_it_was_written() {
        let headers = written(&[("a", "1")], Some(("score", "abcd")));
        let headers = borrowed(&headers);
        let said = Said {
            topic: "in",
            partition: 2,
            offset: 41,
            route: "r",
            plugin: Some(("score", "abcd")),
            kind: "permanent",
            message: "amount is missing",
            attempts: 3,
            timestamp: 99,
            truncated: None,
            event_timestamp: None,
            times: 0,
            own: 1,
        };
        assert_eq!(Said::read(Headers::Slice(&headers)), Some(said));
        let restored = said.restore(Headers::Slice(&headers), "r/1");
        let expected = [("a", "1"), ("midplane-redriven", "r/1")];
        let expected = expected.map(|(name, value)| Header { name: name.as_bytes(), value: Some(value.as_bytes()) });
        assert_eq!(restored, expected);
    }

    #[test]
    fn a_letter_under_a_time_of_its_own_says_its_event_s() {
        let mut headers = written(&[(EVENT_TIMESTAMP, "7")], None);
        let time = |headers: &[(String, Vec<u8>)]| {
            Said::read(Headers::Slice(&borrowed(headers))).expect("a letter").event_timestamp
        };
        assert_eq!(time(&headers), None, "the event brought it along");
        headers.push((EVENT_TIMESTAMP.to_owned(), b"5".to_vec()));
        assert_eq!(time(&headers), Some(5));
    }

    #[test]
    fn what_a_letter_lacks_is_not_taken_from_the_letter_that_it_is_about() {
        let inner = written(&[], Some(("score", "abcd")));
        let inner: Vec<_> =
            inner.iter().map(|(name, value)| (name.as_str(), std::str::from_utf8(value).expect("text"))).collect();
        let outer = written(&inner, None);
        let outer = borrowed(&outer);
        let said = Said::read(Headers::Slice(&outer)).expect("a letter");
        assert_eq!((said.plugin, said.own), (None, inner.len()));
        assert_eq!(
            said.restore(Headers::Slice(&outer), "r/1").len(),
            inner.len() + 1,
            "the event was a letter, and is"
        );
    }

    #[test]
    fn times_are_counted_for_each_route() {
        let check = |own: &[(&str, &str)], expected: u32| {
            let headers = written(own, None);
            let headers = borrowed(&headers);
            let said = Said::read(Headers::Slice(&headers)).expect("a letter");
            assert_eq!(said.times, expected, "{own:?}");
            let restored = said.restore(Headers::Slice(&headers), "r/9");
            assert_eq!(restored.iter().filter(|header| header.name == REDRIVEN.as_bytes()).count(), 1);
        };
        check(&[], 0);
        check(&[(REDRIVEN, "r/1")], 1);
        check(&[(REDRIVEN, "r/12"), ("a", "b")], 12);
        check(&[(REDRIVEN, "other/4")], 0);
        check(&[(REDRIVEN, "r")], 0);
        check(&[(REDRIVEN, "r/many")], 0);
    }

    #[test]
    fn other_records_are_no_letters() {
        assert_eq!(Said::read(Headers::Empty), None);
        let headers = written(&[], None);
        for missing in ["partition", "offset", "topic", "route", "kind", "timestamp"] {
            let some: Vec<_> =
                borrowed(&headers).into_iter().filter(|header| !header.name.ends_with(missing.as_bytes())).collect();
            assert_eq!(Said::read(Headers::Slice(&some)), None, "{missing}");
        }
    }

    #[test]
    fn a_letter_says_what_the_contract_lists() {
        let event = EVENT;
        let failure = Failure::new(Kind::Permanent, "amount is missing");
        let letter = Letter {
            event: &event,
            route: "r",
            plugin: Some(("score", "abcd")),
            failure: &failure,
            attempts: 3,
            timestamp: 99,
        };
        let mut seen = std::collections::BTreeMap::new();
        letter.headers(|name, value| {
            let name = name.strip_prefix(PREFIX).expect("every header has the prefix").to_owned();
            assert_eq!(seen.insert(name, String::from_utf8_lossy(value).into_owned()), None);
        });
        let expected = [
            ("attempts", "3"),
            ("kind", "permanent"),
            ("message", "amount is missing"),
            ("offset", "41"),
            ("partition", "2"),
            ("plugin", "score"),
            ("plugin-version", "abcd"),
            ("route", "r"),
            ("timestamp", "99"),
            ("topic", "in"),
        ];
        let seen: Vec<_> = seen.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(seen, expected);
    }
}
