//! The plugin directory: which files are plugins, and loading those that routes name. Knows nothing of topics.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::model::Config;
use crate::data::plugin::{LoadError, Plugin, Runtime};
use crate::digest;

/// Why a plugin that a route names can't be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The directory can't be read.
    #[error("cannot read the plugin directory `{}`", .path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// There is no such file.
    #[error("no plugin `{name}` in `{}` (there: {})", .directory.display(), list(.known))]
    Unknown {
        /// The name that a route gives.
        name: String,
        /// Where it was looked for.
        directory: PathBuf,
        /// What is there.
        known: Vec<String>,
    },
    /// The file can't be read.
    #[error("cannot read plugin `{name}`")]
    Read {
        /// Its name.
        name: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is another version than the one that is pinned.
    #[error("plugin `{name}` is version `{found}`, but `sha256` pins `{pinned}`")]
    Pinned {
        /// Its name.
        name: String,
        /// The digest of the file.
        found: String,
        /// The digest in the config.
        pinned: String,
    },
    /// It is no plugin, or none for this host.
    #[error(transparent)]
    Refused(#[from] LoadError),
}

/// The files in a plugin directory, by the name of the plugin. A directory that isn't there has none.
///
/// # Errors
/// Where the directory can't be read.
pub fn discover(directory: &Path) -> Result<BTreeMap<String, PathBuf>, Error> {
    let io = |source| Error::Directory { path: directory.to_owned(), source };
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(io(error)),
    };
    let mut found = BTreeMap::new();
    for entry in entries {
        let path = entry.map_err(io)?.path();
        if path.extension().is_some_and(|extension| extension == "wasm")
            && let Some(name) = path.file_stem().and_then(|stem| stem.to_str())
        {
            found.insert(name.to_owned(), path);
        }
    }
    Ok(found)
}

/// The plugins that routes name, each once, in alphabetical order.
pub fn named(config: &Config) -> BTreeSet<&str> {
    config.routes.iter().flat_map(|route| &route.through).map(|stage| stage.plugin.as_str()).collect()
}

/// Loads one plugin of a directory. Takes up to seconds where it has to be compiled.
///
/// # Errors
/// Where it isn't there, isn't the version that is pinned, or isn't a plugin.
pub fn load_one(
    config: &Config,
    files: &BTreeMap<String, PathBuf>,
    runtime: &Runtime,
    name: &str,
) -> Result<Arc<Plugin>, Error> {
    let path = files.get(name).ok_or_else(|| Error::Unknown {
        name: name.to_owned(),
        directory: config.plugins.directory.clone(),
        known: files.keys().cloned().collect(),
    })?;
    let bytes = std::fs::read(path).map_err(|source| Error::Read { name: name.to_owned(), source })?;
    let settings = &config.plugin[name];
    if let Some(pinned) = settings.sha256
        && pinned != digest::of(&bytes)
    {
        let (found, pinned) = (digest::hex(&digest::of(&bytes)), digest::hex(&pinned));
        return Err(Error::Pinned { name: name.to_owned(), found, pinned });
    }
    Ok(runtime.load(name, &bytes, settings.limits)?)
}

fn list(known: &[String]) -> String {
    if known.is_empty() { "none".to_owned() } else { known.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plugins_are_the_wasm_files_of_the_directory() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a.wasm", "b-2.wasm", "notes.txt", "c.wasm.tmp"] {
            std::fs::write(folder.path().join(name), b"").unwrap();
        }
        let found: Vec<_> = discover(folder.path()).unwrap().into_keys().collect();
        assert_eq!(found, ["a", "b-2"]);
        assert!(discover(&folder.path().join("missing")).unwrap().is_empty());
    }
}
