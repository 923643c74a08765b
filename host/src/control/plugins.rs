//! The plugin directory, looked at once for a config: [`read`] takes the bytes and the signatures of the plugins that routes
//! name, [`load_version`] makes a plugin of a version, wherever it is from. What that means for the config is said by
//! [`crate::config`]; which version runs is for [`super::decisions`]. Nothing here knows topics.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use super::signature;
use crate::config::model::Config;
use crate::config::plugins::{self, Available, Found};
use crate::data::plugin::{LoadError, PLUGIN_BYTES_MAX, Plugin, Reason, Runtime};
use crate::digest;

/// Of a signature's file, which has four short lines.
const SIGNATURE_BYTES_MAX: u64 = 16 << 10;

/// What a plugin directory has for a config.
#[derive(Debug, Default)]
pub struct Directory {
    /// What is there, to be held against the config.
    pub available: Available,
    /// The plugins that routes name, and that can be run.
    pub plugins: BTreeMap<String, Arc<Plugin>>,
}

/// The files of a plugin directory, as they were at one moment. Two of them are equal if nothing changed that matters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Contents {
    /// Each `*.wasm` that is there, by the plugin's name.
    pub files: BTreeMap<String, File>,
    /// Why the directory could not be read.
    pub unreadable: Option<String>,
}

/// A file of the plugin directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum File {
    /// What it has.
    Version(Version),
    /// More bytes than are ever loaded: nobody read them.
    TooLarge(usize),
    /// Why it could not be read.
    Unreadable(String),
    /// No route names it, so that nobody looked.
    Unused,
}

/// A version of a plugin, with what it needs to be trusted.
#[derive(Clone, PartialEq, Eq)]
pub struct Version {
    /// Of the bytes.
    pub sha256: digest::Bytes,
    /// As they are in the file.
    pub bytes: Arc<[u8]>,
    /// What stands beside it.
    pub signature: Signature,
}

/// What stands beside a plugin as its signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signature {
    /// Nothing.
    Absent,
    /// The file's text.
    Text(Arc<str>),
    /// Why it could not be read.
    Unreadable(String),
}

impl std::fmt::Debug for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { sha256, bytes, signature } = self;
        let mut shown = f.debug_struct("Version");
        shown
            .field("sha256", &digest::short(sha256))
            .field("bytes", &bytes.len())
            .field("signature", signature)
            .finish()
    }
}

impl Version {
    /// A version, with the text of its signature if it has one.
    pub fn new(bytes: impl Into<Arc<[u8]>>, signature: Option<&str>) -> Self {
        let bytes = bytes.into();
        let signature = signature.map_or(Signature::Absent, |text| Signature::Text(text.into()));
        Self { sha256: digest::of(&bytes), bytes, signature }
    }
}

/// Why a version of a plugin can't be run.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// Its file can't be read.
    #[error("plugin `{plugin}` can't be read: {reason}")]
    Unreadable {
        /// Its name.
        plugin: String,
        /// What the system said.
        reason: String,
    },
    /// The config pins another one.
    #[error(
        "plugin `{plugin}` has version `{}`, and the config pins it to `{}`",
        digest::short(found),
        digest::short(pin)
    )]
    Excluded {
        /// Its name.
        plugin: String,
        /// The version.
        found: digest::Bytes,
        /// `sha256` in the config.
        pin: digest::Bytes,
    },
    /// Nobody who is trusted signed it.
    #[error("plugin `{plugin}` {reason}")]
    Signature {
        /// Its name.
        plugin: String,
        /// What is wrong.
        reason: signature::Reason,
    },
    /// It is no plugin for this host.
    #[error(transparent)]
    Load(#[from] LoadError),
}

impl Refusal {
    /// What to do, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unreadable { .. } => None,
            Self::Excluded { .. } => Some("put the pinned version back, or pin this one".to_owned()),
            Self::Signature { plugin, reason } => Some(reason.hint(plugin)),
            Self::Load(error) => error.hint(),
        }
    }
}

impl From<&Refusal> for Found {
    fn from(refusal: &Refusal) -> Self {
        match refusal {
            Refusal::Excluded { found, .. } => Self::Excluded(*found),
            _ => Self::Refused { message: refusal.to_string(), hint: refusal.hint() },
        }
    }
}

impl File {
    /// What it has, or why that is nothing that could be run; for a file that nobody looked at, neither.
    pub fn version(&self, plugin: &str) -> Option<Result<&Version, Refusal>> {
        let plugin = plugin.to_owned();
        match self {
            Self::Version(version) => Some(Ok(version)),
            Self::TooLarge(bytes) => {
                let reason = Reason::TooLarge { bytes: *bytes };
                Some(Err(LoadError { plugin, reason }.into()))
            }
            Self::Unreadable(reason) => Some(Err(Refusal::Unreadable { plugin, reason: reason.clone() })),
            Self::Unused => None,
        }
    }
}

