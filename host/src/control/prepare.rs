//! From files to a generation that could be published: read, decided, verified, compiled, bound and tried. Takes from the live
//! one what did not change. Runs apart from the data path, and changes nothing that is live: whatever fails here leaves no
//! trace but its reason.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use super::build::{self, Bound};
use super::config_view::ConfigView;
use super::data_directory::{self, DataDirectory};
use super::decisions::{self, Decisions};
use super::first;
use super::generation::{Candidates, Generation, manifest_hash};
use super::plan::{self, restart_needed};
use super::plugins::{self, Directory, Version};
use super::rollout::{self, Before, Ending, Versions};
use super::store::{self, Manifest, Store, StoredFile, StoredPlugin};
use super::tryout;
use super::versions::{Selection, Selector, signature_text};
use crate::config::model::Config;
use crate::config::plugins::{Available, Found};
use crate::config::{self, Loaded, Problems, Severity};
use crate::data::plugin::{Plugin, Prepared, Runtime};
use crate::data::program::Program;
use crate::digest;

/// Output topics of a group that one process can tell apart, those of all its generations together.
const TOPICS_MAX: usize = 60_000;
/// Instances that are made in advance for one plugin at most: the others are made when they are needed.
const READY_MAX: usize = 64;

/// Why there is no next generation.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The config, or the config and the plugins, don't go together.
    #[error("{}", .0.render(config::Style::Plain).trim_end())]
    Config(Problems),
    /// The config needs what the live versions of plugins don't have, whose new versions are tried first.
    #[error("the versions that stay live while others are on trial don't go with the config: {}", .0.render(config::Style::Plain).trim_end())]
    BesideTrials(Problems),
    /// Only a new process can take these keys up.
    #[error("{}", restart_message(.0))]
    NeedsRestart(Vec<String>),
    /// A group would not be read any more, and nobody says that this is meant.
    #[error("{}", dropped_message(.0))]
    GroupDropped(Vec<String>),
    /// The files were written while they were read.
    #[error("the files changed while they were read; they are read again once they stay as they are")]
    Unsettled,
    /// The process has had too many topics.
    #[error("group `{0}` has written to {TOPICS_MAX} topics since the host started: more of them need a restart")]
    TooManyTopics(String),
    /// The data directory.
    #[error(transparent)]
    DataDirectory(#[from] data_directory::Error),
    /// What operators decided can't be kept.
    #[error(transparent)]
    Decisions(#[from] decisions::Error),
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        Self::DataDirectory(error.into())
    }
}

impl Error {
    /// Whether the files are to blame, so that nothing but a change of those helps.
    pub fn is_refusal(&self) -> bool {
        !matches!(self, Self::DataDirectory(_) | Self::Decisions(_))
    }
}

fn restart_message(keys: &[String]) -> String {
    let keys: Vec<_> = keys.iter().map(|key| format!("`{key}`")).collect();
    let (verb, pronoun) = if keys.len() == 1 { ("needs", "it") } else { ("need", "them") };
    format!(
        "a change of {} {verb} a restart: put {pronoun} back, or restart the host; nothing else of the file was taken up",
        keys.join(", ")
    )
}

fn dropped_message(groups: &[String]) -> String {
    let names: Vec<_> = groups.iter().map(|group| format!("`{group}`")).collect();
    let tables: Vec<_> =
        groups.iter().map(|group| format!("`[groups.{}] retired = true`", config::toml_key(group))).collect();
    format!(
        "no route is in group {} any more: its events would not be read; if that is meant, say so with {}",
        names.join(", "),
        tables.join(", ")
    )
}

/// What is live, or could be.
#[derive(Clone)]
pub struct Live {
    /// The config and the plugins.
    pub generation: Arc<Generation>,
    /// The config with its places and sources.
    pub loaded: Arc<Loaded>,
    /// What each group follows, in the order of the config.
    pub programs: Vec<Arc<Program>>,
    /// When each plugin's version was loaded.
    pub loaded_at: BTreeMap<String, SystemTime>,
    /// Bytes and signatures of the versions on trial: the store keeps only what is live.
    tried: BTreeMap<String, Version>,
}

/// What could become live.
pub struct Next {
    /// All of it.
    pub live: Live,
    /// Bytes and signatures that the store may not have yet.
    versions: BTreeMap<String, Version>,
    /// Bindings of plugins that the live generation doesn't have, and how many shards will run each.
    fresh: Vec<(Arc<Prepared>, usize)>,
}

