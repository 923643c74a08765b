//! From files to a generation that could be published: read, decided, verified, compiled, bound and tried. Takes from the live
//! one what did not change. Runs apart from the data path, and changes nothing that is live: whatever fails here leaves no
//! trace but its reason.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use super::build::{self, Bound};
use super::data_directory::{self, DataDirectory};
use super::generation::{Generation, manifest_hash};
use super::plan::restart_needed;
use super::plugins;
use crate::config::model::Config;
use crate::config::{self, Loaded, Problems, Severity};
use crate::data::plugin::{InstanceError, Plugin, Prepared, Runtime};
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
    /// Only a new process can take these keys up.
    #[error("{}", restart_message(.0))]
    NeedsRestart(Vec<String>),
    /// A group would not be read any more, and nobody says that this is meant.
    #[error("{}", dropped_message(.0))]
    GroupDropped(Vec<String>),
    /// A plugin can't be started with a route's config.
    #[error(transparent)]
    Instance(#[from] InstanceError),
    /// The files were written while they were read.
    #[error("the files changed while they were read; they are read again once they stay as they are")]
    Unsettled,
    /// The process has had too many topics.
    #[error("group `{0}` has written to {TOPICS_MAX} topics since the host started: more of them need a restart")]
    TooManyTopics(String),
    /// The data directory.
    #[error(transparent)]
    DataDirectory(#[from] data_directory::Error),
}

impl Error {
    /// Whether the files are to blame, so that nothing but a change of those helps.
    pub fn is_refusal(&self) -> bool {
        !matches!(self, Self::DataDirectory(_))
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
    let tables: Vec<_> = groups.iter().map(|group| format!("`[groups.{group}] retired = true`")).collect();
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
}

/// What could become live.
pub struct Next {
    /// All of it.
    pub live: Live,
    /// Bindings of plugins that the live generation doesn't have, and how many shards will run each.
    fresh: Vec<(Arc<Prepared>, usize)>,
}

/// What a generation is prepared with.
#[derive(Clone)]
pub struct Tools {
    /// Loads plugins.
    pub runtime: Runtime,
    /// Numbers generations.
    pub data: Arc<DataDirectory>,
    /// Of this machine.
    pub cores: usize,
}

/// Reads the config and the plugins, and binds them. `None` where that is what is live already. Takes seconds where a plugin
/// has to be compiled.
///
/// # Errors
/// Whatever is wrong: all of it, where that can be told.
pub fn prepare(loaded: Loaded, live: Option<&Live>, tools: &Tools) -> Result<Option<Next>, Error> {
    let config = Arc::new(loaded.config.clone());
    if let Some(live) = live {
        check_against_live(&config, &live.generation.config)?;
    }
    let known = live.map(|live| &live.generation.plugins);
    let plugins = load_plugins(&loaded, known, &tools.runtime)?;
    let hash = manifest_hash(&config.sha256, &plugins);
    if live.is_some_and(|live| live.generation.hash == hash) {
        return Ok(None);
    }
    let number = tools.data.number_generation(&hash)?;
    let built_at = SystemTime::now();
    let loaded_at = plugins.iter().map(|(name, plugin)| {
        let same = live.filter(|live| live.generation.plugins.get(name).is_some_and(|of| Arc::ptr_eq(of, plugin)));
        (name.clone(), same.map_or(built_at, |live| live.loaded_at[name]))
    });
    let loaded_at = loaded_at.collect();
    let generation = Arc::new(Generation { number, hash, config: config.clone(), plugins, built_at });
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
    let live = Live { generation, loaded: Arc::new(loaded), programs, loaded_at };
    let next = Next { live, fresh };
    next.try_out()?;
    Ok(Some(next))
}

/// What holds against a config only because of what is live.
fn check_against_live(next: &Config, live: &Config) -> Result<(), Error> {
    let keys = restart_needed(live, next);
    if !keys.is_empty() {
        return Err(Error::NeedsRestart(keys));
    }
    let dropped = dropped_groups(next, live);
    if dropped.is_empty() { Ok(()) } else { Err(Error::GroupDropped(dropped)) }
}

/// The live groups that would be gone, their routes with them, and that aren't said to be.
fn dropped_groups(next: &Config, live: &Config) -> Vec<String> {
    let stays = |name: &str| next.groups.iter().any(|group| group.name == name);
    let moves = |id: &str| next.routes.iter().any(|route| route.id == id || route.was.as_deref() == Some(id));
    let gone = live.groups.iter().filter(|group| !stays(&group.name) && !next.retired.contains(&group.name));
    let gone = gone.filter(|group| !group.routes.iter().any(|route| moves(&live.routes[*route].id)));
    gone.map(|group| group.name.clone()).collect()
}

/// The plugins, unless the config asks for what they don't have.
fn load_plugins(
    loaded: &Loaded,
    live: Option<&BTreeMap<String, Arc<Plugin>>>,
    runtime: &Runtime,
) -> Result<BTreeMap<String, Arc<Plugin>>, Error> {
    let directory = plugins::load(&loaded.config, live, runtime);
    let mut problems = loaded.against_plugins(&directory.available);
    problems.add(&loaded.warnings);
    if problems.count(Severity::Error) > 0 {
        return Err(Error::Config(problems));
    }
    for warning in &problems.list {
        tracing::warn!(offending = warning.offending, problem = warning.message, "The config has a doubtful part.");
    }
    Ok(directory.plugins)
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
        for (prepared, shards) in &self.fresh {
            prepared.make_ready((*shards).clamp(1, READY_MAX))?;
        }
        Ok(())
    }

    /// Drops the instances that no shard took.
    pub fn drop_ready(&self) {
        for (prepared, _) in &self.fresh {
            prepared.drop_ready();
        }
    }

    /// The names of the plugins whose version is another one than in a generation, or that it doesn't have.
    pub fn changed_plugins(&self, before: &Generation) -> BTreeSet<String> {
        let same = |name: &String, plugin: &Arc<Plugin>| {
            before.plugins.get(name).is_some_and(|before| before.sha256 == plugin.sha256)
        };
        let plugins = self.live.generation.plugins.iter();
        plugins.filter(|(name, plugin)| !same(name, plugin)).map(|(name, _)| name.clone()).collect()
    }
}

/// Where a config comes from.
#[derive(Debug, Clone)]
pub enum Origin {
    /// The file that the host was started with.
    Disk(PathBuf),
    /// A generation of the store.
    Stored(u64),
}

/// For messages: which plugins a generation runs.
pub fn versions_of(generation: &Generation) -> String {
    let plugin = |(name, plugin): (&String, &Arc<Plugin>)| format!("{name}@{}", digest::short(&plugin.sha256));
    generation.plugins.iter().map(plugin).collect::<Vec<_>>().join(" ")
}
