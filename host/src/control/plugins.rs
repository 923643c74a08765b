//! The plugin directory, looked at once for a config: the plugins that routes name are loaded, the others listed. What
//! that means for the config is said by [`crate::config`]; nothing here knows topics.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use crate::config::model::Config;
use crate::config::plugins::{self, Available, Found};
use crate::data::plugin::{Plugin, Runtime};

/// What a plugin directory has for a config.
#[derive(Debug, Default)]
pub struct Directory {
    /// What is there, to be held against the config.
    pub available: Available,
    /// The plugins that routes name, and that can be run.
    pub plugins: BTreeMap<String, Arc<Plugin>>,
}

/// Loads the plugins that the config's routes name. Takes up to seconds for each that has to be compiled.
pub fn load(config: &Config, live: Option<&BTreeMap<String, Arc<Plugin>>>, runtime: &Runtime) -> Directory {
    let named: BTreeSet<&str> =
        config.routes.iter().flat_map(|route| &route.through).map(|stage| stage.plugin.as_str()).collect();
    let folder = &config.plugins.directory;
    let mut directory = Directory::default();
    let names = match plugins::list(folder) {
        Ok(names) => names,
        Err(reason) => {
            directory.available.unreadable = Some(reason);
            return directory;
        }
    };
    for name in names {
        let found = match named.contains(name.as_str()) {
            true => load_one(config, live, runtime, folder, &name, &mut directory.plugins),
            false => Found::Unused,
        };
        directory.available.plugins.insert(name, found);
    }
    directory
}

fn load_one(
    config: &Config,
    live: Option<&BTreeMap<String, Arc<Plugin>>>,
    runtime: &Runtime,
    folder: &Path,
    name: &str,
    loaded: &mut BTreeMap<String, Arc<Plugin>>,
) -> Found {
    let bytes = match std::fs::read(folder.join(format!("{name}.wasm"))) {
        Ok(bytes) => bytes,
        Err(error) => {
            return Found::Refused { message: format!("`{name}` can't be read: {}", error.kind()), hint: None };
        }
    };
    let same = live.and_then(|live| live.get(name)).filter(|live| live.sha256 == crate::digest::of(&bytes));
    if let Some(plugin) = same {
        loaded.insert(name.to_owned(), Arc::clone(plugin));
        return Found::from(&**plugin);
    }
    match runtime.load(name, &bytes, config.plugin[name].limits) {
        Ok(plugin) => {
            let found = Found::from(&*plugin);
            loaded.insert(name.to_owned(), plugin);
            found
        }
        Err(error) => Found::from(&error),
    }
}
