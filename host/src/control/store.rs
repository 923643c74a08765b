//! What generations consist of, kept over restarts: the texts of the config, the plugins' bytes and their signatures, each
//! once by its SHA-256, and a manifest for each generation. Knows neither shards nor the plugin directory, and decides
//! nothing.
//!
//! `FOLDER/blobs/SHA256` holds the contents, `FOLDER/NUMBER.json` the manifests. A generation is put whole or not at all:
//! its contents first, then, once those are on the disk, its manifest under its final name. What a crash leaves in between
//! are contents that no manifest names; they go with the next [`Store::prune`].

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize, Serializer};

use super::durable;
use crate::digest;

/// The form of manifests that this version writes and reads.
const FORM: u32 = 1;
/// The end of a manifest's name.
const MANIFEST_SUFFIX: &str = ".json";

/// A store, open. Cheap calls read memory; [`Store::put`], [`Store::prune`] and [`Store::blob`] wait for the disk.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    blobs: PathBuf,
    index: Mutex<Index>,
    /// Held by whoever changes what is on the disk: the index is locked for moments only.
    writing: Mutex<()>,
}

/// The manifests that are there.
#[derive(Debug, Default)]
struct Index {
    manifests: BTreeMap<u64, Arc<Manifest>>,
    /// Those that can't be read, and why not.
    damaged: BTreeMap<u64, String>,
}

/// What one generation consists of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The form of this record.
    pub v: u32,
    /// The generation's number.
    pub number: u64,
    /// Its name: the hash over its config and its plugins.
    #[serde(with = "digest::as_hex")]
    pub hash: digest::Bytes,
    /// Of the config, what `${file:…}` put in included.
    #[serde(with = "digest::as_hex")]
    pub config_sha256: digest::Bytes,
    /// The config's file, as it was named.
    #[serde(serialize_with = "as_text")]
    pub config_path: PathBuf,
    /// The config's file first, then those that it includes, in their order.
    pub files: Vec<StoredFile>,
    /// The plugins that it runs, by name.
    pub plugins: BTreeMap<String, StoredPlugin>,
    /// When it was published, in RFC 3339.
    pub published_at: String,
    /// What made it.
    pub why: String,
}

/// A file of the config.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredFile {
    /// As people know it.
    #[serde(serialize_with = "as_text")]
    pub path: PathBuf,
    /// Of its text.
    #[serde(with = "digest::as_hex")]
    pub sha256: digest::Bytes,
}

/// A version of a plugin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredPlugin {
    /// The version.
    #[serde(with = "digest::as_hex")]
    pub sha256: digest::Bytes,
    /// How many bytes it has.
    pub bytes: u64,
    /// Of its signature's text, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "digest::as_hex_or_null")]
    pub signature: Option<digest::Bytes>,
}

/// A path that isn't UTF-8 is kept for people to recognise: nothing opens it.
fn as_text<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&path.to_string_lossy())
}

impl Manifest {
    /// A manifest in the form of this version.
    pub fn new(number: u64, hash: digest::Bytes) -> Self {
        Self {
            v: FORM,
            number,
            hash,
            config_sha256: [0; 32],
            config_path: PathBuf::new(),
            files: Vec::new(),
            plugins: BTreeMap::new(),
            published_at: String::new(),
            why: String::new(),
        }
    }

    /// Everything that it consists of.
    fn contents(&self) -> impl Iterator<Item = digest::Bytes> {
        let files = self.files.iter().map(|file| file.sha256);
        let plugins = self.plugins.values().flat_map(|plugin| [Some(plugin.sha256), plugin.signature]);
        files.chain(plugins.flatten())
    }

    fn runs(&self, version: &digest::Bytes) -> bool {
        self.plugins.values().any(|plugin| plugin.sha256 == *version)
    }
}

