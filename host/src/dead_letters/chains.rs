//! The routes that letters are sent through again, at chosen versions of their plugins: by default those that are live in the
//! host's data directory, whether the host runs or not, else those of the plugin directory. Everything that can be refused is
//! refused here. Changes nothing that a host has.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use crate::config::model::{Config, Group};
use crate::config::plugins::{Available, Found};
use crate::config::{Loaded, Problems, Severity};
use crate::control::build::{self, Bound};
use crate::control::data_directory::{self, Live};
use crate::control::generation::{Candidates, Generation};
use crate::control::plugins::{self, Refusal, Version};
use crate::control::store::{self, Store};
use crate::control::tryout;
use crate::control::versions::Selector;
use crate::data::plugin::{Plugin, Runtime};
use crate::data::program::Program;
use crate::digest;

/// The routes of a config, by the ids that letters may have of them.
#[derive(Debug)]
pub struct Routes(HashMap<String, usize>);

impl Routes {
    /// Those of a config. What a route is now weighs more than what another one was.
    pub fn of(config: &Config) -> Self {
        let number = |(number, id): (usize, &String)| (id.clone(), number);
        let was = config.routes.iter().enumerate().filter_map(|(index, route)| Some((index, route.was.as_ref()?)));
        let mut routes: HashMap<_, _> = was.map(number).collect();
        routes.extend(config.routes.iter().map(|route| &route.id).enumerate().map(number));
        Self(routes)
    }

    /// The index of the route that a letter's route is now.
    pub fn find(&self, id: &str) -> Option<usize> {
        self.0.get(id).copied()
    }
}

/// A version of a plugin that somebody asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// The plugin.
    pub plugin: String,
    /// Which version.
    pub version: Asked,
}

/// Which version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// By its first digits: of the host's store, or of the plugin directory.
    Digits(String),
    /// A file.
    File(PathBuf),
}

/// Where a version comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// It is live in this generation.
    Live(u64),
    /// The plugin directory has it, and no host has published anything there.
    Directory,
    /// Somebody asked for it.
    Asked,
}

/// Why letters can't be sent through their routes.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The routes and the versions don't go together.
    #[error("the routes can't run with these versions of their plugins")]
    Config(Problems),
    /// A version can't be run.
    #[error("{0}{hint}", hint = hint(.0))]
    Plugin(Refusal),
    /// A plugin is in no directory and no store.
    #[error("plugin `{0}` is neither live nor in the plugin directory; `--plugin {0}=FILE` takes it from elsewhere")]
    Missing(String),
    /// The version isn't known.
    #[error(transparent)]
    Version(#[from] store::VersionError),
    /// The host's store.
    #[error(transparent)]
    DataDirectory(#[from] data_directory::Error),
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        Self::DataDirectory(error.into())
    }
}

fn hint(refusal: &Refusal) -> String {
    refusal.hint().map_or_else(String::new, |hint| format!("\n  hint: {hint}"))
}

/// Routes, ready to be followed.
pub struct Chains {
    /// As the shards of a group of these routes would follow them.
    pub program: Arc<Program>,
    /// The plugins' versions.
    pub plugins: BTreeMap<String, (digest::Bytes, Source)>,
    /// By the route's index in the config, its number in the program.
    numbers: BTreeMap<usize, u16>,
}

impl Chains {
    /// Builds some routes of a config. Takes seconds where a plugin has to be compiled.
    ///
    /// # Errors
    /// Where a version can't be had, or doesn't go with the config.
    pub fn build(loaded: &Loaded, routes: &BTreeSet<usize>, asks: &[Ask], runtime: &Runtime) -> Result<Self, Error> {
        let config = &loaded.config;
        let kept = data_directory::look(&config.host.data_directory)?;
        let stages = routes.iter().flat_map(|route| &config.routes[*route].through);
        let names: BTreeSet<&String> = stages.map(|stage| &stage.plugin).collect();
        let finder = Finder { config, kept: kept.as_ref(), runtime };
        let (mut versions, mut loaded_plugins) = (BTreeMap::new(), BTreeMap::new());
        for name in names {
            let asked = asks.iter().find(|ask| ask.plugin == *name).map(|ask| &ask.version);
            let (version, source) = finder.find(name, asked)?;
            let plugin = plugins::load_version(config, runtime, name, &version).map_err(Error::Plugin)?;
            versions.insert(name.clone(), (plugin.sha256, source));
            loaded_plugins.insert(name.clone(), plugin);
        }
        check_plugins(loaded, &loaded_plugins)?;
        let number = kept.as_ref().map_or(0, |(live, _)| live.number);
        let program = program(config, routes, loaded_plugins, number);
        let outcomes = program.prepared.iter().map(|prepared| (prepared, prepared.make_ready(1)));
        let problems = tryout::problems(loaded, outcomes.collect::<Vec<_>>());
        if !problems.is_empty() {
            return Err(Error::Config(problems));
        }
        let numbers = routes.iter().copied().zip(0..).collect();
        Ok(Self { program: Arc::new(program), plugins: versions, numbers })
    }

