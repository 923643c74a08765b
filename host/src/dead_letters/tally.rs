//! What a redrive did, or would do, counted for each topic of letters and each route. Pure.

use std::collections::BTreeMap;

use serde::Serialize;

use super::marks::Outcome;
use crate::data::answers::Product;
use crate::data::failure::Kind;

/// Different failures that are shown one by one: whoever has more of them has seen enough.
const FAILURES_MAX: usize = 20;

/// What came of one letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// In a word.
    pub outcome: Outcome,
    /// For each output, the number of its topic.
    pub outputs: Vec<u16>,
    /// Why it failed, if it did.
    pub failure: Option<(Kind, String)>,
}

impl Done {
    /// The route doesn't take the event.
    pub const NOT_TAKEN: Self = Self { outcome: Outcome::NotTaken, outputs: Vec::new(), failure: None };

    /// What a route had for an event, where a failure may be one that its policy drops.
    pub fn of(product: &Product<'_, '_>, drops: bool) -> Self {
        match product {
            Product::Outputs([]) => Self { outcome: Outcome::Dropped, ..Self::NOT_TAKEN },
            Product::Outputs(outputs) => {
                let outputs = outputs.iter().map(|output| output.topic).collect();
                Self { outcome: Outcome::Outputs, outputs, failure: None }
            }
            Product::Failed { failure, .. } => {
                let outcome = if drops { Outcome::Dropped } else { Outcome::FailedAgain };
                let failure = Some((failure.kind, failure.message.clone()));
                Self { outcome, outputs: Vec::new(), failure }
            }
        }
    }
}

/// What came of the letters of one route.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// All of them.
    pub letters: u64,
    /// Those with outputs.
    pub with_outputs: u64,
    /// Outputs, by their topic.
    pub outputs: BTreeMap<String, u64>,
    /// Those whose event was dropped: by a plugin, or by the route's policy.
    pub dropped: u64,
    /// Those whose event the route's filter doesn't take, now that it can be evaluated.
    pub not_taken: u64,
    /// Those that failed again, for each of which there is a new letter.
    pub failed_again: u64,
    /// How they failed, dropped ones among them; the first twenty ways.
    pub failures: Vec<Failed>,
    /// Those that failed in other ways.
    pub other_failures: u64,
}

/// A way to fail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failed {
    /// Its kind.
    pub kind: String,
    /// What the letter says.
    pub message: String,
    /// How many.
    pub letters: u64,
}

impl Tally {
    /// One letter more.
    pub fn add(&mut self, done: Done, topics: &[String]) {
        self.letters += 1;
        match done.outcome {
            Outcome::Outputs => self.with_outputs += 1,
            Outcome::Dropped => self.dropped += 1,
            Outcome::NotTaken => self.not_taken += 1,
            Outcome::FailedAgain => self.failed_again += 1,
        }
        for topic in done.outputs {
            *self.outputs.entry(topics[usize::from(topic)].clone()).or_default() += 1;
        }
        let Some((kind, message)) = done.failure else { return };
        let known = |known: &Failed| known.kind == kind.as_str() && known.message == message;
        match self.failures.iter().position(known) {
            Some(index) => self.failures[index].letters += 1,
            None if self.failures.len() < FAILURES_MAX => {
                self.failures.push(Failed { kind: kind.as_str().to_owned(), message, letters: 1 });
            }
            None => self.other_failures += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::chain::Ready;
    use crate::data::event::Headers;
    use crate::data::failure::Failure;

    #[test]
    fn every_letter_is_counted_once() {
        let ready = |topic| Ready {
            topic,
            stage: None,
            key: None,
            value: None,
            headers: Headers::Empty,
            timestamp: 0,
            partition: None,
        };
        let topics = ["out".to_owned(), "alerts".to_owned()];
        let mut tally = Tally::default();
        tally.add(Done::of(&Product::Outputs(&[ready(0), ready(1), ready(0)]), false), &topics);
        tally.add(Done::of(&Product::Outputs(&[]), false), &topics);
        tally.add(Done::NOT_TAKEN, &topics);
        let no = Failure::new(Kind::Permanent, "no");
        tally.add(Done::of(&Product::Failed { failure: &no, stage: None }, true), &topics);
        for number in 0..30 {
            let failure = Failure::new(Kind::Trap, (number / 2 * 2).to_string());
            tally.add(Done::of(&Product::Failed { failure: &failure, stage: Some(0) }, false), &topics);
        }
        for number in 0..30 {
            let failure = Failure::new(Kind::Stack, number.to_string());
            tally.add(Done::of(&Product::Failed { failure: &failure, stage: Some(0) }, false), &topics);
        }
        assert_eq!(tally.outputs, [("alerts".to_owned(), 1), ("out".to_owned(), 2)].into());
        let counts = [tally.letters, tally.with_outputs, tally.dropped, tally.not_taken, tally.failed_again];
        assert_eq!(counts, [64, 1, 2, 1, 60]);
        assert_eq!((tally.failures.len(), tally.failures[0].letters, tally.failures[1].letters), (20, 1, 2));
        let shown: u64 = tally.failures.iter().map(|failed| failed.letters).sum();
        assert_eq!(shown + tally.other_failures, 61);
    }
}
