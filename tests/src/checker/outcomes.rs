//! One outcome for each event: all of it, nothing else, as often as was promised, made by one generation.

use std::collections::BTreeMap;

use midplane::config::model::Guarantee;

use super::finding::{Kind, Verdict};
use super::origin::{Maker, Origin, Place, Product};
use super::run::{Event, Look, Run};

/// What was read of one event: each product, with its topic's number, and who made it, in the order in which it was read.
type Products<'a> = BTreeMap<(usize, Product), Vec<Option<&'a Maker>>>;

/// Judges one look. Where an event stood when it was taken decides what had to be there.
pub(super) fn check(run: &Run, number: usize, look: &Look, verdict: &mut Verdict) {
    let mut found: BTreeMap<Place, Products<'_>> = BTreeMap::new();
    for (topic, it) in look.topics.iter().enumerate() {
        for record in &it.records {
            let Origin { place, product } = record.origin;
            found.entry(place).or_default().entry((topic, product)).or_default().push(record.maker.as_ref());
        }
    }
    let is_last = number + 1 == run.looks.len();
    for event in &run.events {
        let products = found.remove(&event.place).unwrap_or_default();
        Case { run, event, committed: is_committed(event, look), products: &products }.check(verdict);
        if is_last {
            verdict.repeats += products.values().map(|makers| makers.len() - 1).sum::<usize>();
        }
    }
    for (place, products) in found {
        verdict.find(Kind::Unasked, || format!("{:?} of {place:?}, where no event is", products.keys()));
    }
}

fn is_committed(event: &Event, look: &Look) -> bool {
    look.committed.get(&event.place.partition).is_some_and(|&position| event.place.offset < position)
}

/// One event at one look.
struct Case<'a> {
    run: &'a Run,
    event: &'a Event,
    committed: bool,
    products: &'a Products<'a>,
}

impl Case<'_> {
    fn check(&self, verdict: &mut Verdict) {
        let Self { event, products, .. } = self;
        if self.run.guarantee == Guarantee::ExactlyOnce && !self.committed && !products.is_empty() {
            verdict.find(Kind::Premature, || format!("{:?} of {:?}", products.keys(), event.place));
        }
        self.check_unexpected(verdict);
        self.check_missing(verdict);
        self.check_repeats(verdict);
        self.check_makers(verdict);
    }

    fn has(&self, wanted: impl Fn(&Product) -> bool) -> bool {
        self.products.keys().any(|(_, product)| wanted(product))
    }

    fn check_unexpected(&self, verdict: &mut Verdict) {
        let expected = &self.event.products;
        let is_both =
            self.has(|product| *product == Product::Letter) && self.has(|product| *product != Product::Letter);
        for &(topic, product) in self.products.keys().filter(|found| !expected.contains(found)) {
            let kind = if expected.iter().any(|(_, wanted)| *wanted == product) {
                Kind::Astray
            } else if is_both {
                Kind::Contradicted
            } else if !expected.is_empty() && !self.has_any_expected() {
                Kind::Mistaken
            } else {
                Kind::Unasked
            };
            verdict.find(kind, || format!("{product:?} in topic {topic}, of {:?}", self.event));
        }
    }

    fn has_any_expected(&self) -> bool {
        self.event.products.iter().any(|product| self.products.contains_key(product))
    }

    fn check_missing(&self, verdict: &mut Verdict) {
        let Self { event, products, .. } = self;
        let is_missing = |product: &&(usize, Product)| !products.contains_key(product);
        if !self.committed || !event.products.iter().any(|product| is_missing(&product)) {
            return;
        }
        if products.is_empty() {
            verdict.find(Kind::Lost, || format!("{event:?}"));
        } else if self.has_any_expected() {
            let missing: Vec<_> = event.products.iter().filter(is_missing).collect();
            verdict.find(Kind::Torn, || format!("without {missing:?}: {event:?}"));
        }
    }

    /// At least once, each interruption may repeat what wasn't committed then.
    fn check_repeats(&self, verdict: &mut Verdict) {
        let Place { partition, offset } = self.event.place;
        let allowed = match self.run.guarantee {
            Guarantee::ExactlyOnce => 1,
            Guarantee::AtLeastOnce => {
                let position =
                    |positions: &&super::Positions| positions.get(&partition).copied().unwrap_or(0) <= offset;
                1 + self.run.interruptions.iter().filter(position).count()
            }
        };
        for (product, makers) in self.products.iter().filter(|(_, makers)| makers.len() > allowed) {
            let times = makers.len();
            verdict
                .find(Kind::Repeated, || format!("{times} times, of {allowed}: {product:?} of {:?}", self.event.place));
        }
    }

    /// Whoever repeats an event may be another generation, but one of them made it whole.
    fn check_makers(&self, verdict: &mut Verdict) {
        let outputs: Vec<_> = self.event.products.iter().filter(|(_, product)| *product != Product::Letter).collect();
        let Some(first) = outputs.first().and_then(|product| self.products.get(product)) else { return };
        if !outputs.iter().all(|product| self.products.contains_key(product)) {
            return;
        }
        let made_all = |maker: &Option<&Maker>| outputs.iter().all(|product| self.products[product].contains(maker));
        if !first.iter().any(made_all) {
            verdict.find(Kind::Mixed, || format!("{:?}: {:?}", self.event.place, self.products));
        }
    }
}
