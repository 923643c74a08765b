//! The host's numbers, in Prometheus' text: what is live, what became of reloads and of versions on trial, what filters said,
//! what failed, how partitions stand, and how long the broker held clients back. Counts nothing on the path of an event: what
//! shards count there is read off when somebody asks.

mod trials;

use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, PoisonError};

use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use self::trials::Trials;
use super::generation::Candidate;
use super::partitions::{BreakerView, Condition, PartitionView, Partitions, PausedView};
use super::rollout::Ending;
use super::stopped::StoppedView;
use crate::data::plugin::log_bytes_cut;
use crate::data::shard::{
    Failed, FailureCounts, FilterCounts, Filtered, OutOfRange, Retried, Throttled, ThrottledTimes,
};

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
    /// Held while numbers are read off: one scrape at a time.
    scrape: Mutex<()>,
    /// What shards count; read off at a scrape.
    failures: FailureCounts,
    failed: Family<FailedLabels, Counter>,
    retried: Family<RetriedLabels, Counter>,
    /// What shards count, too.
    filter_results: FilterCounts,
    filtered: Family<FilteredLabels, Counter>,
    out_of_range: Family<TopicLabels, Counter>,
    log_bytes_cut: Family<PluginLabel, Counter>,
    partitions: Family<PartitionLabels, Gauge>,
    breakers: Family<RouteLabel, Gauge>,
    paused: Family<RouteLabel, Gauge>,
    /// What shards count, too.
    throttled_times: ThrottledTimes,
    throttled: Family<ClientLabels, Counter<f64, AtomicU64>>,
    stopped: Family<GroupLabel, Gauge>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FailedLabels {
    route: String,
    plugin: String,
    kind: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RetriedLabels {
    route: String,
    plugin: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FilteredLabels {
    route: String,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TopicLabels {
    group: String,
    topic: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PluginLabel {
    plugin: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PartitionLabels {
    group: String,
    state: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ClientLabels {
    group: String,
    client: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct GroupLabel {
    group: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabel {
    route: String,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("midplane");
        let (reloads, generation, refused) = (Family::default(), Gauge::default(), Gauge::default());
        registry.register("reloads", "Reloads and orders, by what became of them", reloads.clone());
        registry.register("generation", "The number of the live generation", generation.clone());
        registry.register("reload_refused", "1 while the files are refused as they are", refused.clone());
        let failed = Family::default();
        registry.register("failed_events", "Events that failed for good, by route, plugin and kind", failed.clone());
        let (retried, out_of_range) = (Family::default(), Family::default());
        let help = "Events that failed transiently and ran again, each time, by route and plugin";
        registry.register("retried_events", help, retried.clone());
        let filtered = Family::default();
        let help = "Events that a route's filter was asked about, each time, by route and what it said";
        registry.register("filtered_events", help, filtered.clone());
        let help = "Partitions whose offset to read from was not in the log";
        registry.register("offsets_out_of_range", help, out_of_range.clone());
        let log_bytes_cut = Family::default();
        registry.register("plugin_log_cut_bytes", "Bytes that plugins logged beyond their rate", log_bytes_cut.clone());
        let partitions = Family::default();
        registry.register("partitions", "Partitions of this host, by how they stand", partitions.clone());
        let (breakers, paused) = (Family::default(), Family::default());
        registry.register("breaker_open", "Shards in which the route's breaker is open", breakers.clone());
        registry.register("route_paused", "1 while an operator has paused the route", paused.clone());
        let throttled = Family::default();
        let help = "Time for which the broker held clients back, since their quotas were used up";
        registry.register_with_unit("throttled", help, Unit::Seconds, throttled.clone());
        let (failures, throttled_times) = (FailureCounts::default(), ThrottledTimes::default());
        let stopped = Family::default();
        registry.register("shards_stopped", "Shards that have ended by themselves", stopped.clone());
        let trials = Trials::register(&mut registry);
        let scrape = Mutex::default();
        Self {
            registry,
            reloads,
            generation,
            refused,
            trials,
            scrape,
            failures,
            failed,
            retried,
            filter_results: FilterCounts::default(),
            filtered,
            out_of_range,
            log_bytes_cut,
            partitions,
            breakers,
            paused,
            throttled_times,
            throttled,
            stopped,
        }
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

    /// Where shards count what fails.
    pub fn failures(&self) -> &FailureCounts {
        &self.failures
    }

    /// Where shards count what filters say.
    pub fn filtered(&self) -> &FilterCounts {
        &self.filter_results
    }

    /// Where shards count for how long their clients are held back.
    pub fn throttled(&self) -> &ThrottledTimes {
        &self.throttled_times
    }

    /// Takes over what others count, and how partitions stand.
    fn read_off(&self, partitions: &Partitions) {
        let FailureCounts { failed, retried, out_of_range } = &self.failures;
        for (Failed { route, plugin, kind }, count) in failed.all() {
            raise(&self.failed, FailedLabels { route, plugin, kind: kind.as_str().to_owned() }, count);
        }
        for (Retried { route, plugin }, count) in retried.all() {
            raise(&self.retried, RetriedLabels { route, plugin }, count);
        }
        for (Filtered { route, result }, count) in self.filter_results.all() {
            raise(&self.filtered, FilteredLabels { route, result }, count);
        }
        for (OutOfRange { group, topic }, count) in out_of_range.all() {
            raise(&self.out_of_range, TopicLabels { group, topic }, count);
        }
        for (Throttled { group, client }, count_ms) in self.throttled_times.all() {
            let counter = self.throttled.get_or_create(&ClientLabels { group, client });
            counter.inc_by((count_ms as f64 / 1000.0 - counter.get()).max(0.0));
        }
        for (plugin, count) in log_bytes_cut() {
            raise(&self.log_bytes_cut, PluginLabel { plugin }, count);
        }
        self.partitions.clear();
        for PartitionView { group, .. } in &partitions.partitions {
            for state in Condition::ALL {
                let labels = PartitionLabels { group: group.clone(), state: state.as_str().to_owned() };
                drop(self.partitions.get_or_create(&labels));
            }
        }
        for PartitionView { group, state, .. } in &partitions.partitions {
            let labels = PartitionLabels { group: group.clone(), state: state.as_str().to_owned() };
            self.partitions.get_or_create(&labels).inc();
        }
        self.stopped.clear();
        for StoppedView { group, .. } in &partitions.stopped {
            self.stopped.get_or_create(&GroupLabel { group: group.clone() }).inc();
        }
        self.breakers.clear();
        for BreakerView { route, .. } in &partitions.breakers {
            self.breakers.get_or_create(&RouteLabel { route: route.clone() }).inc();
        }
        self.paused.clear();
        for PausedView { route, .. } in &partitions.paused {
            self.paused.get_or_create(&RouteLabel { route: route.clone() }).set(1);
        }
    }

    /// All of them, as things stand.
    pub fn text(&self, partitions: &Partitions) -> String {
        let _one_at_a_time = self.scrape.lock().unwrap_or_else(PoisonError::into_inner);
        self.read_off(partitions);
        let mut text = String::new();
        // Writing to a string fails only where a metric does, and none of these can.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

/// Counts up to what somebody else has counted.
fn raise<L: Clone + std::hash::Hash + Eq>(family: &Family<L, Counter>, labels: L, count: u64) {
    let counter = family.get_or_create(&labels);
    counter.inc_by(count.saturating_sub(counter.get()));
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
        let text = metrics.text(&Partitions::default());
        for line in
            ["midplane_reloads_total{outcome=\"refused\"} 2", "midplane_generation 7", "midplane_reload_refused 1"]
        {
            assert!(text.lines().any(|found| found == line), "{text}");
        }
    }
}
