//! `midplane plugin inspect`: what a file is to a host, without one. Compiles it and asks it to describe itself; binds it to
//! nothing.

use std::fmt::Display;
use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::super::topic::Output;
use super::super::{ConfigArgs, Exit, Failure, check};
use crate::config;
use crate::config::model::Config;
use crate::config::public_key::{PublicKey, key_id};
use crate::control::plugins::{self, File, Refusal, Signature, Version};
use crate::control::signature;
use crate::data::plugin::{Plugin, Runtime, RuntimeOptions};
use crate::digest;

/// `midplane plugin inspect`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  midplane plugin inspect target/plugin/mask.wasm
  midplane plugin inspect mask       mask.wasm of the config's plugin directory

Exit code 3 says that no host would load it, and why.")]
pub(super) struct InspectArgs {
    /// A file, or the name of a plugin in the plugin directory
    #[arg(value_name = "FILE|NAME")]
    plugin: PathBuf,

    #[command(flatten)]
    config: ConfigArgs,

    /// How the result is written
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// What is known of a file.
#[derive(Debug, Serialize)]
struct Inspected {
    name: String,
    file: PathBuf,
    sha256: String,
    bytes: usize,
    signature: String,
    /// None for a file that is refused.
    plugin: Option<Described>,
    refused: Option<Refused>,
}

#[derive(Debug, Serialize)]
struct Described {
    interface: &'static str,
    ports: Vec<String>,
    imports: Vec<String>,
    config_schema: Option<serde_json::Value>,
}

#[derive(Debug, Serialize)]
struct Refused {
    error: String,
    hint: Option<String>,
}

/// Where a plugin is, and what a host would hold it against.
struct Subject {
    name: String,
    file: PathBuf,
    /// None for a file that is named by its path.
    config: Option<Config>,
    runtime: Runtime,
}

pub(super) fn run(args: &InspectArgs) -> Result<Exit, Failure> {
    let subject = subject(args)?;
    let unreadable =
        |reason: &dyn Display| Failure::failed(format!("`{}` can't be read: {reason}", subject.file.display()));
    let version = match plugins::read_file(&subject.file) {
        File::Version(version) => version,
        File::Unreadable(reason) => return Err(unreadable(&reason)),
        file @ (File::TooLarge(_) | File::Unused) => {
            return match file.version(&subject.name) {
                Some(Err(refusal)) => Err(Failure::refused(refusal)),
                Some(Ok(_)) | None => Err(unreadable(&"nothing is there")),
            };
        }
    };
    let inspected = inspect(&subject, &version);
    let text = match args.output {
        Output::Text => inspected.to_text(),
        Output::Json => serde_json::to_string_pretty(&inspected).map_err(Failure::failed)? + "\n",
    };
    std::io::stdout().write_all(text.as_bytes())?;
    match (&inspected.refused, args.output) {
        (None, _) => Ok(Exit::Done),
        (Some(_), Output::Json) => Ok(Exit::Refused),
        (Some(refused), Output::Text) => Err(Failure::refused(refused.to_text())),
    }
}

/// Whatever looks like a path is one.
fn subject(args: &InspectArgs) -> Result<Subject, Failure> {
    let is_path = args.plugin.extension().is_some_and(|extension| extension == "wasm")
        || args.plugin.components().count() > 1
        || args.plugin.is_file();
    if is_path {
        let runtime = Runtime::new(RuntimeOptions::default()).map_err(Failure::failed)?;
        let name = args.plugin.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        return Ok(Subject { name, file: args.plugin.clone(), config: None, runtime });
    }
    let config = args.config.load()?.config;
    let name = args.plugin.to_string_lossy().into_owned();
    let file = config.plugins.directory.join(format!("{name}.wasm"));
    let runtime = check::runtime(&config)?;
    Ok(Subject { name, file, config: Some(config), runtime })
}

fn inspect(subject: &Subject, version: &Version) -> Inspected {
    let Subject { name, file, config, runtime } = subject;
    // Only what the config knows of has settings to be held against.
    let loaded = match config.as_ref().filter(|config| config.plugin.contains_key(name)) {
        Some(config) => plugins::load_version(config, runtime, name, version),
        None => runtime.load(name, &version.bytes, config::default_limits()).map_err(Refusal::from),
    };
    let keys = config.as_ref().map_or(&[][..], |config| &config.plugins.public_keys);
    Inspected {
        name: name.clone(),
        file: file.clone(),
        sha256: digest::hex(&version.sha256),
        bytes: version.bytes.len(),
        signature: signature(version, keys),
        plugin: loaded.as_ref().ok().map(|plugin| describe(plugin)),
        refused: loaded.as_ref().err().map(|error| Refused { error: error.to_string(), hint: error.hint() }),
    }
}

fn describe(plugin: &Plugin) -> Described {
    Described {
        interface: plugin.kind.as_str(),
        ports: plugin.ports.clone(),
        imports: plugin.imports.clone(),
        config_schema: plugin.config_schema.clone(),
    }
}

/// Whose signature stands beside the file, and whether the config trusts it.
fn signature(version: &Version, keys: &[PublicKey]) -> String {
    let text = match &version.signature {
        Signature::Absent => return "none".to_owned(),
        Signature::Unreadable(reason) => return format!("can't be read: {reason}"),
        Signature::Text(text) => text,
    };
    let Some(key) = text.lines().nth(1).and_then(key_id) else { return "not minisign's".to_owned() };
    if keys.is_empty() {
        return format!("with key {key}, not checked");
    }
    match signature::verify(keys, &version.bytes, text) {
        Ok(()) => format!("with key {key}, which is trusted"),
        Err(_) => format!("with key {key}, refused"),
    }
}

impl Refused {
    fn to_text(&self) -> String {
        match &self.hint {
            Some(hint) => format!("{}\n  hint: {hint}", self.error),
            None => self.error.clone(),
        }
    }
}

impl Inspected {
    fn to_text(&self) -> String {
        let mut lines = Vec::new();
        let mut field = |name: &str, value: &str| lines.push(format!("{name:<11}{value}").trim_end().to_owned());
        field("plugin", &self.name);
        field("file", &self.file.display().to_string());
        field("version", &self.sha256);
        field("size", &format!("{} bytes", self.bytes));
        field("signature", &self.signature);
        if let Some(plugin) = &self.plugin {
            field("interface", plugin.interface);
            field("ports", &or_none(&plugin.ports));
            let imports =
                if plugin.imports.is_empty() { "none".to_owned() } else { plugin.imports.join("\n           ") };
            field("imports", &imports);
            let schema =
                plugin.config_schema.as_ref().map(|schema| format!("{schema:#}").replace('\n', "\n           "));
            field("config", schema.as_deref().unwrap_or("no schema: it takes any"));
        }
        lines.join("\n") + "\n"
    }
}

fn or_none(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_somebodys() {
        // Made with minisign, for the bytes `test`.
        const KEY: &str = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";
        const SIGNATURE: &str = "untrusted comment: signature from minisign secret key
RUQf6LRCGA9i559r3g7V1qNyJDApGip8MfqcadIgT9CuhV3EMhHoN1mGTkUidF/z7SrlQgXdy8ofjb7bNJJylDOocrCo8KLzZwo=
trusted comment: timestamp:1633700835\tfile:test\tprehashed
wLMDjy9FLAuxZ3q4NlEvkgtyhrr0gtTu6KC4KBJdITbbOeAi1zBIYo0v4iTgt8jJpIidRJnp94ABQkJAgAooBQ==
";
        let keys = [PublicKey::parse(KEY).expect("a key")];
        let version = |bytes: &[u8], text| Version::new(bytes, text);
        assert_eq!(signature(&version(b"test", None), &keys), "none");
        assert_eq!(signature(&version(b"test", Some("mine")), &keys), "not minisign's");
        let signed = version(b"test", Some(SIGNATURE));
        assert_eq!(signature(&signed, &keys), "with key E7620F1842B4E81F, which is trusted");
        assert_eq!(signature(&signed, &[]), "with key E7620F1842B4E81F, not checked");
        let other = version(b"best", Some(SIGNATURE));
        assert_eq!(signature(&other, &keys), "with key E7620F1842B4E81F, refused");
    }

    #[test]
    fn a_plugin_is_shown_whole() {
        let described = Described {
            interface: "batch-processor",
            ports: vec!["default".to_owned(), "alert".to_owned()],
            imports: vec!["midplane:plugin/log@0.1.0".to_owned(), "midplane:plugin/results@0.1.0".to_owned()],
            config_schema: Some(
                serde_json::json!({ "type": "object", "properties": { "threshold": { "type": "number" } } }),
            ),
        };
        let mut inspected = Inspected {
            name: "fraud-score".to_owned(),
            file: "plugins/fraud-score.wasm".into(),
            sha256: "9f".repeat(32),
            bytes: 18_432,
            signature: "none".to_owned(),
            plugin: Some(described),
            refused: None,
        };
        insta::assert_snapshot!("plugin", inspected.to_text());
        inspected.plugin =
            Some(Described { interface: "processor", ports: Vec::new(), imports: Vec::new(), config_schema: None });
        insta::assert_snapshot!("plugin-without-anything", inspected.to_text());
    }
}