/// Why the store can't give or take something.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk refuses.
    #[error("cannot use `{}` in the store of generations", path.display())]
    Io {
        /// What was tried.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// There is no such generation, or none any more.
    #[error("generation {number} is not in the store (there are: {known})")]
    UnknownGeneration {
        /// The number asked for.
        number: u64,
        /// Those that are there.
        known: String,
    },
    /// The generation's manifest is unreadable.
    #[error("the manifest `{}` is damaged: {reason}", path.display())]
    DamagedManifest {
        /// Its file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Contents are missing, or not what their name says.
    #[error("`{}` is damaged: {reason}; remove it, and it is stored again with the next generation that has it", path.display())]
    DamagedBlob {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Another generation has the number.
    #[error("generation {0} is in the store already, with other contents")]
    Taken(u64),
}

impl Store {
    /// Opens the store, and makes it where there is none. Nobody else may have it open. A damaged manifest is reported in
    /// the log, and when it is asked for.
    ///
    /// # Errors
    /// When the folder can't be read or written.
    pub fn open(folder: &Path) -> Result<Self, Error> {
        let blobs = folder.join("blobs");
        for folder in [folder, &blobs] {
            durable::create_folder(folder).map_err(io(folder))?;
            durable::remove_drafts(folder).map_err(io(folder))?;
        }
        Self::index_of(folder, blobs)
    }

    /// Looks at a store that a host may have open: as it is at this moment, and only to read. What the host removes meanwhile
    /// is missing when it is asked for.
    ///
    /// # Errors
    /// When the folder can't be read.
    pub fn look(folder: &Path) -> Result<Self, Error> {
        Self::index_of(folder, folder.join("blobs"))
    }

    fn index_of(folder: &Path, blobs: PathBuf) -> Result<Self, Error> {
        let mut index = Index::default();
        for number in numbers(folder)? {
            match read_manifest(folder, number) {
                Ok(manifest) => {
                    index.manifests.insert(number, Arc::new(manifest));
                }
                Err(Error::DamagedManifest { path, reason }) => {
                    let path = path.display();
                    tracing::warn!(generation = number, %path, reason, "A manifest in the store is damaged.");
                    index.damaged.insert(number, reason);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Self { folder: folder.to_owned(), blobs, index: Mutex::new(index), writing: Mutex::default() })
    }

    /// Puts a generation, durably, whole or not at all. `blobs` are the contents by their SHA-256; those that the store has
    /// may be left out, and those that the manifest doesn't name are ignored. Putting the same generation again changes
    /// nothing.
    ///
    /// # Errors
    /// When the disk refuses, when something that the manifest names is neither given nor there, or when another generation
    /// has the number. The store is then as it was.
    pub fn put<'b>(
        &self,
        manifest: &Manifest,
        blobs: impl IntoIterator<Item = (digest::Bytes, &'b [u8])>,
    ) -> Result<(), Error> {
        let _writing = self.writing();
        let number = manifest.number;
        let there = self.index().manifests.get(&number).cloned();
        if there.as_ref().is_some_and(|there| there.hash != manifest.hash) {
            return Err(Error::Taken(number));
        }
        let named: BTreeSet<_> = manifest.contents().collect();
        for (sha256, bytes) in blobs.into_iter().filter(|(sha256, _)| named.contains(sha256)) {
            self.put_blob(&sha256, bytes)?;
        }
        durable::sync_folder(&self.blobs).map_err(io(&self.blobs))?;
        for sha256 in &named {
            let path = self.blob_path(sha256);
            if !path.is_file() {
                return Err(Error::DamagedBlob { path, reason: "it is missing".to_owned() });
            }
        }
        if there.is_some() {
            return Ok(());
        }
        let path = self.manifest_path(number);
        let text = serde_json::to_vec_pretty(manifest).map_err(|error| io(&path)(error.into()))?;
        durable::replace(&path, &text).map_err(io(&path))?;
        let mut index = self.index();
        index.damaged.remove(&number);
        index.manifests.insert(number, Arc::new(manifest.clone()));
        Ok(())
    }

    fn put_blob(&self, sha256: &digest::Bytes, bytes: &[u8]) -> Result<(), Error> {
        let path = self.blob_path(sha256);
        // Contents never change, so that the right length says that they are there; a damaged one is found when it is read.
        if path.metadata().is_ok_and(|found| found.is_file() && found.len() == bytes.len() as u64) {
            return Ok(());
        }
        assert_eq!(digest::of(bytes), *sha256, "contents are put under the SHA-256 that they have");
        durable::write(&path, bytes).map_err(io(&path))
    }

    /// The generations, newest last.
    pub fn list(&self) -> Vec<Arc<Manifest>> {
        self.index().manifests.values().cloned().collect()
    }

    /// The highest number that there is, of damaged manifests too; 0 for none.
    pub fn last_number(&self) -> u64 {
        self.index().numbers().max().unwrap_or(0)
    }

    /// One generation.
    ///
    /// # Errors
    /// When it isn't there, or its manifest is damaged.
    pub fn get(&self, number: u64) -> Result<Arc<Manifest>, Error> {
        let index = self.index();
        if let Some(manifest) = index.manifests.get(&number) {
            return Ok(manifest.clone());
        }
        match index.damaged.get(&number) {
            Some(reason) => Err(Error::DamagedManifest { path: self.manifest_path(number), reason: reason.clone() }),
            None => Err(Error::UnknownGeneration { number, known: or_none(index.manifests.keys()) }),
        }
    }

    /// Contents, verified.
    ///
    /// # Errors
    /// When they are not there, or not what they were; when the disk refuses.
    pub fn blob(&self, sha256: &digest::Bytes) -> Result<Vec<u8>, Error> {
        let path = self.blob_path(sha256);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(Error::DamagedBlob { path, reason: "it is missing".to_owned() });
            }
            Err(source) => return Err(Error::Io { path, source }),
        };
        let found = digest::of(&bytes);
        if found == *sha256 {
            return Ok(bytes);
        }
        let reason = format!("it has {} bytes of SHA-256 `{}`", bytes.len(), digest::hex(&found));
        Err(Error::DamagedBlob { path, reason })
    }

    /// A text, verified.
    ///
    /// # Errors
    /// As [`Store::blob`], and when it isn't UTF-8.
    pub fn text(&self, sha256: &digest::Bytes) -> Result<String, Error> {
        String::from_utf8(self.blob(sha256)?)
            .map_err(|_| Error::DamagedBlob { path: self.blob_path(sha256), reason: "it is not UTF-8".to_owned() })
    }

    /// Removes what is not to be kept: it keeps the newest `keep` generations, those of `generations`, for each of `versions`
    /// the newest generation that runs it, and all that these consist of.
    ///
    /// # Errors
    /// When the disk refuses. What was not removed stays in the store, whole.
    pub fn prune(
        &self,
        keep: usize,
        generations: &BTreeSet<u64>,
        versions: &BTreeSet<digest::Bytes>,
    ) -> Result<(), Error> {
        let _writing = self.writing();
        // No manifest may name what is gone: the manifests go first, for good.
        let superfluous = superfluous(&self.index(), keep, generations, versions);
        self.remove_manifests(superfluous)?;
        let kept = self.list();
        let named = kept.iter().flat_map(|manifest| manifest.contents());
        let named: BTreeSet<PathBuf> = named.map(|sha256| self.blob_path(&sha256)).collect();
        for entry in std::fs::read_dir(&self.blobs).map_err(io(&self.blobs))? {
            let path = entry.map_err(io(&self.blobs))?.path();
            if !named.contains(&path) {
                remove(&path)?;
            }
        }
        durable::sync_folder(&self.blobs).map_err(io(&self.blobs))
    }

    /// Removes the generations above a number, which were put and never published.
    pub(super) fn forget_above(&self, number: u64) -> Result<(), Error> {
        let _writing = self.writing();
        let above: Vec<u64> = self.index().numbers().filter(|known| *known > number).collect();
        self.remove_manifests(above)
    }

    fn remove_manifests(&self, numbers: Vec<u64>) -> Result<(), Error> {
        for number in numbers {
            remove(&self.manifest_path(number))?;
            let mut index = self.index();
            index.manifests.remove(&number);
            index.damaged.remove(&number);
        }
        durable::sync_folder(&self.folder).map_err(io(&self.folder))
    }

    fn manifest_path(&self, number: u64) -> PathBuf {
        manifest_path(&self.folder, number)
    }

    fn blob_path(&self, sha256: &digest::Bytes) -> PathBuf {
        self.blobs.join(digest::hex(sha256))
    }

    /// Nothing can panic while it is changed.
    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whoever panicked with it left the disk as a crash might have.
    fn writing(&self) -> MutexGuard<'_, ()> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Index {
    fn numbers(&self) -> impl Iterator<Item = u64> {
        self.manifests.keys().chain(self.damaged.keys()).copied()
    }
}

/// The versions of a plugin among generations, the newest first, each with the generations that run it.
pub fn versions(manifests: &[Arc<Manifest>], plugin: &str) -> Vec<(digest::Bytes, Vec<u64>)> {
    let mut versions: Vec<(digest::Bytes, Vec<u64>)> = Vec::new();
    for manifest in manifests.iter().rev() {
        let Some(stored) = manifest.plugins.get(plugin) else { continue };
        match versions.iter_mut().find(|(sha256, _)| *sha256 == stored.sha256) {
            Some((_, numbers)) => numbers.insert(0, manifest.number),
            None => versions.push((stored.sha256, vec![manifest.number])),
        }
    }
    versions
}

/// Why the beginning of a version names none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VersionError {
    /// It isn't one.
    #[error("`{0}` is no version, expected the first digits of a SHA-256 in hexadecimal, at least 4")]
    NotHexadecimal(String),
    /// No generation that is kept runs one that begins so.
    #[error("plugin `{plugin}` has no version `{prefix}` in the store (it has: {known})")]
    Unknown {
        /// Its name.
        plugin: String,
        /// What was asked for.
        prefix: String,
        /// Those that are there.
        known: String,
    },
    /// More than one begins so.
    #[error("`{prefix}` is the beginning of several versions of plugin `{plugin}` ({known}): give more digits")]
    Ambiguous {
        /// Its name.
        plugin: String,
        /// What was asked for.
        prefix: String,
        /// Those that begin so.
        known: String,
    },
}

/// The version of a plugin whose hexadecimal digits begin so.
///
/// # Errors
/// When there is none, or more than one.
pub fn find_version(manifests: &[Arc<Manifest>], plugin: &str, prefix: &str) -> Result<digest::Bytes, VersionError> {
    const DIGITS_MIN: usize = 4;
    let lower = prefix.to_ascii_lowercase();
    if lower.len() < DIGITS_MIN || lower.len() > 64 || !lower.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(VersionError::NotHexadecimal(prefix.to_owned()));
    }
    let all = versions(manifests, plugin);
    let matching: Vec<_> = all.iter().filter(|(sha256, _)| digest::hex(sha256).starts_with(&lower)).collect();
    let (plugin, prefix) = (plugin.to_owned(), prefix.to_owned());
    match matching.as_slice() {
        [(sha256, _)] => Ok(*sha256),
        [] => Err(VersionError::Unknown {
            plugin,
            prefix,
            known: or_none(all.iter().map(|version| digest::short(&version.0))),
        }),
        _ => {
            let known = or_none(matching.iter().map(|version| digest::hex(&version.0)));
            Err(VersionError::Ambiguous { plugin, prefix, known })
        }
    }
}

