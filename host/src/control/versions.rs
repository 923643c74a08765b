//! Which version of each plugin a generation runs, and where its bytes come from: the directory, the store, or what is live.
//! What operators decided has a part in it. Loads what is not live already; publishes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::decisions::{Choice, Decision, Decisions, Standing, choose};
use super::plugins::{self, Contents, Directory, Signature, Version};
use super::store::{self, Manifest, Store};
use crate::config::model::Config;
use crate::config::plugins::Found;
use crate::data::plugin::{Plugin, Runtime};
use crate::digest;

/// The plugins of a generation.
#[derive(Debug, Default)]
pub struct Selection {
    /// What is there, to be held against the config.
    pub directory: Directory,
    /// Bytes and signatures that the store may not have yet, by plugin.
    pub versions: BTreeMap<String, Version>,
    /// What the directory has, by plugin that a route names.
    pub present: BTreeMap<String, digest::Bytes>,
    /// The decisions that other bytes in the directory have ended.
    pub ended: BTreeSet<String>,
    /// Each way in which the directory and this selection differ, a sentence each.
    pub drift: Vec<String>,
}

/// What versions are selected with.
pub struct Selector<'s> {
    /// What routes and pins say.
    pub config: &'s Config,
    /// To make plugins of versions.
    pub runtime: &'s Runtime,
    /// What former generations consist of.
    pub store: &'s Store,
    /// Those that are live, to be taken over where they are the same.
    pub live: Option<&'s BTreeMap<String, Arc<Plugin>>>,
}