/// What came of the files and the decisions.
pub struct Outcome {
    /// What could become live; none where that is live already.
    pub next: Option<Next>,
    /// The decisions, but for those that have ended.
    pub decisions: Decisions,
    /// What the directory has, by plugin.
    pub present: BTreeMap<String, digest::Bytes>,
    /// Each way in which the files and this differ, a sentence each.
    pub drift: Vec<String>,
}

/// What generations are prepared with.
#[derive(Clone)]
pub struct Tools {
    /// Loads plugins.
    pub runtime: Runtime,
    /// Numbers generations.
    pub data: Arc<DataDirectory>,
    /// What former generations consist of.
    pub store: Arc<Store>,
    /// Of this machine.
    pub cores: usize,
    /// What is doubtful about the files and was said: each reload would say it again.
    pub told: Arc<Mutex<BTreeSet<String>>>,
}

/// Prepares what a config, the directory and the operators' decisions ask for. `sha256` is of the config on the disk, which is
/// the same one or a broken one. Takes seconds where a plugin has to be compiled.
///
/// # Errors
/// Whatever is wrong: all of it, where that can be told.
pub fn prepare(
    loaded: Result<Loaded, Problems>,
    sha256: digest::Bytes,
    path: &Path,
    decisions: &Decisions,
    live: Option<&Live>,
    tools: &Tools,
) -> Result<Outcome, Error> {
    let mut outcome = choose(loaded, sha256, path, decisions, live, tools)?;
    if !outcome.decisions.paused.is_empty()
        && let Some(next) = outcome.next.as_ref().map(|next| &next.live).or(live)
    {
        let stopped = if live.is_none() { first::config_before(path, tools) } else { None };
        let before = live.map(|live| &*live.generation.config).or(stopped.as_ref());
        outcome.decisions.follow_renamed(before, &next.generation.config);
    }
    Ok(outcome)
}

fn choose(
    loaded: Result<Loaded, Problems>,
    sha256: digest::Bytes,
    path: &Path,
    decisions: &Decisions,
    live: Option<&Live>,
    tools: &Tools,
) -> Result<Outcome, Error> {
    let mut decisions = decisions.clone();
    if let Some(hold) = decisions.hold.take_if(|hold| !hold.is_over(&sha256)) {
        let next = prepare_stored(path, hold.generation, live, tools)?;
        let held = next.as_ref().map(|next| &next.live).or(live).map(|live| live.generation.config.sha256);
        let mut drift =
            vec![format!("generation {} is held since {}, until `midplane resume`", hold.generation, hold.since)];
        if held != Some(sha256) {
            drift.push("the config on disk is another one than the live generation's".to_owned());
        }
        let decisions = Decisions { hold: Some(hold), ..decisions };
        return Ok(Outcome { next, decisions, present: BTreeMap::new(), drift });
    }
    // The config is another one: whoever wrote it wants that.
    decisions.hold = None;
    let loaded = loaded.map_err(Error::Config)?;
    let last = match live {
        Some(_) => None,
        None => tools.data.live()?.and_then(|live| tools.store.get(live.number).ok()),
    };
    check_against_live(&loaded.config, live)?;
    let mut selection = selector(&loaded.config, live, tools).of_directory(&decisions, last.as_deref());
    decisions.plugins.retain(|name, _| !selection.ended.contains(name));
    let (present, drift) = (std::mem::take(&mut selection.present), std::mem::take(&mut selection.drift));
    check_plugins(&loaded, &selection, tools)?;
    let next = {
        let selector = selector(&loaded.config, live, tools);
        let Selection { directory: Directory { plugins, available }, versions: read, .. } = selection;
        let before = live.map(|live| Before::of(&live.generation));
        let before = before.unwrap_or_else(|| before_restart(&selector, last.as_deref(), &plugins));
        let decided = decisions.plugins.iter().map(|(name, decision)| (name.clone(), decision.version())).collect();
        let versions = rollout::split(&loaded.config, &before, plugins, &decided);
        check_beside_trials(&loaded, available, &versions)?;
        let files = Files::new(read, &versions, &selector);
        bind(Arc::new(loaded), versions, files, live, tools)?
    };
    Ok(Outcome { next, decisions, present, drift })
}

