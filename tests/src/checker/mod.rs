//! The checker: what became of the events of a run, judged after it. It proves from facts alone (what went in, what can be
//! read, where the group stood, what the process held) that each event has its one outcome, whole, in order, once where that
//! is promised, and that whatever was broken goes on once it is healed. Pure: it asks no broker and no clock.

mod finding;
mod lanes;
mod origin;
mod outcomes;
mod positions;
mod run;
#[cfg(test)]
mod tests;

pub use finding::{Finding, Kind, Verdict};
pub use origin::{Maker, Origin, Place, Product};
pub use run::{Event, Found, Look, Positions, Run, Topic};

impl Run {
    /// Judges everything that is known of the run.
    pub fn check(&self) -> Verdict {
        let mut verdict = Verdict::default();
        for (number, look) in self.looks.iter().enumerate() {
            outcomes::check(self, number, look, &mut verdict);
            lanes::check(self, look, &mut verdict);
        }
        positions::check(self, &mut verdict);
        self.count(&mut verdict);
        verdict
    }

    /// What there was to judge, as of the last look.
    fn count(&self, verdict: &mut Verdict) {
        verdict.events = self.events.len();
        let last = self.looks.last().into_iter().flat_map(|look| &look.topics).flat_map(|topic| &topic.records);
        for found in last {
            match found.origin.product {
                Product::Output(_) => verdict.outputs += 1,
                Product::Letter => verdict.letters += 1,
            }
        }
    }
}
