//! From bytes to a plugin: recognised, verified, compiled, described. Whatever isn't one is refused, with what it is instead and
//! what to do.

use std::borrow::Cow;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use wasmtime::component::Component;
use wit_component::{ComponentEncoder, DecodedWasm};

use super::bindings::{columnar, typed};
use super::instance::{Exports, Instance, Prepared, Spec};
use super::runtime::{Job, Shared};
use super::state::State;
use super::ticker::Ticker;
use super::verify;
use crate::config::model::{Grants, Limits};
use crate::data::failure::{Failure, Kind};

/// Of a plugin's file. A Python plugin has 18 MB.
pub const PLUGIN_BYTES_MAX: usize = 128 << 20;
/// That a plugin describes.
const PORTS_MAX: usize = 1000;

/// A plugin that this host can run.
pub struct Plugin {
    /// As the plugin directory names it.
    pub name: Arc<str>,
    /// Of the bytes as they were loaded: its version.
    pub sha256: [u8; 32],
    /// How many bytes those were.
    pub size: usize,
    /// Every port that it may name, in the order that [`super::verdicts::Output::port`] counts in.
    pub ports: Vec<String>,
    /// A JSON Schema for its config.
    pub config_schema: Option<serde_json::Value>,
    /// Which of the two interfaces serves.
    pub kind: PluginKind,
    /// What it imports, each interface with its version.
    pub imports: Vec<String>,
    pre: Pre,
    pub(super) shared: Arc<Shared>,
}

/// The interface that a plugin is called through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PluginKind {
    /// `processor`
    Typed,
    /// `batch-processor`
    Columnar,
}

/// A component with its imports resolved.
pub(super) enum Pre {
    Typed(typed::TypedPre<State>),
    Columnar(columnar::ColumnarPre<State>),
}

impl std::fmt::Debug for Plugin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plugin").field("name", &self.name).field("kind", &self.kind).finish_non_exhaustive()
    }
}

impl PluginKind {
    /// The interface's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Typed => "processor",
            Self::Columnar => "batch-processor",
        }
    }
}

impl Plugin {
    /// Binds it to a config and to ports. Nothing of the plugin runs yet.
    pub fn prepare(self: &Arc<Self>, spec: Spec) -> Arc<Prepared> {
        Arc::new(Prepared::new(Arc::clone(self), spec))
    }

    pub(super) fn engine(&self) -> &wasmtime::Engine {
        &self.shared.engine
    }

    pub(super) fn ticker(&self) -> &Ticker {
        &self.shared.ticker
    }

    pub(super) fn pre(&self) -> &Pre {
        &self.pre
    }

    pub(super) fn in_background(&self, job: Job) {
        self.shared.in_background(job);
    }
}

/// Why a file is no plugin for this host.
#[derive(Debug, thiserror::Error)]
#[error("plugin `{plugin}` {reason}")]
pub struct LoadError {
    /// Its name.
    pub plugin: String,
    /// What is wrong.
    pub reason: Reason,
}

impl LoadError {
    /// What to do.
    pub fn hint(&self) -> Option<String> {
        self.reason.hint()
    }
}