/// Prepares the contents of a generation that is kept, as the next one.
///
/// # Errors
/// As [`prepare`]; and where something of it is not in the store any more.
pub fn prepare_stored(path: &Path, number: u64, live: Option<&Live>, tools: &Tools) -> Result<Option<Next>, Error> {
    let manifest = tools.store.get(number)?;
    let loaded = stored(path, &manifest, &tools.store)?;
    check_against_live(&loaded.config, live)?;
    let selection = selector(&loaded.config, live, tools).of_manifest(&manifest);
    check_plugins(&loaded, &selection, tools)?;
    let versions = Versions { plugins: selection.directory.plugins, candidates: Candidates::new() };
    let files = Files { live: selection.versions, tried: BTreeMap::new() };
    bind(Arc::new(loaded), versions, files, live, tools)
}

/// The config of a generation that is kept.
///
/// # Errors
/// Where something of it is not in the store any more, or it asks for what is not in the environment any more.
pub fn stored(path: &Path, manifest: &Manifest, store: &Store) -> Result<Loaded, Error> {
    let text = |file: &StoredFile| Ok((file.path.clone(), store.text(&file.sha256)?));
    let files = manifest.files.iter().map(text).collect::<Result<Vec<_>, store::Error>>()?;
    config::load_stored(path, files).map_err(Error::Config)
}

/// Prepares the live generation once trials have ended, whatever the files say meanwhile.
///
/// # Errors
/// As [`prepare`].
pub fn conclude(live: &Live, endings: &[Ending], tools: &Tools) -> Result<Option<Next>, Error> {
    let versions = rollout::conclude(&live.generation, endings);
    let files = Files::new(live.tried.clone(), &versions, &selector(&live.generation.config, Some(live), tools));
    bind(Arc::clone(&live.loaded), versions, files, Some(live), tools)
}

/// Bytes and signatures, by plugin.
struct Files {
    /// Of the versions that are to be live, where the store may not have them.
    live: BTreeMap<String, Version>,
    /// Of those on trial.
    tried: BTreeMap<String, Version>,
}

impl Files {
    /// Sorts what was read. What stays live beside a trial is in the store.
    fn new(read: BTreeMap<String, Version>, versions: &Versions, selector: &Selector<'_>) -> Self {
        let mut files = Self { live: BTreeMap::new(), tried: BTreeMap::new() };
        for (name, version) in read {
            match versions.candidates.get(&name).is_some_and(|candidate| candidate.plugin.sha256 == version.sha256) {
                true => files.tried.insert(name, version),
                false => files.live.insert(name, version),
            };
        }
        for (name, plugin) in &versions.plugins {
            if files.live.get(name).is_none_or(|version| version.sha256 != plugin.sha256) {
                files.live.remove(name);
                files.live.extend(selector.stored(name, &plugin.sha256).ok().map(|version| (name.clone(), version)));
            }
        }
        files
    }
}

/// What ran last, before a restart, of the plugins of which there is another version now that is to be tried first.
fn before_restart(selector: &Selector<'_>, last: Option<&Manifest>, chosen: &BTreeMap<String, Arc<Plugin>>) -> Before {
    let mut before = Before::default();
    for (name, plugin) in chosen {
        let Some(stored) = last.and_then(|last| last.plugins.get(name)) else { continue };
        if stored.sha256 == plugin.sha256 || rollout::is_direct(selector.config, name) {
            continue;
        }
        let loaded = selector.stored(name, &stored.sha256).map_err(|error| error.to_string()).and_then(|version| {
            plugins::load_version(selector.config, selector.runtime, name, &version).map_err(|error| error.to_string())
        });
        match loaded {
            Ok(plugin) => drop(before.plugins.insert(name.clone(), plugin)),
            Err(error) => tracing::warn!(
                plugin = name,
                error,
                "The version that ran last can't be had: the new one takes over without a trial."
            ),
        }
    }
    before
}

/// What stays live beside a candidate has to serve the config as well.
fn check_beside_trials(loaded: &Loaded, mut available: Available, versions: &Versions) -> Result<(), Error> {
    if versions.candidates.is_empty() {
        return Ok(());
    }
    for name in versions.candidates.keys() {
        available.plugins.insert(name.clone(), Found::from(&*versions.plugins[name]));
    }
    let problems = loaded.against_plugins(&available);
    if problems.count(Severity::Error) > 0 { Err(Error::BesideTrials(problems)) } else { Ok(()) }
}

