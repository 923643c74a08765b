//! Which letters are meant. Pure.

use std::collections::BTreeSet;
use std::ops::Range;

use super::Letter;
use super::place::Place;
use crate::data::filter::{Filter, Outcome, Scratch};

/// What holds for every letter that is meant; what is empty, or none, holds for all.
#[derive(Debug, Default)]
pub struct Selection {
    /// Their routes, by the ids that letters may have of them.
    pub routes: BTreeSet<String>,
    /// Their kinds.
    pub kinds: BTreeSet<String>,
    /// Written at this time or later, in milliseconds since the Unix epoch.
    pub since: Option<i64>,
    /// Written before this time.
    pub until: Option<i64>,
    /// An expression over the event, at the place where it was, with all of the letter's headers.
    pub filter: Option<Filter>,
    /// Their own places.
    pub places: BTreeSet<Place>,
}

/// What a selection says of a letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is meant.
    Selected,
    /// Another is.
    Other,
    /// The expression can't be evaluated for it: why not.
    Undecided(String),
}

impl Selection {
    /// Whether a letter of a topic is meant.
    pub fn judge(&self, topic: &str, letter: &Letter<'_>, scratch: &mut Scratch) -> Verdict {
        let Letter { said, .. } = letter;
        let among = |names: &BTreeSet<String>, name: &str| names.is_empty() || names.contains(name);
        let meant = among(&self.routes, said.route)
            && among(&self.kinds, said.kind)
            && self.since.is_none_or(|since| said.timestamp >= since)
            && self.until.is_none_or(|until| said.timestamp < until)
            && (self.places.is_empty() || self.places.contains(&place(topic, letter)));
        match &self.filter {
            _ if !meant => Verdict::Other,
            None => Verdict::Selected,
            Some(filter) => {
                scratch.next_event();
                match filter.evaluate(&letter.event, scratch) {
                    Outcome::Match => Verdict::Selected,
                    Outcome::NoMatch | Outcome::Absent => Verdict::Other,
                    Outcome::Error(message) => Verdict::Undecided(message),
                }
            }
        }
    }

    /// The offsets of a partition that have to be looked at.
    pub fn within(&self, topic: &str, partition: i32) -> Range<i64> {
        if self.places.is_empty() {
            return 0..i64::MAX;
        }
        let offsets = self.places.iter().filter(|place| place.topic == topic && place.partition == partition);
        let offsets: BTreeSet<i64> = offsets.map(|place| place.offset).collect();
        match (offsets.first(), offsets.last()) {
            (Some(first), Some(last)) => *first..last.saturating_add(1),
            _ => 0..0,
        }
    }
}

/// A letter's own place.
pub fn place(topic: &str, letter: &Letter<'_>) -> Place {
    Place { topic: topic.to_owned(), partition: letter.partition, offset: letter.offset }
}

#[cfg(test)]
mod tests {
    use super::super::testing::letter;
    use super::*;

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn check(selection: &Selection, expected: Verdict) {
        // Written at 5.
        let letter = letter(5, &[("route", "large"), ("kind", "trap")], r#"{"amount": 12}"#);
        assert_eq!(selection.judge("letters", &letter, &mut Scratch::default()), expected, "{selection:?}");
    }

    #[test]
    fn every_criterion_has_to_hold() {
        let all = Selection::default;
        let (selected, other) = (Verdict::Selected, Verdict::Other);
        check(&all(), selected.clone());
        check(&Selection { routes: names(&["small", "large"]), ..all() }, selected.clone());
        check(&Selection { routes: names(&["small"]), ..all() }, other.clone());
        check(&Selection { kinds: names(&["trap"]), ..all() }, selected.clone());
        check(&Selection { kinds: names(&["permanent"]), ..all() }, other.clone());
        check(&Selection { since: Some(5), until: Some(6), ..all() }, selected.clone());
        check(&Selection { since: Some(6), ..all() }, other.clone());
        check(&Selection { until: Some(5), ..all() }, other.clone());
        let places = |texts: &[&str]| texts.iter().map(|text| text.parse().expect("a place")).collect();
        check(&Selection { places: places(&["letters/0/5", "letters/1/9"]), ..all() }, selected);
        check(&Selection { places: places(&["others/0/5", "letters/1/5", "letters/0/6"]), ..all() }, other.clone());
        check(&Selection { routes: names(&["large"]), kinds: names(&["loop"]), ..all() }, other);
    }

    #[test]
    fn an_expression_sees_the_event_where_it_was_and_what_the_letter_says() {
        let filter =
            |text: &str| Selection { filter: Some(Filter::compile(text).expect("a filter")), ..Selection::default() };
        check(&filter("event.topic == 'in' && event.partition == 3 && event.offset == 1005"), Verdict::Selected);
        check(&filter("event.json.amount > 11"), Verdict::Selected);
        check(&filter("event.json.amount > 12"), Verdict::Other);
        check(&filter("event.json.missing > 12"), Verdict::Other);
        check(&filter(r#"event.headers["midplane-error-kind"] == "trap""#), Verdict::Selected);
        let broken = letter(5, &[], "{");
        let verdict = filter("event.json.amount > 11").judge("letters", &broken, &mut Scratch::default());
        assert!(matches!(&verdict, Verdict::Undecided(why) if why.contains("isn't valid JSON")), "{verdict:?}");
    }

    #[test]
    fn places_bound_what_is_read() {
        let places = ["a/0/7", "a/0/3", "a/2/1", "b/0/100"].map(|text| text.parse().expect("a place"));
        let selection = Selection { places: places.into(), ..Selection::default() };
        assert_eq!(selection.within("a", 0), 3..8);
        assert_eq!(selection.within("a", 1), 0..0);
        assert_eq!(selection.within("b", 0), 100..101);
        assert_eq!(Selection::default().within("a", 0), 0..i64::MAX);
    }
}