impl Selector<'_> {
    /// The versions that the directory and the decisions ask for. `last` is what ran last, where nothing is live.
    pub fn of_directory(&self, decisions: &Decisions, last: Option<&Manifest>) -> Selection {
        let mut contents = plugins::read(self.config);
        let mut selection = Selection::default();
        for name in self.named() {
            let in_directory = match contents.files.remove(&name) {
                Some(plugins::File::Version(version)) => Ok(Some(version)),
                Some(file) => match file.version(&name) {
                    Some(Err(refusal)) => Err(Found::from(&refusal)),
                    Some(Ok(_)) | None => Ok(None),
                },
                None => Ok(None),
            };
            self.select(name, in_directory, decisions, last, &mut selection);
        }
        self.note_others(contents, &mut selection);
        selection
    }

    /// The versions of a generation that is kept.
    pub fn of_manifest(&self, manifest: &Manifest) -> Selection {
        let mut selection = Selection::default();
        for name in self.named() {
            match manifest.plugins.get(&name) {
                Some(stored) => self.take_stored(&name, &stored.sha256, &mut selection),
                None => continue,
            }
        }
        selection
    }

    fn named(&self) -> BTreeSet<String> {
        self.config.routes.iter().flat_map(|route| &route.through).map(|stage| stage.plugin.clone()).collect()
    }

    fn select(
        &self,
        name: String,
        in_directory: Result<Option<Version>, Found>,
        decisions: &Decisions,
        last: Option<&Manifest>,
        selection: &mut Selection,
    ) {
        let present = in_directory.as_ref().ok().and_then(Option::as_ref).map(|version| version.sha256);
        selection.present.extend(present.map(|present| (name.clone(), present)));
        let live = self.live.and_then(|live| live.get(&name)).map(|plugin| plugin.sha256);
        let live = live.or_else(|| last.and_then(|last| last.plugins.get(&name)).map(|stored| stored.sha256));
        let decision = decisions.plugins.get(&name);
        let (choice, standing) = choose(self.config.plugin[&name].sha256, decision, present, live);
        if standing == Standing::Ended {
            selection.ended.insert(name.clone());
        }
        match (choice, in_directory) {
            (Choice::Directory(_), Ok(Some(version))) => self.take(&name, version, selection),
            (Choice::Stored(wanted), _) => {
                selection.drift.extend(drift(&name, decision, present));
                self.take_stored(&name, &wanted, selection);
            }
            // What is there and can't be read is no reason to take something else, unless somebody has decided so.
            (_, Err(found)) => drop(selection.directory.available.plugins.insert(name, found)),
            (Choice::Keep(live), _) => {
                let version = digest::short(&live);
                selection.drift.push(format!("plugin `{name}` is in the directory no more; version {version} goes on"));
                self.take_stored(&name, &live, selection);
            }
            (Choice::Directory(_) | Choice::Missing, _) => {}
        }
    }

    /// Takes a version that was read, or the live plugin if that is the same.
    fn take(&self, name: &str, version: Version, selection: &mut Selection) {
        let same = self.live.and_then(|live| live.get(name)).filter(|plugin| plugin.sha256 == version.sha256);
        let loaded = match same.filter(|_| plugins::admit(self.config, name, &version).is_ok()) {
            Some(plugin) => Ok(Arc::clone(plugin)),
            None => plugins::load_version(self.config, self.runtime, name, &version),
        };
        let found = match &loaded {
            Ok(plugin) => Found::from(&**plugin),
            Err(refusal) => Found::from(refusal),
        };
        selection.directory.available.plugins.insert(name.to_owned(), found);
        if let Ok(plugin) = loaded {
            selection.directory.plugins.insert(name.to_owned(), plugin);
            selection.versions.insert(name.to_owned(), version);
        }
    }

    fn take_stored(&self, name: &str, sha256: &digest::Bytes, selection: &mut Selection) {
        match self.stored(name, sha256) {
            Ok(version) => self.take(name, version, selection),
            Err(error) => {
                let version = digest::short(sha256);
                let message = format!("version {version} of plugin `{name}` can't be had: {error}");
                let hint = Some("`midplane plugin list` shows the versions that are kept".to_owned());
                selection.directory.available.plugins.insert(name.to_owned(), Found::Refused { message, hint });
            }
        }
    }

    /// A version of the store, with its signature.
    ///
    /// # Errors
    /// When the store doesn't have it, or not whole.
    pub fn stored(&self, name: &str, sha256: &digest::Bytes) -> Result<Version, store::Error> {
        let manifests = self.store.list();
        let plugin = manifests.iter().rev().filter_map(|manifest| manifest.plugins.get(name));
        let signature = plugin.filter(|plugin| plugin.sha256 == *sha256).find_map(|plugin| plugin.signature);
        let signature = signature.map(|signature| self.store.text(&signature)).transpose()?;
        Ok(Version::new(self.store.blob(sha256)?, signature.as_deref()))
    }

    /// Files that no route names, and a directory that can't be read: a problem only where something is needed from it.
    fn note_others(&self, contents: Contents, selection: &mut Selection) {
        for (name, _) in contents.files {
            selection.directory.available.plugins.entry(name).or_insert(Found::Unused);
        }
        let missing = self.named().iter().any(|name| !selection.directory.available.plugins.contains_key(name));
        if let Some(reason) = contents.unreadable {
            match missing {
                true => selection.directory.available.unreadable = Some(reason),
                false if !self.named().is_empty() => {
                    selection.drift.push(format!("the plugin directory can't be read: {reason}"));
                }
                false => {}
            }
        }
    }
}

fn drift(name: &str, decision: Option<&Decision>, present: Option<digest::Bytes>) -> Option<String> {
    let present = match present {
        Some(present) => format!("the directory has version {}", digest::short(&present)),
        None => "the directory doesn't have it".to_owned(),
    };
    Some(match decision? {
        Decision::Pin { sha256, since } => {
            format!("plugin `{name}` is pinned to version {} since {since}; {present}", digest::short(sha256))
        }
        Decision::Rollback { to, since, .. } => {
            format!("plugin `{name}` was rolled back to version {} at {since}; {present}", digest::short(to))
        }
    })
}

/// What the store keeps of a version's signature.
pub fn signature_text(version: &Version) -> Option<&str> {
    match &version.signature {
        Signature::Text(text) => Some(text),
        Signature::Absent | Signature::Unreadable(_) => None,
    }
}