fn selector<'s>(config: &'s Config, live: Option<&'s Live>, tools: &'s Tools) -> Selector<'s> {
    let live = live.map(|live| &live.generation.plugins);
    Selector { config, runtime: &tools.runtime, store: &tools.store, live }
}

/// Binds a config and its plugins, and tries them out. `None` where they are what is live.
fn bind(
    loaded: Arc<Loaded>,
    versions: Versions,
    files: Files,
    live: Option<&Live>,
    tools: &Tools,
) -> Result<Option<Next>, Error> {
    let config = Arc::new(loaded.config.clone());
    let Versions { plugins, candidates } = versions;
    let hash = manifest_hash(&config.sha256, &plugins, &candidates);
    if live.is_some_and(|live| live.generation.hash == hash) {
        return Ok(None);
    }
    let number = match tools.data.live()? {
        // A restart with what ran before.
        Some(last) if live.is_none() && last.hash == hash => last.number,
        _ => tools.data.next_number(&tools.store)?,
    };
    let built_at = SystemTime::now();
    let loaded_at = plugins.iter().map(|(name, plugin)| {
        let same = live.filter(|live| live.generation.plugins.get(name).is_some_and(|of| Arc::ptr_eq(of, plugin)));
        (name.clone(), same.map_or(built_at, |live| live.loaded_at[name]))
    });
    let loaded_at = loaded_at.collect();
    let generation = Arc::new(Generation { number, hash, config: config.clone(), plugins, candidates, built_at });
    let bound = Bound::of(live.into_iter().flat_map(|live| &live.programs));
    let before = |group: &str| live.and_then(|live| live.programs.iter().find(|program| program.group == group));
    let programs = config.groups.iter().map(|group| {
        let before = before(&group.name).map(|program| &**program);
        Arc::new(build::program(&generation, group, before, &bound))
    });
    let programs: Vec<_> = programs.collect();
    if let Some(program) = programs.iter().find(|program| program.topics.len() > TOPICS_MAX) {
        return Err(Error::TooManyTopics(program.group.clone()));
    }
    let fresh = fresh(&config, &programs, &bound, tools.cores);
    let live = Live { generation, loaded, programs, loaded_at, tried: files.tried };
    let next = Next { live, versions: files.live, fresh };
    next.try_out()?;
    Ok(Some(next))
}

/// What holds against a config only because of what is live.
fn check_against_live(next: &Config, live: Option<&Live>) -> Result<(), Error> {
    let Some(live) = live.map(|live| &live.generation.config) else { return Ok(()) };
    let keys = restart_needed(live, next);
    if !keys.is_empty() {
        return Err(Error::NeedsRestart(keys));
    }
    let dropped = plan::dropped(&ConfigView::of(live), &ConfigView::of(next));
    if dropped.is_empty() { Ok(()) } else { Err(Error::GroupDropped(dropped)) }
}

/// Refuses a config that asks for what its plugins don't have.
fn check_plugins(loaded: &Loaded, selection: &Selection, tools: &Tools) -> Result<(), Error> {
    let mut problems = loaded.against_plugins(&selection.directory.available);
    problems.add(&loaded.warnings);
    if problems.count(Severity::Error) > 0 {
        return Err(Error::Config(problems));
    }
    let mut told = tools.told.lock().unwrap_or_else(PoisonError::into_inner);
    for warning in problems.list.iter().filter(|warning| told.insert(warning.message.clone())) {
        tracing::warn!(offending = warning.offending, problem = warning.message, "The config has a doubtful part.");
    }
    Ok(())
}

/// The bindings that are new, each once, and how many shards will want one.
fn fresh(config: &Config, programs: &[Arc<Program>], bound: &Bound, cores: usize) -> Vec<(Arc<Prepared>, usize)> {
    let mut fresh: Vec<(Arc<Prepared>, usize)> = Vec::new();
    for (group, program) in config.groups.iter().zip(programs) {
        for prepared in program.prepared.iter().filter(|prepared| !bound.has(prepared)) {
            let shards = config.shards(group, cores);
            match fresh.iter_mut().find(|(known, _)| Arc::ptr_eq(known, prepared)) {
                Some((_, count)) => *count += shards,
                None => fresh.push((Arc::clone(prepared), shards)),
            }
        }
    }
    fresh
}

