//! How new versions of plugins take over: which of them are tried beside the live version first, and how trials end. Pure, but
//! for the counts that it reads; whoever owns what is live publishes what follows.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::config_view::rollout_word;
use super::decisions::Decision;
use super::generation::{Candidate, Candidates, Generation};
use super::order::{Refusal, RefusalKind};
use crate::config::model::{Config, Rollout, RolloutMode};
use crate::data::plugin::Plugin;
use crate::data::trial::{Bound, Counts, Sample, Trial, Verdict};
use crate::digest;

/// The versions that become live, and those that are tried beside them.
#[derive(Debug, Default)]
pub struct Versions {
    /// By plugin.
    pub plugins: BTreeMap<String, Arc<Plugin>>,
    /// By plugin.
    pub candidates: Candidates,
}

/// What was live before, and what was tried then.
#[derive(Debug, Default, Clone)]
pub struct Before {
    /// By plugin: what is live now; when a host starts, what was when it stopped.
    pub plugins: BTreeMap<String, Arc<Plugin>>,
    /// By plugin. Trials begin anew when a host starts.
    pub candidates: Candidates,
}

impl Before {
    /// As a generation has it.
    pub fn of(live: &Generation) -> Self {
        Self { plugins: live.plugins.clone(), candidates: live.candidates.clone() }
    }
}

/// Sorts the versions that were chosen for a generation into those that take over at once and those that are tried first: the
/// plugin has a `rollout`, another version of it was live before, and neither an operator nor the config has asked for this very
/// one, which `at_once` and `sha256` say. A trial goes on over generations for as long as its version and its rollout are the
/// same.
pub fn split(
    config: &Config,
    before: &Before,
    chosen: BTreeMap<String, Arc<Plugin>>,
    at_once: &BTreeMap<String, digest::Bytes>,
) -> Versions {
    let mut versions = Versions::default();
    for (name, plugin) in chosen {
        let settings = &config.plugin[&name];
        let direct = is_direct(config, &name) || at_once.get(&name) == Some(&plugin.sha256);
        let live = before.plugins.get(&name).filter(|live| !direct && live.sha256 != plugin.sha256);
        // On trial before, it is loaded and bound already.
        let known = before.candidates.get(&name).filter(|known| known.plugin.sha256 == plugin.sha256);
        let plugin = known.map_or(plugin, |known| Arc::clone(&known.plugin));
        let Some(live) = live else {
            versions.plugins.insert(name, plugin);
            continue;
        };
        let rollout = settings.rollout;
        let trial = known.filter(|known| known.rollout == rollout).map(|known| Arc::clone(&known.trial));
        let trial = trial.unwrap_or_else(|| Arc::new(Trial::new(rollout)));
        versions.plugins.insert(name.clone(), Arc::clone(live));
        versions.candidates.insert(name, Candidate { plugin, rollout, trial });
    }
    versions
}

/// Whether other versions of a plugin take over without a trial.
pub fn is_direct(config: &Config, plugin: &str) -> bool {
    let settings = &config.plugin[plugin];
    settings.sha256.is_some() || settings.rollout.mode == RolloutMode::Direct
}

/// The versions of a generation once trials have ended; the other trials go on.
pub fn conclude(live: &Generation, endings: &[Ending]) -> Versions {
    let mut versions = Versions { plugins: live.plugins.clone(), candidates: live.candidates.clone() };
    for ending in endings {
        let candidate = versions.candidates.remove(&ending.plugin);
        if let Some(candidate) = candidate.filter(|_| ending.conclusion == Conclusion::Promoted) {
            versions.plugins.insert(ending.plugin.clone(), candidate.plugin);
        }
    }
    versions
}

