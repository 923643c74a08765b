//! Which of the sample events have their outcome, by what the outputs and the dead letters say of where they come from.

use std::collections::BTreeSet;

use super::view::Event;

/// The outcomes of one route.
#[derive(Debug)]
pub(super) struct Outcomes {
    input: &'static str,
    route: &'static str,
    expected: usize,
    /// `TOPIC/PARTITION/OFFSET`
    went_in: BTreeSet<String>,
    answered: BTreeSet<String>,
    letters: BTreeSet<String>,
}

impl Outcomes {
    /// None of `expected` events has its outcome yet.
    pub(super) fn new(input: &'static str, route: &'static str, expected: usize) -> Self {
        let [went_in, answered, letters] = Default::default();
        Self { input, route, expected, went_in, answered, letters }
    }

    /// Takes an event of any topic in.
    pub(super) fn take(&mut self, event: &Event) {
        if event.topic == self.input {
            self.went_in.insert(format!("{}/{}/{}", event.topic, event.partition, event.offset));
        } else if let Some((origin, route)) = letter(event) {
            if route == self.route {
                self.letters.insert(origin);
            }
        } else if let Some((origin, route)) = event.header("midplane-origin").and_then(origin)
            && route == self.route
        {
            self.answered.insert(origin);
        }
    }

    /// Whether all are in, and each has its outcome.
    pub(super) fn complete(&self) -> bool {
        self.went_in.len() >= self.expected && self.unanswered().next().is_none()
    }

    /// How many events went in, were answered with outputs, and with a dead letter.
    pub(super) fn counts(&self) -> (usize, usize, usize) {
        (self.went_in.len(), self.answered.len(), self.letters.len())
    }

    /// What is missing, for people.
    pub(super) fn missing(&self) -> String {
        let unanswered: Vec<&str> = self.unanswered().map(String::as_str).collect();
        format!(
            "{} of {} sample events were seen going in, and {} of those have no outcome: {}",
            self.went_in.len(),
            self.expected,
            unanswered.len(),
            unanswered[..unanswered.len().min(5)].join(", "),
        )
    }

    fn unanswered(&self) -> impl Iterator<Item = &String> {
        self.went_in.iter().filter(|origin| !self.answered.contains(*origin) && !self.letters.contains(*origin))
    }
}

/// The event and the route in `TOPIC/PARTITION/OFFSET/INDEX ROUTE@GENERATION …`.
fn origin(header: &str) -> Option<(String, &str)> {
    let mut words = header.split(' ');
    let (event, _index) = words.next()?.rsplit_once('/')?;
    let (route, _generation) = words.next()?.rsplit_once('@')?;
    Some((event.to_owned(), route))
}

/// The event and the route that a dead letter names.
fn letter(event: &Event) -> Option<(String, &str)> {
    let part = |name: &str| event.header(&format!("midplane-error-{name}"));
    Some((format!("{}/{}/{}", part("topic")?, part("partition")?, part("offset")?), part("route")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(topic: &str, offset: i64, headers: &[(&str, &str)]) -> Event {
        let headers: Vec<serde_json::Value> =
            headers.iter().map(|(name, value)| serde_json::json!({"name": name, "value": value})).collect();
        let line =
            serde_json::json!({"topic": topic, "partition": 0, "offset": offset, "value": "{}", "headers": headers});
        Event::parse(&line.to_string()).expect("an event")
    }

    #[test]
    fn each_event_needs_an_output_or_a_letter_of_the_route() {
        let mut outcomes = Outcomes::new("payments", "score", 2);
        outcomes.take(&event("payments", 0, &[]));
        outcomes.take(&event("scored", 0, &[("midplane-origin", "payments/0/0/0 score@1 mask@0123abcd")]));
        assert!(!outcomes.complete(), "one has not gone in");
        outcomes.take(&event("payments", 1, &[]));
        outcomes.take(&event("large", 0, &[("midplane-origin", "payments/0/1/0 large@1 mask@0123abcd")]));
        assert!(!outcomes.complete(), "another route's output");
        assert_eq!(
            outcomes.missing(),
            "2 of 2 sample events were seen going in, and 1 of those have no outcome: payments/0/1"
        );
        let headers = [("topic", "payments"), ("partition", "0"), ("offset", "1"), ("route", "score")];
        let headers = headers.map(|(name, value)| (format!("midplane-error-{name}"), value));
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (name.as_str(), *value)).collect();
        outcomes.take(&event("letters", 0, &headers));
        assert!(outcomes.complete());
        assert_eq!(outcomes.counts(), (2, 1, 1));
    }
}
