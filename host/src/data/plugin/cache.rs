//! Compiled plugins on disk, so that a restart doesn't compile them again.
//!
//! Compiled code runs with the host's own rights, so nothing is loaded that this very host didn't write: an entry must be a plain
//! file of the host's user that no one else can write, in a folder of the same kind, and carry the key of what was asked for and a
//! digest of all its bytes. What fails any of that is as if it weren't there, and is replaced. The one `unsafe` block of plugins
//! is here.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::hash::{Hash, Hasher};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

use sha2::{Digest as _, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

/// Begins each entry; the number changes with the format.
const MAGIC: &[u8; 16] = b"midplane-cwasm 1";
/// Magic, key, digest.
const HEADER_BYTES: usize = 16 + 32 + 32;
/// The folder is kept below this, by dropping what was not used for longest.
const FOLDER_BYTES_MAX: u64 = 1 << 30;
/// Of a component whose compilation somebody should be told of before: a megabyte takes about a second.
const LARGE_BYTES: usize = 1 << 20;

/// The folder can't be used.
#[derive(Debug)]
pub(super) struct Error {
    pub(super) path: PathBuf,
    pub(super) source: io::Error,
}

/// An open cache.
pub(super) struct Cache {
    folder: PathBuf,
    /// Whose entries count.
    user: u32,
    /// Version and settings of the engine.
    engine: [u8; 32],
}

impl Cache {
    /// Makes the folder if need be.
    pub(super) fn open(folder: PathBuf, engine: &Engine) -> Result<Self, Error> {
        match open_folder(&folder) {
            Ok(user) => Ok(Self { folder, user, engine: engine_digest(engine) }),
            Err(source) => Err(Error { path: folder, source }),
        }
    }

    /// The component of these bytes: from the cache, or compiled and then kept there. That it can't be kept is no error, but
    /// it is said.
    pub(super) fn component(&self, engine: &Engine, bytes: &[u8]) -> wasmtime::Result<Component> {
        let key = self.key(bytes);
        let path = self.folder.join(format!("{}.cwasm", hex(&key)));
        match read_entry(&path, &key, self.user) {
            Ok(Some(code)) => match deserialize(engine, &Verified(&code)) {
                Ok(component) => {
                    // When it was last used decides what is dropped first.
                    let _ =
                        File::options().append(true).open(&path).and_then(|file| file.set_modified(SystemTime::now()));
                    return Ok(component);
                }
                Err(error) => tracing::warn!(path = %path.display(), %error, "A compiled plugin is compiled again."),
            },
            Ok(None) => {}
            Err(error) => tracing::warn!(path = %path.display(), %error, "A compiled plugin is compiled again."),
        }
        let begun = Instant::now();
        if bytes.len() >= LARGE_BYTES {
            tracing::info!(bytes = bytes.len(), "A large plugin is being compiled: that may take seconds.");
        }
        let component = Component::new(engine, bytes)?;
        tracing::info!(bytes = bytes.len(), took_ms = begun.elapsed().as_millis() as u64, "A plugin was compiled.");
        let code = component.serialize()?;
        if let Err(error) = write_entry(&self.folder, &path, &key, &code) {
            tracing::warn!(path = %path.display(), %error, "A compiled plugin can't be kept.");
        }
        self.prune();
        Ok(component)
    }

    fn key(&self, bytes: &[u8]) -> [u8; 32] {
        Sha256::new().chain_update(self.engine).chain_update(bytes).finalize().into()
    }

    /// Drops the entries that were not used for longest while there is too much.
    fn prune(&self) {
        let Ok(folder) = fs::read_dir(&self.folder) else { return };
        let mut entries = folder
            .flatten()
            .filter(|entry| entry.path().extension().is_some_and(|extension| extension == "cwasm"))
            .filter_map(|entry| {
                entry.metadata().ok().map(|metadata| (metadata.modified().ok(), metadata.len(), entry.path()))
            })
            .collect::<Vec<_>>();
        entries.sort();
        let mut total = entries.iter().map(|(_, bytes, _)| bytes).sum::<u64>();
        for (_, bytes, path) in entries {
            if total <= FOLDER_BYTES_MAX {
                return;
            }
            total -= bytes;
            let _ = fs::remove_file(path);
        }
    }
}

/// Compiled code whose origin and digest were checked.
struct Verified<'a>(&'a [u8]);