/// Says which trials have begun with a generation.
pub fn tell_begun(before: Option<&Generation>, live: &Generation) {
    for (plugin, candidate) in &live.candidates {
        let same = |before: &Candidate| Arc::ptr_eq(&before.trial, &candidate.trial);
        if !before.and_then(|before| before.candidates.get(plugin)).is_some_and(same) {
            let live = digest::short(&live.plugins[plugin].sha256);
            let Rollout { mode, share, events, time, .. } = candidate.rollout;
            let (mode, candidate) = (rollout_word(mode), digest::short(&candidate.plugin.sha256));
            tracing::info!(
                plugin,
                candidate,
                live,
                mode,
                share,
                events,
                ?time,
                "A version is tried beside the live one."
            );
        }
    }
}

/// How a trial ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conclusion {
    /// The candidate becomes the live version.
    Promoted,
    /// The live version stays.
    Aborted,
}

impl Conclusion {
    /// As the admin surface says it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Promoted => "promoted",
            Self::Aborted => "aborted",
        }
    }
}

/// What ends a trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// It stayed within its bounds to the end.
    Passed,
    /// It exceeded one.
    Bound(Bound),
    /// An operator asked for it.
    Ordered,
}

impl Cause {
    /// As the numbers say it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Bound(bound) => bound.as_str(),
            Self::Ordered => "ordered",
        }
    }
}

/// A trial that is to end.
#[derive(Debug, Clone)]
pub struct Ending {
    /// The plugin.
    pub plugin: String,
    /// The candidate's version.
    pub candidate: digest::Bytes,
    /// The live version.
    pub live: digest::Bytes,
    /// How it ends.
    pub conclusion: Conclusion,
    /// What ends it,
    pub cause: Cause,
    /// and that in words.
    pub reason: String,
    /// The first event that went wrong, if any did.
    pub sample: Option<Sample>,
    /// What was counted.
    pub counts: Counts,
}

/// The trials of a generation that are to end by what was counted.
pub fn judge_all(generation: &Generation) -> Vec<Ending> {
    let ending = |(name, candidate): (&String, &Candidate)| {
        let (conclusion, cause, reason) = match candidate.trial.judge() {
            Verdict::Continue => return None,
            Verdict::Promote => (Conclusion::Promoted, Cause::Passed, "it stayed within its bounds".to_owned()),
            Verdict::Abort { bound, reason } => (Conclusion::Aborted, Cause::Bound(bound), reason),
        };
        Some(Ending::of(generation, name, candidate, conclusion, (cause, reason)))
    };
    generation.candidates.iter().filter_map(ending).collect()
}

/// The end of a trial that an operator asks for.
///
/// # Errors
/// Where the plugin has no candidate.
pub fn ordered(generation: &Generation, plugin: &str, conclusion: Conclusion) -> Result<Ending, Refusal> {
    let Some(candidate) = generation.candidates.get(plugin) else {
        let known: Vec<_> = generation.plugins.keys().map(String::as_str).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        return Err(match generation.plugins.contains_key(plugin) {
            true => Refusal::new(RefusalKind::Conflict, format!("plugin `{plugin}` has no candidate on trial")),
            false => Refusal::new(RefusalKind::Unknown, format!("no plugin `{plugin}` is live (live: {known})")),
        });
    };
    let why = (Cause::Ordered, "an operator asked for it".to_owned());
    Ok(Ending::of(generation, plugin, candidate, conclusion, why))
}

impl Ending {
    fn of(
        generation: &Generation,
        plugin: &str,
        candidate: &Candidate,
        conclusion: Conclusion,
        (cause, reason): (Cause, String),
    ) -> Self {
        Self {
            plugin: plugin.to_owned(),
            candidate: candidate.plugin.sha256,
            live: generation.plugins[plugin].sha256,
            conclusion,
            cause,
            reason,
            sample: candidate.trial.samples().into_iter().next(),
            counts: candidate.trial.counts(),
        }
    }

    /// What has to be remembered of it: a version that was given up is not tried again before the directory has other bytes.
    pub fn decision(&self, since: impl Into<String>) -> Option<Decision> {
        (self.conclusion == Conclusion::Aborted)
            .then(|| Decision::rollback(self.live, Some(self.candidate), self.live, since))
    }

