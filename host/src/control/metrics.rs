//! The host's numbers, in Prometheus' text: what is live, what became of reloads, and of versions on trial. Counts nothing on the
//! path of an event.

mod trials;

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use self::trials::Trials;
use super::generation::Candidate;
use super::rollout::Ending;

/// Of an answer of [`Metrics::text`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What became of a reload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Reload {
    /// Another generation is live.
    #[expect(non_camel_case_types, reason = "labels are lower case")]
    published,
    /// The files are what is live.
    #[expect(non_camel_case_types, reason = "labels are lower case")]
    same,
    /// What is live stays as it is.
    #[expect(non_camel_case_types, reason = "labels are lower case")]
    refused,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: Reload,
}

/// The numbers.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    reloads: Family<Outcome, Counter>,
    generation: Gauge<u64, AtomicU64>,
    refused: Gauge,
    trials: Trials,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("midplane");
        let (reloads, generation, refused) = (Family::default(), Gauge::default(), Gauge::default());
        registry.register("reloads", "Reloads and orders, by what became of them", reloads.clone());
        registry.register("generation", "The number of the live generation", generation.clone());
        registry.register("reload_refused", "1 while the files are refused as they are", refused.clone());
        let trials = Trials::register(&mut registry);
        Self { registry, reloads, generation, refused, trials }
    }
}

impl Metrics {
    /// A reload has come to its end.
    pub fn reloaded(&self, outcome: Reload) {
        self.reloads.get_or_create(&Outcome { outcome }).inc();
    }

    /// A generation is live.
    pub fn serves(&self, generation: u64) {
        self.generation.set(generation);
    }

    /// Whether the files are refused as they are.
    pub fn refused(&self, refused: bool) {
        self.refused.set(i64::from(refused));
    }

    /// These are on trial from here on, by plugin.
    pub fn tries<'c>(&self, candidates: impl Iterator<Item = (&'c String, &'c Candidate)>) {
        self.trials.run(candidates);
    }

    /// A trial has ended.
    pub fn trial_ended(&self, ending: &Ending) {
        self.trials.ended(ending);
    }

    /// All of them.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string fails only where a metric does, and none of these can.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reloads_are_counted_by_what_became_of_them() {
        let metrics = Metrics::default();
        metrics.reloaded(Reload::refused);
        metrics.reloaded(Reload::refused);
        metrics.serves(7);
        metrics.refused(true);
        let text = metrics.text();
        for line in
            ["midplane_reloads_total{outcome=\"refused\"} 2", "midplane_generation 7", "midplane_reload_refused 1"]
        {
            assert!(text.lines().any(|found| found == line), "{text}");
        }
    }
}