/// What is wrong with a file that should be a plugin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// Larger than is ever loaded.
    #[error("has {bytes} bytes, expected at most {PLUGIN_BYTES_MAX}")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// Something else altogether.
    #[error("is not WebAssembly: it is {found}")]
    NotWasm {
        /// What it looks like.
        found: String,
    },
    /// A module or a component that ends before its last section does.
    #[error("is cut short: its file ends before its last section does")]
    CutShort,
    /// A core module that says nothing of interfaces.
    #[error("is a core module without the types of its interfaces, expected a component")]
    PlainModule,
    /// A core module that can't be made a component.
    #[error("is a core module that can't be encoded as a component: {message}")]
    Encoding {
        /// What the encoder says.
        message: String,
    },
    /// Damaged, or of a proposal that isn't supported.
    #[error("is not a valid component: {message}")]
    Invalid {
        /// What the parser or the compiler says.
        message: String,
    },
    /// No interface of ours at all.
    #[error("exports no plugin interface, expected `{expected}` or its columnar twin (it exports: {})", or_nothing(.exports))]
    NoInterface {
        /// What it exports.
        exports: Vec<String>,
        /// The typed interface.
        expected: String,
    },
    /// An interface of ours of another version.
    #[error("{does} `{found}`, expected `{expected}`")]
    Version {
        /// `exports` or `imports`
        does: &'static str,
        /// With its version.
        found: String,
        /// The one that this host speaks.
        expected: String,
    },
    /// The interface lacks a function.
    #[error("exports `{interface}` without the function `{function}`")]
    MissingFunction {
        /// With its version.
        interface: String,
        /// Its name.
        function: String,
    },
    /// A type differs.
    #[error("differs at {path}: it has {found}, expected {expected}")]
    Type {
        /// From the interface down to the type.
        path: String,
        /// What this host has.
        expected: String,
        /// What the plugin has.
        found: String,
    },
    /// It needs what no plugin gets.
    #[error("imports `{import}`, which this host doesn't provide")]
    UnknownImport {
        /// The interface or function.
        import: String,
    },
    /// It needs another form of what plugins get.
    #[error("imports what this host doesn't provide: {message}")]
    Unlinked {
        /// What the linker says.
        message: String,
    },
    /// It doesn't start.
    #[error("can't be started ({}): {}", .0.kind, .0.message)]
    Start(Failure),
    /// `describe` doesn't answer.
    #[error("failed in `describe` ({}): {}", .0.kind, .0.message)]
    Describe(Failure),
    /// `describe` answers nonsense.
    #[error("describes itself wrongly: {message}")]
    Description {
        /// What is wrong with it.
        message: String,
    },
}

fn or_nothing(names: &[String]) -> Cow<'_, str> {
    if names.is_empty() { Cow::Borrowed("nothing") } else { Cow::Owned(names.join(", ")) }
}

impl Reason {
    /// What to do.
    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::TooLarge { .. } => {
                "strip debug information: `strip = true` in the cargo profile, or `wasm-tools strip`"
            }
            Self::NotWasm { found } if found.contains("text") => {
                "turn it into a binary: `wasm-tools parse FILE.wat -o FILE.wasm`"
            }
            Self::NotWasm { .. } => {
                "build for a WebAssembly target: `cargo build --release --target wasm32-unknown-unknown`"
            }
            Self::CutShort => "copy it again, whole: to be safe, write it beside its place, and rename it",
            Self::PlainModule => {
                "export the plugin with the SDK's macro (or any wit-bindgen), and don't strip its custom sections; for \
                 other languages: `wasm-tools component embed`, then `wasm-tools component new`"
            }
            Self::Encoding { message } if message.contains("wasi_snapshot_preview1") => {
                "it was built for WASI 0.1: build for `wasm32-unknown-unknown` or `wasm32-wasip2`, or give \
                 `wasm-tools component new` an adapter"
            }
            Self::Encoding { .. } => "build it with the SDK of this host's version",
            Self::Invalid { .. } => "build it again; `wasm-tools validate FILE.wasm` says more",
            Self::NoInterface { exports, .. } if exports.iter().any(|name| name.starts_with("wasi:cli/run")) => {
                "it is a program: make the crate a library (`crate-type = [\"cdylib\"]`) that exports a plugin"
            }
            Self::NoInterface { .. } => "export one of the plugin worlds; the SDK's macro does",
            Self::Version { .. } | Self::MissingFunction { .. } | Self::Type { .. } => {
                "build it against the interfaces of this host: plugin-sdk/wit/plugin.wit"
            }
            Self::UnknownImport { import } if import.starts_with("wasi:http") || import.starts_with("wasi:sockets") => {
                "plugins have no network: enrich events from a topic instead, or build without what needs it"
            }
            Self::UnknownImport { import } if import.starts_with("wasi:") => {
                "plugins have WASI 0.2: cli, clocks, filesystem, io, random, sockets"
            }
            Self::Unlinked { .. } => "build it against WASI 0.2 as it was published",
            Self::UnknownImport { .. } => "a plugin imports `midplane:plugin` and WASI 0.2 alone",
            Self::Start(failure) | Self::Describe(failure) => return hint_of(failure),
            Self::Description { .. } => "ports are distinct names, and the schema is a JSON object",
        };
        Some(hint.to_owned())
    }
}

