//! Dead letters: the event as it was, plus headers that say what happened to it. Decides how a letter reads, never
//! whether one is written.

use super::event::Event;
use super::failure::Failure;

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

impl Letter<'_> {
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

/// The header of a letter that was too large for its topic: how many bytes its value had.
pub const TRUNCATED: &str = "midplane-error-truncated";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::event::Headers;
    use crate::data::failure::Kind;

    #[test]
    fn a_letter_says_what_the_contract_lists() {
        let event = Event {
            topic: "in",
            partition: 2,
            offset: 41,
            timestamp: 5,
            key: None,
            value: None,
            headers: Headers::Empty,
        };
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