    /// The number of a route of the config, if it is among these.
    pub fn number(&self, route: usize) -> Option<u16> {
        self.numbers.get(&route).copied()
    }
}

fn program(config: &Config, routes: &BTreeSet<usize>, plugins: BTreeMap<String, Arc<Plugin>>, number: u64) -> Program {
    let group = routes.first().map_or(0, |route| config.routes[*route].group);
    let group = Group { routes: routes.iter().copied().collect(), ..config.groups[group].clone() };
    let generation = Generation {
        number,
        hash: [0; 32],
        config: Arc::new(config.clone()),
        plugins,
        candidates: Candidates::new(),
        built_at: SystemTime::now(),
    };
    build::program(&generation, &group, None, &Bound::default())
}

/// Refuses routes that ask for what their plugins don't have. Of other routes nothing is known, and nothing said.
fn check_plugins(loaded: &Loaded, plugins: &BTreeMap<String, Arc<Plugin>>) -> Result<(), Error> {
    let unused = loaded.config.plugin.keys().map(|name| (name.clone(), Found::Unused));
    let mut available = Available { plugins: unused.collect(), unreadable: None };
    available.plugins.extend(plugins.iter().map(|(name, plugin)| (name.clone(), Found::from(&**plugin))));
    let mut problems = loaded.against_plugins(&available);
    problems.list.retain(|problem| problem.severity == Severity::Error);
    if problems.is_empty() { Ok(()) } else { Err(Error::Config(problems)) }
}

/// Where versions are looked for.
struct Finder<'f> {
    config: &'f Config,
    kept: Option<&'f (Live, Store)>,
    runtime: &'f Runtime,
}

impl Finder<'_> {
    fn find(&self, name: &str, asked: Option<&Asked>) -> Result<(Version, Source), Error> {
        match asked {
            Some(Asked::File(path)) => Ok((self.file(name, path.clone())?, Source::Asked)),
            Some(Asked::Digits(digits)) => Ok((self.by_digits(name, digits)?, Source::Asked)),
            None => self.live(name),
        }
    }

    fn live(&self, name: &str) -> Result<(Version, Source), Error> {
        if let Some((live, store)) = self.kept
            && let Some(plugin) = store.get(live.number)?.plugins.get(name)
        {
            return Ok((self.stored(store, name, &plugin.sha256)?, Source::Live(live.number)));
        }
        let path = self.in_directory(name);
        if path.is_file() {
            Ok((self.file(name, path)?, Source::Directory))
        } else {
            Err(Error::Missing(name.to_owned()))
        }
    }

    fn by_digits(&self, name: &str, digits: &str) -> Result<Version, Error> {
        let in_directory = self.file(name, self.in_directory(name)).ok();
        let digits = digits.to_ascii_lowercase();
        if let Some(version) = in_directory.filter(|version| digest::hex(&version.sha256).starts_with(&digits)) {
            return Ok(version);
        }
        let manifests = self.kept.map_or_else(Vec::new, |(_, store)| store.list());
        let sha256 = store::find_version(&manifests, name, &digits)?;
        let (_, store) = self.kept.expect("whoever found a version there has a store");
        self.stored(store, name, &sha256)
    }

    fn stored(&self, store: &Store, name: &str, sha256: &digest::Bytes) -> Result<Version, Error> {
        let selector = Selector { config: self.config, runtime: self.runtime, store, live: None };
        Ok(selector.stored(name, sha256)?)
    }

    fn file(&self, name: &str, path: PathBuf) -> Result<Version, Error> {
        match plugins::read_file(&path).version(name) {
            Some(Ok(version)) => Ok(version.clone()),
            Some(Err(refusal)) => Err(Error::Plugin(refusal)),
            None => Err(Error::Missing(name.to_owned())),
        }
    }

    fn in_directory(&self, name: &str) -> PathBuf {
        self.config.plugins.directory.join(name).with_added_extension("wasm")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load_stored;

    #[test]
    fn a_letter_finds_its_route_by_what_that_is_or_was() {
        let text = "[routes.a]\nfrom = 'in'\nto = 'out'\nid = 'x'\n[routes.b]\nfrom = 'in'\nto = 'out'\nwas = 'old'\n";
        let path = PathBuf::from("midplane.toml");
        let config = load_stored(&path, vec![(path.clone(), text.to_owned())]).expect("valid").config;
        let routes = Routes::of(&config);
        let found = ["x", "a", "b", "old", "gone"].map(|id| routes.find(id));
        assert_eq!(found, [Some(0), None, Some(1), Some(1), None]);
    }
}