fn hint_of(failure: &Failure) -> Option<String> {
    match failure.kind {
        Kind::Memory => Some("raise `memory` (or `table`) in the plugin's own table of the config".to_owned()),
        Kind::Transient => Some("nothing is wrong with the plugin: mend the host, and try again".to_owned()),
        _ => None,
    }
}

/// All of the steps, in their order.
pub(super) fn load(shared: &Arc<Shared>, name: &str, bytes: &[u8], limits: Limits) -> Result<Arc<Plugin>, LoadError> {
    let refused = |reason| LoadError { plugin: name.to_owned(), reason };
    let Compiled { kind, imports, pre } = compile(shared, bytes).map_err(refused)?;
    let mut plugin = Plugin {
        name: name.into(),
        sha256: Sha256::digest(bytes).into(),
        size: bytes.len(),
        ports: Vec::new(),
        config_schema: None,
        kind,
        imports,
        pre,
        shared: Arc::clone(shared),
    };
    describe(&mut plugin, limits).map_err(refused)?;
    Ok(Arc::new(plugin))
}

/// What is known of a plugin before it runs.
struct Compiled {
    kind: PluginKind,
    imports: Vec<String>,
    pre: Pre,
}

fn compile(shared: &Shared, bytes: &[u8]) -> Result<Compiled, Reason> {
    let bytes = component_of(bytes)?;
    let invalid = |message| Reason::Invalid { message };
    let (resolve, world) = match wit_component::decode(&bytes).map_err(|error| invalid(format!("{error:#}")))? {
        DecodedWasm::Component(resolve, world) => (resolve, world),
        DecodedWasm::WitPackage(..) => return Err(invalid("it holds interfaces alone, and no code".to_owned())),
    };
    let kind = verify::verify(&resolve, world)?;
    let imports = verify::imports(&resolve, world);
    let component = match &shared.cache {
        Some(cache) => cache.component(&shared.engine, &bytes),
        None => Component::new(&shared.engine, &bytes),
    };
    let refused = |error: wasmtime::Error| invalid(format!("{error:#}"));
    let pre = shared.linker.instantiate_pre(&component.map_err(refused)?);
    let pre = pre.map_err(|error| Reason::Unlinked { message: format!("{error:#}") })?;
    let pre = match kind {
        PluginKind::Typed => typed::TypedPre::new(pre).map(Pre::Typed),
        PluginKind::Columnar => columnar::ColumnarPre::new(pre).map(Pre::Columnar),
    };
    Ok(Compiled { kind, imports, pre: pre.map_err(refused)? })
}

/// The component that the bytes are, or that the core module in them becomes.
fn component_of(bytes: &[u8]) -> Result<Cow<'_, [u8]>, Reason> {
    if bytes.len() > PLUGIN_BYTES_MAX {
        return Err(Reason::TooLarge { bytes: bytes.len() });
    }
    match bytes {
        [0, b'a', b's', b'm', _, _, 0 | 1, 0, sections @ ..] if is_cut_short(sections) => Err(Reason::CutShort),
        [0, b'a', b's', b'm', _, _, 1, 0, ..] => Ok(Cow::Borrowed(bytes)),
        [0, b'a', b's', b'm', _, _, 0, 0, ..] => encode(bytes).map(Cow::Owned),
        _ => Err(Reason::NotWasm { found: looks_like(bytes) }),
    }
}

/// Whether the last section would end behind the end: what a copy looks like that is not done, or never was.
fn is_cut_short(mut sections: &[u8]) -> bool {
    // Each section is a kind, a length, and so many bytes.
    while let [_, rest @ ..] = sections {
        let Some((length, content)) = leb128(rest) else { return true };
        let Some(next) = content.get(length..) else { return true };
        sections = next;
    }
    false
}