/// Reads the plugins that the config's routes name, and lists the others. Loads none.
pub fn read(config: &Config) -> Contents {
    let named: BTreeSet<&str> =
        config.routes.iter().flat_map(|route| &route.through).map(|stage| stage.plugin.as_str()).collect();
    let folder = &config.plugins.directory;
    let names = match plugins::list(folder) {
        Ok(names) => names,
        Err(reason) => return Contents { unreadable: Some(reason), ..Contents::default() },
    };
    let file = |name: &String| if named.contains(name.as_str()) { read_one(folder, name) } else { File::Unused };
    let files = names.into_iter().map(|name| (name.clone(), file(&name))).collect();
    Contents { files, unreadable: None }
}

fn read_one(folder: &Path, name: &str) -> File {
    read_file(&folder.join(format!("{name}.wasm")))
}

/// Reads a plugin's file, wherever it is, and what stands beside it.
pub fn read_file(path: &Path) -> File {
    match read_bounded(path, PLUGIN_BYTES_MAX as u64) {
        Ok(Ok(bytes)) => {
            let signature = read_signature(&path.with_added_extension(&signature::SUFFIX[1..]));
            File::Version(Version { sha256: digest::of(&bytes), bytes: bytes.into(), signature })
        }
        Ok(Err(bytes)) => File::TooLarge(usize::try_from(bytes).unwrap_or(usize::MAX)),
        Err(error) => File::Unreadable(error.kind().to_string()),
    }
}