/// The generations that [`Store::prune`] need not keep.
fn superfluous(
    index: &Index,
    keep: usize,
    generations: &BTreeSet<u64>,
    versions: &BTreeSet<digest::Bytes>,
) -> Vec<u64> {
    let manifests = &index.manifests;
    let newest: Vec<u64> = manifests.keys().rev().take(keep).copied().collect();
    // A damaged manifest stays for as long as its neighbours: somebody may want to look at it.
    let oldest = newest.last().copied().unwrap_or(u64::MAX);
    let runs =
        |version| manifests.values().rev().find(|manifest| manifest.runs(version)).map(|manifest| manifest.number);
    let mut kept: BTreeSet<u64> = newest.into_iter().chain(generations.iter().copied()).collect();
    kept.extend(versions.iter().filter_map(runs));
    kept.extend(index.damaged.keys().filter(|number| **number > oldest));
    index.numbers().filter(|number| !kept.contains(number)).collect()
}

/// The numbers of the manifests that are there.
fn numbers(folder: &Path) -> Result<Vec<u64>, Error> {
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(io(folder))? {
        let name = entry.map_err(io(folder))?.file_name();
        let number =
            name.to_str().and_then(|name| name.strip_suffix(MANIFEST_SUFFIX)).and_then(|stem| stem.parse().ok());
        numbers.extend(number.filter(|number| manifest_path(folder, *number).file_name() == Some(&name)));
    }
    Ok(numbers)
}

fn manifest_path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number}{MANIFEST_SUFFIX}"))
}

fn read_manifest(folder: &Path, number: u64) -> Result<Manifest, Error> {
    let path = manifest_path(folder, number);
    let bytes = std::fs::read(&path).map_err(io(&path))?;
    let damaged = |reason| Error::DamagedManifest { path: path.clone(), reason };
    let manifest: Manifest = serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
    if manifest.v != FORM {
        return Err(damaged(format!("it has form {}, expected {FORM}", manifest.v)));
    }
    if manifest.number != number {
        return Err(damaged(format!("it is of generation {}", manifest.number)));
    }
    Ok(manifest)
}

fn remove(path: &Path) -> Result<(), Error> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(io(path)(error)),
        _ => Ok(()),
    }
}

fn or_none(items: impl Iterator<Item = impl ToString>) -> String {
    let items: Vec<_> = items.map(|item| item.to_string()).collect();
    if items.is_empty() { "none".to_owned() } else { items.join(", ") }
}

fn io(path: &Path) -> impl Fn(std::io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { path: path.clone(), source }
}

#[cfg(test)]
mod tests;
