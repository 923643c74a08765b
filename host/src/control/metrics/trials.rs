//! The numbers of versions on trial: those that run are read when somebody asks, those that have ended are counted.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

use crate::config::model::RolloutMode;
use crate::control::config_view::rollout_word;
use crate::control::generation::Candidate;
use crate::control::rollout::Ending;
use crate::data::trial::{Counts, Trial};
use crate::digest;

/// One that runs.
#[derive(Debug, Clone)]
struct Running {
    labels: Labels,
    share: f64,
    trial: Arc<Trial>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    plugin: String,
    /// The first digits, as outputs have them.
    version: String,
    mode: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct End {
    plugin: String,
    outcome: &'static str,
    reason: &'static str,
}

/// Those that run: a scrape sees those of one generation, whole.
#[derive(Debug, Clone, Default)]
struct AllRunning(Arc<Mutex<Vec<Running>>>);

/// The numbers.
#[derive(Debug)]
pub(super) struct Trials {
    running: AllRunning,
    ended: Family<End, Counter>,
}

impl Trials {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let (running, ended) = (AllRunning::default(), Family::default());
        registry.register_collector(Box::new(running.clone()));
        registry.register("trials_ended", "Trials of plugins' versions, by how and why they ended", ended.clone());
        Self { running, ended }
    }

    pub(super) fn run<'c>(&self, candidates: impl Iterator<Item = (&'c String, &'c Candidate)>) {
        let running = |(plugin, candidate): (&String, &Candidate)| Running {
            labels: Labels {
                plugin: plugin.clone(),
                version: digest::short(&candidate.plugin.sha256),
                mode: rollout_word(candidate.rollout.mode),
            },
            share: if candidate.rollout.mode == RolloutMode::Canary { candidate.rollout.share } else { 0.0 },
            trial: Arc::clone(&candidate.trial),
        };
        self.running.set(candidates.map(running).collect());
    }

    pub(super) fn ended(&self, ending: &Ending) {
        let (plugin, outcome) = (ending.plugin.clone(), ending.conclusion.as_str());
        let reason = ending.cause.as_str();
        self.ended.get_or_create(&End { plugin, outcome, reason }).inc();
    }
}

impl AllRunning {
    fn set(&self, running: Vec<Running>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = running;
    }

    fn get(&self) -> Vec<Running> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Collector for AllRunning {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let running = self.get();
        if running.is_empty() {
            return Ok(());
        }
        let counts: Vec<_> = running.into_iter().map(|running| (running.trial.counts(), running)).collect();
        let gauge = encoder.encode_descriptor(
            "trial_share",
            "The share of the keys that a version on trial serves; in the shadow none",
            None,
            MetricType::Gauge,
        )?;
        each(gauge, &counts, |_, running, metric| ConstGauge::new(running.share).encode(metric))?;
        type Count = fn(&Counts) -> u64;
        let of: [(&str, &str, Count); 5] = [
            ("trial_events", "Events that a version on trial has answered", |counts| counts.events),
            ("trial_failures", "Those that it failed, and the live version is not known to fail", |counts| {
                counts.failures
            }),
            ("trial_differences", "In the shadow, those that it answered otherwise", |counts| counts.differences),
            ("trial_timed_events", "Those that it ran alone, so that their time is known", |counts| counts.timed),
            ("trial_slow_events", "Of those, the ones that took longer than is tolerated", |counts| counts.slow),
        ];
        for (name, help, count) in of {
            let counter = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            each(counter, &counts, |counts, _, metric| ConstCounter::new(count(counts)).encode(metric))?;
        }
        let help = "What a version on trial took for its events";
        let seconds = encoder.encode_descriptor("trial_process", help, Some(&Unit::Seconds), MetricType::Counter)?;
        each(seconds, &counts, |counts, _, metric| ConstCounter::new(counts.time.as_secs_f64()).encode(metric))
    }
}

/// Encodes one metric of each trial.
fn each(
    mut encoder: MetricEncoder<'_>,
    all: &[(Counts, Running)],
    mut encode: impl FnMut(&Counts, &Running, MetricEncoder<'_>) -> fmt::Result,
) -> fmt::Result {
    all.iter().try_for_each(|(counts, running)| encode(counts, running, encoder.encode_family(&running.labels)?))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use prometheus_client::encoding::text::encode;

    use super::*;
    use crate::config::model::Rollout;
    use crate::data::trial::{Seen, Took};

    fn text(registry: &Registry) -> String {
        let mut text = String::new();
        encode(&mut text, registry).expect("text");
        text
    }

    #[test]
    fn a_trial_that_runs_is_read_when_somebody_asks() {
        let mut registry = Registry::with_prefix("midplane");
        let trials = Trials::register(&mut registry);
        assert!(!text(&registry).contains("trial_"), "nothing is on trial");
        let rollout = Rollout {
            mode: RolloutMode::Canary,
            share: 0.05,
            events: 100,
            time: Duration::from_secs(1),
            errors_max: 0.0,
            latency_max: Duration::from_secs(1),
            differences_max: 0.0,
        };
        let trial = Arc::new(Trial::new(rollout));
        let labels = Labels { plugin: "mask".to_owned(), version: "0a0b0c0d".to_owned(), mode: "canary" };
        trials.running.set(vec![Running { labels, share: 0.05, trial: Arc::clone(&trial) }]);
        trial.add(Seen { events: 7, failures: 2, differences: 0 });
        trial.add_time(Took { time: Duration::from_millis(1500), events: 7, timed: 3, slow: 1 });
        let text = text(&registry);
        for (name, value) in [
            ("share", "0.05"),
            ("events_total", "7"),
            ("failures_total", "2"),
            ("differences_total", "0"),
            ("timed_events_total", "3"),
            ("slow_events_total", "1"),
            ("process_seconds_total", "1.5"),
        ] {
            let line = format!("midplane_trial_{name}{{plugin=\"mask\",version=\"0a0b0c0d\",mode=\"canary\"}} {value}");
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
    }
}