fn read_signature(path: &Path) -> Signature {
    match read_bounded(path, SIGNATURE_BYTES_MAX) {
        // What is no text, or long, is no signature either; it is refused as such if anybody asks for one.
        Ok(Ok(bytes)) => Signature::Text(String::from_utf8_lossy(&bytes).into()),
        Ok(Err(_)) => Signature::Text("".into()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Signature::Absent,
        Err(error) => Signature::Unreadable(error.kind().to_string()),
    }
}

/// A file's bytes; only how many there are, where there are more than so many.
fn read_bounded(path: &Path, bytes_max: u64) -> std::io::Result<Result<Vec<u8>, u64>> {
    let file = std::fs::File::open(path)?;
    let size = file.metadata()?.len();
    if size > bytes_max {
        return Ok(Err(size));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
    // It may be growing.
    file.take(bytes_max + 1).read_to_end(&mut bytes)?;
    let size = bytes.len() as u64;
    Ok(if size > bytes_max { Err(size) } else { Ok(bytes) })
}

/// Makes a plugin of a version: held against the config's pin and keys before anything of it is compiled, which may take
/// seconds.
///
/// # Errors
/// When it can't be run here.
pub fn load_version(config: &Config, runtime: &Runtime, name: &str, version: &Version) -> Result<Arc<Plugin>, Refusal> {
    admit(config, name, version)?;
    Ok(runtime.load(name, &version.bytes, config.plugin[name].limits)?)
}

/// Holds a version against the config's pin and keys.
///
/// # Errors
/// When the config doesn't admit it.
pub fn admit(config: &Config, name: &str, version: &Version) -> Result<(), Refusal> {
    if let Some(pin) = config.plugin[name].sha256.filter(|pin| *pin != version.sha256) {
        return Err(Refusal::Excluded { plugin: name.to_owned(), found: version.sha256, pin });
    }
    check_signature(config, version).map_err(|reason| Refusal::Signature { plugin: name.to_owned(), reason })
}

fn check_signature(config: &Config, version: &Version) -> Result<(), signature::Reason> {
    let keys = &config.plugins.public_keys;
    match &version.signature {
        _ if keys.is_empty() => Ok(()),
        Signature::Absent => Err(signature::Reason::Unsigned),
        Signature::Unreadable(reason) => Err(signature::Reason::Unreadable(reason.clone())),
        Signature::Text(text) => signature::verify(keys, &version.bytes, text),
    }
}

/// Loads the directory's versions of the plugins that the config's routes name.
pub fn load(config: &Config, runtime: &Runtime) -> Directory {
    let contents = read(config);
    let mut directory = Directory::default();
    directory.available.unreadable = contents.unreadable;
    for (name, file) in contents.files {
        let loaded = file.version(&name).map(|version| load_version(config, runtime, &name, version?));
        let found = match loaded {
            Some(Ok(plugin)) => {
                let found = Found::from(&*plugin);
                directory.plugins.insert(name.clone(), plugin);
                found
            }
            Some(Err(refusal)) => Found::from(&refusal),
            None => Found::Unused,
        };
        directory.available.plugins.insert(name, found);
    }
    directory
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Loaded, load_stored};
    use crate::control::signature::tests::{KEY, SIGNATURE};
    use crate::data::plugin::RuntimeOptions;

    /// A config of one route through `mask`, in a folder whose `plugins` are the plugin directory.
    fn loaded(folder: &tempfile::TempDir, more: &str) -> Loaded {
        let text = format!("[routes.a]\nfrom = 'in'\nto = 'out'\nthrough = 'mask'\n{more}");
        let path = folder.path().join("midplane.toml");
        load_stored(&path, vec![(path.clone(), text)]).expect("valid")
    }

    fn config(folder: &tempfile::TempDir, more: &str) -> Config {
        loaded(folder, more).config
    }

    fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::create_dir(folder.path().join("plugins")).expect("a folder");
        for (name, bytes) in files {
            std::fs::write(folder.path().join("plugins").join(name), bytes).expect("a file");
        }
        folder
    }

    #[test]
    fn only_what_routes_name_is_read() {
        let files: &[(&str, &[u8])] =
            &[("mask.wasm", b"test"), ("other.wasm", b"test"), ("mask.wasm.minisig", b"by me")];
        let folder = folder(files);
        let contents = read(&config(&folder, ""));
        let expected = [
            ("mask".to_owned(), File::Version(Version::new(b"test".as_slice(), Some("by me")))),
            ("other".to_owned(), File::Unused),
        ];
        assert_eq!(contents, Contents { files: expected.into(), unreadable: None });
        assert_eq!(read(&config(&folder, "")), contents, "nothing changed");
        std::fs::remove_file(folder.path().join("plugins/mask.wasm.minisig")).expect("it is there");
        assert_ne!(read(&config(&folder, "")), contents, "a signature matters");
    }

    #[test]
    fn what_is_too_large_is_not_read() {
        let folder = folder(&[]);
        let size = PLUGIN_BYTES_MAX as u64 + 1;
        let file = std::fs::File::create(folder.path().join("plugins/mask.wasm")).expect("a file");
        file.set_len(size).expect("a sparse file");
        let contents = read(&config(&folder, ""));
        let refusal = contents.files["mask"].version("mask").expect("named").expect_err("too large");
        assert_eq!(refusal.to_string(), format!("plugin `mask` has {size} bytes, expected at most {PLUGIN_BYTES_MAX}"));
    }

    #[test]
    fn a_directory_that_is_missing_says_so() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        assert_eq!(read(&config(&folder, "")).unreadable.as_deref(), Some("no such file"));
    }

    #[test]
    fn a_pin_that_excludes_what_is_there_is_said_where_it_stands() {
        let folder = folder(&[("mask.wasm", b"test")]);
        let pin = "ab".repeat(32);
        let loaded = loaded(&folder, &format!("[plugin.mask]\nsha256 = '{pin}'\n"));
        let runtime = Runtime::new(RuntimeOptions::default()).expect("a runtime");
        let problems = loaded.against_plugins(&load(&loaded.config, &runtime).available);
        let messages: Vec<_> = problems.list.iter().map(|problem| problem.message.as_str()).collect();
        assert_eq!(messages, [format!("`{pin}` is not the version of plugin `mask` that is there")]);
        assert_eq!(problems.list[0].expected, Some(format!("`{}`", digest::hex(&digest::of(b"test")))));
        assert_eq!(problems.position(problems.list[0].at.expect("a place")).0, 6);
    }

    #[test]
    fn a_version_is_trusted_before_it_is_compiled() {
        let folder = folder(&[]);
        let runtime = Runtime::new(RuntimeOptions::default()).expect("a runtime");
        let keys = format!("[plugins]\npublic_keys = ['{KEY}']\n");
        let check = |more: &str, bytes: &[u8], signature: Option<&str>, expected: &str| {
            let version = Version::new(bytes, signature);
            let refusal = load_version(&config(&folder, more), &runtime, "mask", &version).expect_err("no plugin");
            assert!(refusal.to_string().contains(expected), "{refusal}");
        };
        check("", b"test", None, "is not WebAssembly");
        check(&keys, b"test", Some(SIGNATURE), "is not WebAssembly");
        check(&keys, b"test", None, "plugin `mask` is not signed");
        check(&keys, b"best", Some(SIGNATURE), "plugin `mask` is not what was signed with key `E7620F1842B4E81F`");
        check(&keys, b"test", Some("me"), "plugin `mask` has a signature that is not minisign's");
        let pin = format!("[plugin.mask]\nsha256 = '{}'\n", "ab".repeat(32));
        check(&pin, b"test", None, "has version `9f86d081`, and the config pins it to `abababab`");
        let unreadable = Version { signature: Signature::Unreadable("no".to_owned()), ..Version::new(*b"test", None) };
        let refusal = load_version(&config(&folder, &keys), &runtime, "mask", &unreadable).expect_err("no signature");
        assert!(refusal.to_string().contains("has a signature that can't be read: no"), "{refusal}");
    }
}