impl Next {
    /// Makes an instance of each new binding, for each shard that will want one: it shows whether the plugin takes its
    /// config, and the shards don't wait for theirs.
    fn try_out(&self) -> Result<(), Error> {
        let outcomes = self.fresh.iter().map(|(prepared, shards)| {
            let outcome = prepared.make_ready((*shards).clamp(1, READY_MAX));
            (prepared, outcome)
        });
        let problems = tryout::problems(&self.live.loaded, outcomes);
        if problems.is_empty() { Ok(()) } else { Err(Error::Config(problems)) }
    }

    /// Drops the instances that no shard took.
    pub fn drop_ready(&self) {
        for (prepared, _) in &self.fresh {
            prepared.drop_ready();
        }
    }

    /// Keeps what it consists of, durably, and makes it the generation that a restart finds.
    ///
    /// # Errors
    /// When the disk refuses; what was live then still is.
    pub fn keep(&self, why: &str, tools: &Tools) -> Result<(), Error> {
        let Live { generation, loaded, .. } = &self.live;
        let mut manifest = Manifest::new(generation.number, generation.hash);
        manifest.config_sha256 = generation.config.sha256;
        manifest.config_path.clone_from(&generation.config.path);
        manifest.published_at = jiff::Timestamp::now().to_string();
        why.clone_into(&mut manifest.why);
        let mut blobs: Vec<(digest::Bytes, &[u8])> = Vec::new();
        for source in loaded.sources() {
            let sha256 = digest::of(source.text.as_bytes());
            manifest.files.push(StoredFile { path: source.path.clone(), sha256 });
            blobs.push((sha256, source.text.as_bytes()));
        }
        for (name, plugin) in &generation.plugins {
            let version = self.versions.get(name).filter(|version| version.sha256 == plugin.sha256);
            let signature = version.and_then(signature_text).map(|text| (digest::of(text.as_bytes()), text.as_bytes()));
            let stored = StoredPlugin {
                sha256: plugin.sha256,
                bytes: plugin.size as u64,
                signature: signature.map(|(sha256, _)| sha256),
            };
            manifest.plugins.insert(name.clone(), stored);
            blobs.extend(version.map(|version| (version.sha256, &*version.bytes)));
            blobs.extend(signature);
        }
        Ok(tools.data.publish(&tools.store, &manifest, blobs)?)
    }
}

/// For messages: which plugins a generation runs.
pub fn versions_of(generation: &Generation) -> String {
    let plugin = |(name, plugin): (&String, &Arc<Plugin>)| format!("{name}@{}", digest::short(&plugin.sha256));
    generation.plugins.iter().map(plugin).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::generation::Candidate;
    use crate::data::plugin::RuntimeOptions;
    use crate::data::trial::Trial;

    #[test]
    fn a_config_that_only_a_version_on_trial_serves_waits_for_its_end() {
        let text = "[routes.a]\nfrom = 'in'\nthrough = 'mask'\nto = { default = 'out', alert = 'alerts' }\n\
                    [plugin.mask]\nrollout = { mode = 'canary' }\n";
        let loaded = config::load_stored("m.toml".as_ref(), vec![("m.toml".into(), text.to_owned())]).expect("valid");
        let runtime = Runtime::new(RuntimeOptions::default()).expect("a runtime");
        let new = Plugin::stub(&runtime, "mask", 2, &["default", "alert"]);
        let found =
            |plugin: &Plugin| Available { plugins: [("mask".to_owned(), plugin.into())].into(), unreadable: None };
        let check = |live: Option<Arc<Plugin>>| {
            let rollout = loaded.config.plugin["mask"].rollout;
            let candidate = Candidate { plugin: Arc::clone(&new), rollout, trial: Arc::new(Trial::new(rollout)) };
            let candidates = live.iter().map(|_| ("mask".to_owned(), candidate.clone())).collect();
            let plugins = [("mask".to_owned(), live.unwrap_or_else(|| Arc::clone(&new)))].into();
            check_beside_trials(&loaded, found(&new), &Versions { plugins, candidates })
        };
        assert!(check(None).is_ok());
        assert!(check(Some(Plugin::stub(&runtime, "mask", 1, &["alert", "default"]))).is_ok());
        let error = check(Some(Plugin::stub(&runtime, "mask", 1, &["default"]))).expect_err("no port `alert`");
        assert!(matches!(error, Error::BesideTrials(_)) && error.is_refusal(), "{error}");
        let text = error.to_string();
        assert!(text.starts_with("the versions that stay live while others are on trial don't go with"), "{text}");
        assert!(text.contains("alert"), "{text}");
    }
}
