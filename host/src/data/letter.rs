//! Dead letters: the event as it was, plus headers that say what happened to it. Decides how a letter reads, never
//! whether one is written.

use super::event::Event;
use super::failure::Failure;
use super::size;

/// The prefix of all headers that a letter adds.
pub const PREFIX: &str = "midplane-error-";

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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// It is whole.
    Nothing,
    /// The event's value.
    Value,
    /// All of the event: its value, its key and its headers. Where it was is left.
    Event,
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
        number("midplane-error-partition", self.event.partition.into());
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

/// The header of a letter that was too large for its topic, and goes without the event's value, or without key and headers,
/// too: how many bytes the value had.
pub const TRUNCATED: &str = "midplane-error-truncated";

/// The header of a letter whose topic refuses the event's time: that time, in milliseconds since the Unix epoch.
pub const EVENT_TIMESTAMP: &str = "midplane-error-event-timestamp";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::event::Headers;
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
        check(1_500, 1_500, Cut::Event);
        check(3_000, 1, Cut::Event);
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