    /// Says how it ended.
    pub fn tell(&self) {
        let Counts { events, failures, differences, .. } = self.counts;
        let (plugin, candidate, live) = (&self.plugin, digest::short(&self.candidate), digest::short(&self.live));
        let (latency_us, reason) = (self.counts.latency().as_micros() as u64, &self.reason);
        match self.conclusion {
            Conclusion::Promoted => {
                tracing::info!(
                    plugin,
                    candidate,
                    live,
                    reason,
                    events,
                    failures,
                    differences,
                    latency_us,
                    "A candidate is live now."
                );
            }
            Conclusion::Aborted => {
                let sample = self.sample.as_ref().map(|sample| format!("{}: {}", sample.origin, sample.reason));
                tracing::error!(
                    plugin,
                    candidate,
                    live,
                    reason,
                    sample,
                    events,
                    failures,
                    differences,
                    latency_us,
                    "A candidate is given up."
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load_stored;
    use crate::data::plugin::{Runtime, RuntimeOptions};

    const CANARY: &str = "rollout = { mode = 'canary', events = 500 }";

    /// A config of one route through `mask`, with these settings of it.
    fn config(settings: &str) -> Config {
        let text = format!("[routes.a]\nfrom = 'in'\nto = 'out'\nthrough = 'mask'\n[plugin.mask]\n{settings}\n");
        load_stored("m.toml".as_ref(), vec![("m.toml".into(), text)]).expect("valid").config
    }

    fn plugin(digit: u8) -> BTreeMap<String, Arc<Plugin>> {
        let runtime = Runtime::new(RuntimeOptions::default()).expect("a runtime");
        [("mask".to_owned(), Plugin::stub(&runtime, "mask", digit, &["default"]))].into()
    }

    /// What becomes of version 2, where version 1 was live: the version that is live then, and the one on trial.
    fn check(settings: &str, live: Option<u8>, decided: Option<u8>, expected: (u8, Option<u8>)) -> Versions {
        let before = Before { plugins: live.map(plugin).unwrap_or_default(), candidates: Candidates::new() };
        let decided = decided.map(|digit| ("mask".to_owned(), [digit; 32])).into_iter().collect();
        let versions = split(&config(settings), &before, plugin(2), &decided);
        let candidate = versions.candidates.get("mask").map(|candidate| candidate.plugin.sha256[0]);
        assert_eq!((versions.plugins["mask"].sha256[0], candidate), expected, "{settings} {live:?} {decided:?}");
        versions
    }

    #[test]
    fn another_version_is_tried_first_unless_somebody_asked_for_it() {
        check(CANARY, Some(1), None, (1, Some(2)));
        check("rollout = { mode = 'shadow' }", Some(1), None, (1, Some(2)));
        check("rollout = { mode = 'direct' }", Some(1), None, (2, None));
        check(CANARY, Some(2), None, (2, None));
        // There is nothing that it could be tried beside.
        check(CANARY, None, None, (2, None));
        check(CANARY, Some(1), Some(2), (2, None));
        check(CANARY, Some(1), Some(3), (1, Some(2)));
        check(&format!("{CANARY}\nsha256 = '{}'", "02".repeat(32)), Some(1), None, (2, None));
    }

    #[test]
    fn a_trial_goes_on_for_as_long_as_its_version_and_its_rollout_are_the_same() {
        let first = check(CANARY, Some(1), None, (1, Some(2)));
        let (loaded, trial) = (&first.candidates["mask"].plugin, &first.candidates["mask"].trial);
        let goes_on = |settings: &str, chosen: u8| {
            let before = Before { plugins: plugin(1), candidates: first.candidates.clone() };
            let versions = split(&config(settings), &before, plugin(chosen), &BTreeMap::new());
            let candidate = &versions.candidates["mask"];
            (Arc::ptr_eq(&candidate.plugin, loaded), Arc::ptr_eq(&candidate.trial, trial))
        };
        assert_eq!(goes_on(CANARY, 2), (true, true));
        assert_eq!(goes_on(&CANARY.replace("500", "600"), 2), (true, false), "it is judged by another measure");
        assert_eq!(goes_on(CANARY, 3), (false, false));
    }
}