/// A number of up to 32 bits as WebAssembly writes it, and what follows.
fn leb128(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut value = 0;
    for (index, byte) in bytes.iter().take(5).enumerate() {
        value |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((value, &bytes[index + 1..]));
        }
    }
    None
}

fn encode(module: &[u8]) -> Result<Vec<u8>, Reason> {
    // The custom section that wit-bindgen leaves in each module that it serves.
    const SECTION: &[u8] = b"component-type";
    if !module.windows(SECTION.len()).any(|window| window == SECTION) {
        return Err(Reason::PlainModule);
    }
    let mut encoder = ComponentEncoder::default();
    let encoded = encoder.module(module).and_then(|encoder| encoder.validate(true).encode());
    encoded.map_err(|error| Reason::Encoding { message: format!("{error:#}") })
}

fn looks_like(bytes: &[u8]) -> String {
    let text = std::str::from_utf8(&bytes[..bytes.len().min(64)]).map(str::trim_start);
    match (bytes, text) {
        ([], _) => "empty".to_owned(),
        ([0, b'a', b's', b'm', ..], _) => "cut short".to_owned(),
        ([0x7f, b'E', b'L', b'F', ..], _) => "a program or library for this machine (ELF)".to_owned(),
        (_, Ok(text)) if text.starts_with("(module") || text.starts_with("(component") || text.starts_with(";;") => {
            "WebAssembly in its text form".to_owned()
        }
        _ => {
            let first = bytes.iter().take(4).map(|byte| format!("{byte:02x}")).collect::<Vec<_>>();
            format!("a file that begins with `{}`, expected `00 61 73 6d`", first.join(" "))
        }
    }
}

/// Asks the plugin for its ports and its schema, in an instance that is thrown away.
fn describe(plugin: &mut Plugin, limits: Limits) -> Result<(), Reason> {
    let spec = Spec {
        config: serde_json::Value::Null,
        bound_ports: Vec::new(),
        limits,
        grants: Grants::default(),
        route: String::new(),
    };
    let rate = plugin.shared.rate(&plugin.name, limits.log_bytes_per_second);
    let mut instance = Instance::start(plugin, &spec, &rate).map_err(Reason::Start)?;
    let described = instance.guarded(|store, exports| match exports {
        Exports::Typed(guest) => {
            let description = guest.midplane_plugin_processor().call_describe(store)?;
            Ok((description.ports, description.config_schema))
        }
        Exports::Columnar(guest) => {
            let description = guest.midplane_plugin_batch_processor().call_describe(store)?;
            Ok((description.ports, description.config_schema))
        }
    });
    let (ports, schema) = described.map_err(Reason::Describe)?;
    check_ports(&ports).map_err(|message| Reason::Description { message })?;
    plugin.config_schema =
        schema.as_deref().map(parse_schema).transpose().map_err(|message| Reason::Description { message })?;
    plugin.ports = ports;
    Ok(())
}

fn check_ports(ports: &[String]) -> Result<(), String> {
    if ports.len() > PORTS_MAX {
        return Err(format!("it has {} ports, expected at most {PORTS_MAX}", ports.len()));
    }
    for (index, port) in ports.iter().enumerate() {
        if port.is_empty() || port.len() > 100 || port.chars().any(char::is_control) {
            return Err(format!("`{}` is no name for a port", port.escape_debug()));
        }
        if ports[..index].contains(port) {
            return Err(format!("it has two ports `{port}`"));
        }
    }
    Ok(())
}

fn parse_schema(text: &str) -> Result<serde_json::Value, String> {
    match serde_json::from_str(text) {
        Ok(schema @ (serde_json::Value::Object(_) | serde_json::Value::Bool(_))) => Ok(schema),
        Ok(_) => Err("its config schema is not a JSON object".to_owned()),
        Err(error) => Err(format!("its config schema is not JSON: {error}")),
    }
}

#[cfg(test)]
pub(super) mod tests;