fn deserialize(engine: &Engine, code: &Verified<'_>) -> wasmtime::Result<Component> {
    // SAFETY: the bytes are what `Component::serialize` gave to a process of this host's user: they were in a file that only this
    // user can write, in a folder of the same kind, and their digest, which covers the engine's version and settings, was that of
    // the file's header. They are in our memory, so nothing changes them between the check and this call.
    unsafe { Component::deserialize(engine, code.0) }
}

/// Version and settings in one value: what differs in them can't share compiled code.
fn engine_digest(engine: &Engine) -> [u8; 32] {
    struct Digesting(Sha256);
    impl Hasher for Digesting {
        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }
        fn finish(&self) -> u64 {
            0
        }
    }
    let mut digesting = Digesting(Sha256::new_with_prefix(MAGIC));
    engine.precompile_compatibility_hash().hash(&mut digesting);
    digesting.0.finalize().into()
}

/// Makes the folder one that only its owner can use; gives the user that this process writes as.
fn open_folder(folder: &Path) -> io::Result<u32> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let user = tempfile::Builder::new().prefix(".new-").tempfile_in(folder)?.as_file().metadata()?.uid();
    let metadata = fs::metadata(folder)?;
    own(&metadata, user)?;
    if metadata.permissions().mode() & 0o077 != 0 {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
    }
    Ok(user)
}

/// Whether something belongs to the user that this process writes as.
fn own(metadata: &fs::Metadata, user: u32) -> io::Result<()> {
    let owner = metadata.uid();
    if owner == user {
        return Ok(());
    }
    Err(invalid(format!("it belongs to user {owner}, expected {user}")))
}

/// The code of an entry, or nothing where there is none.
fn read_entry(path: &Path, key: &[u8; 32], user: u32) -> io::Result<Option<Vec<u8>>> {
    let mut file = match OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let metadata = file.metadata()?;
    own(&metadata, user)?;
    if !metadata.is_file() || metadata.permissions().mode() & 0o022 != 0 {
        return Err(invalid("it isn't a plain file that only its owner can write"));
    }
    let mut header = [0; HEADER_BYTES];
    file.read_exact(&mut header).map_err(|_| invalid("it is cut short"))?;
    let (magic, rest) = header.split_at(MAGIC.len());
    let (stored_key, digest) = rest.split_at(32);
    if magic != MAGIC || stored_key != key {
        return Err(invalid("it is of another plugin, engine or format"));
    }
    let mut code = Vec::with_capacity(metadata.len() as usize);
    file.read_to_end(&mut code)?;
    if digest != digest_of(key, &code) {
        return Err(invalid("its digest isn't that of its content"));
    }
    Ok(Some(code))
}

/// Writes an entry beside its place and moves it there, so that no one ever reads half of one.
fn write_entry(folder: &Path, path: &Path, key: &[u8; 32], code: &[u8]) -> io::Result<()> {
    // Temporary files are made with the mode 0600.
    let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(folder)?;
    file.write_all(MAGIC)?;
    file.write_all(key)?;
    file.write_all(&digest_of(key, code))?;
    file.write_all(code)?;
    file.as_file().sync_data()?;
    if path.is_dir() {
        fs::remove_dir_all(path)?;
    }
    file.persist(path)?;
    Ok(())
}

fn digest_of(key: &[u8; 32], code: &[u8]) -> [u8; 32] {
    Sha256::new_with_prefix(MAGIC).chain_update(key).chain_update(code).finalize().into()
}

fn invalid(message: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message.into())
}

/// Lower-case hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::super::load::tests::component;
    use super::*;

    /// A cache with one entry, what it is of, and where it is.
    struct Fixture {
        folder: tempfile::TempDir,
        engine: Engine,
        cache: Cache,
        bytes: Vec<u8>,
        entry: PathBuf,
    }

    impl Fixture {
        fn new() -> Self {
            let (folder, engine) = (tempfile::tempdir().unwrap(), Engine::default());
            let cache = Cache::open(folder.path().join("a/b"), &engine).unwrap();
            let bytes = component("batch-plugin");
            cache.component(&engine, &bytes).unwrap();
            let entry = cache.folder.join(format!("{}.cwasm", hex(&cache.key(&bytes))));
            Self { folder, engine, cache, bytes, entry }
        }

        fn read(&self) -> io::Result<Option<Vec<u8>>> {
            read_entry(&self.entry, &self.cache.key(&self.bytes), self.cache.user)
        }

        /// An entry that was tampered with is refused for this reason, and replaced when it is needed.
        fn check_replaced(&self, reason: &str) {
            let good = self.bytes.clone();
            assert_eq!(self.read().unwrap_err().to_string(), reason);
            self.cache.component(&self.engine, &good).unwrap();
            assert!(self.read().unwrap().is_some(), "the entry was replaced");
            assert_eq!(fs::symlink_metadata(&self.entry).unwrap().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn an_entry_is_found_again() {
        let fixture = Fixture::new();
        assert!(fixture.read().unwrap().is_some());
        assert_eq!(fs::metadata(&fixture.cache.folder).unwrap().mode() & 0o777, 0o700);
        assert_eq!(fs::metadata(&fixture.entry).unwrap().mode() & 0o777, 0o600);
        let written = fs::metadata(&fixture.entry).unwrap().ino();
        fixture.cache.component(&fixture.engine, &fixture.bytes).unwrap();
        assert_eq!(fs::metadata(&fixture.entry).unwrap().ino(), written, "it was read, not written again");
        assert_eq!(fs::read_dir(&fixture.cache.folder).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn damage_anywhere_is_noticed() {
        let fixture = Fixture::new();
        let good = fs::read(&fixture.entry).unwrap();
        for (at, reason) in [
            (0, "it is of another plugin, engine or format"),
            (20, "it is of another plugin, engine or format"),
            (50, "its digest isn't that of its content"),
            (HEADER_BYTES + 100, "its digest isn't that of its content"),
            (good.len() - 1, "its digest isn't that of its content"),
        ] {
            let mut damaged = good.clone();
            damaged[at] ^= 1;
            fs::write(&fixture.entry, &damaged).unwrap();
            fixture.check_replaced(reason);
        }
    }

    #[test]
    fn a_truncated_entry_is_noticed() {
        let fixture = Fixture::new();
        let good = fs::read(&fixture.entry).unwrap();
        for (length, reason) in [
            (0, "it is cut short"),
            (HEADER_BYTES - 1, "it is cut short"),
            (HEADER_BYTES, "its digest isn't that of its content"),
            (good.len() - 1, "its digest isn't that of its content"),
        ] {
            fs::write(&fixture.entry, &good[..length]).unwrap();
            fixture.check_replaced(reason);
        }
    }

    #[test]
    fn an_entry_of_another_plugin_is_foreign() {
        let fixture = Fixture::new();
        let other = component("plugin");
        fixture.cache.component(&fixture.engine, &other).unwrap();
        let path = fixture.cache.folder.join(format!("{}.cwasm", hex(&fixture.cache.key(&other))));
        fs::copy(path, &fixture.entry).unwrap();
        fixture.check_replaced("it is of another plugin, engine or format");
    }

    #[test]
    fn an_engine_with_other_settings_does_not_share_entries() {
        let fixture = Fixture::new();
        let engine = Engine::new(wasmtime::Config::new().epoch_interruption(true)).unwrap();
        let other = Cache::open(fixture.cache.folder.clone(), &engine).unwrap();
        assert_ne!(other.key(&fixture.bytes), fixture.cache.key(&fixture.bytes));
    }

    #[test]
    fn what_others_can_write_is_not_read() {
        let fixture = Fixture::new();
        fs::set_permissions(&fixture.entry, fs::Permissions::from_mode(0o622)).unwrap();
        fixture.check_replaced("it isn't a plain file that only its owner can write");
        assert!(own(&fs::metadata(&fixture.entry).unwrap(), fixture.cache.user + 1).is_err());

        // The content would do, but a link may come to lead elsewhere.
        let elsewhere = fixture.folder.path().join("elsewhere");
        fs::rename(&fixture.entry, &elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &fixture.entry).unwrap();
        assert!(fixture.read().is_err());
        fixture.cache.component(&fixture.engine, &fixture.bytes).unwrap();
        assert!(fs::symlink_metadata(&fixture.entry).unwrap().is_file(), "the link was replaced");
    }

    #[test]
    fn a_folder_that_is_open_to_others_is_closed() {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
        Cache::open(folder.path().to_owned(), &Engine::default()).unwrap();
        assert_eq!(fs::metadata(folder.path()).unwrap().mode() & 0o777, 0o700);
    }
}
