//! `midplane plugin inspect`: what a file is to a host, without one. Compiles it and asks it to describe itself; binds it to
//! nothing.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use super::super::topic::Output;
use super::super::{ConfigArgs, Exit, Failure, check};
use crate::config;
use crate::config::model::Limits;
use crate::data::plugin::{LoadError, Plugin, Runtime, RuntimeOptions};
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

/// Where a plugin is, and what it may use.
struct Subject {
    file: PathBuf,
    limits: Limits,
    runtime: Runtime,
}

pub(super) fn run(args: &InspectArgs) -> Result<Exit, Failure> {
    let subject = subject(args)?;
    let bytes = std::fs::read(&subject.file)
        .map_err(|error| Failure::failed(format!("`{}` can't be read: {error}", subject.file.display())))?;
    let name = subject.file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let loaded = subject.runtime.load(&name, &bytes, subject.limits);
    let inspected = Inspected {
        name,
        sha256: digest::hex(&digest::of(&bytes)),
        bytes: bytes.len(),
        signature: signature(&subject.file),
        plugin: loaded.as_ref().ok().map(|plugin| describe(plugin)),
        refused: loaded.as_ref().err().map(refuse),
        file: subject.file,
    };
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
        return Ok(Subject { file: args.plugin.clone(), limits: config::default_limits(), runtime });
    }
    let config = args.config.load()?.config;
    let name = args.plugin.to_string_lossy();
    let limits = config.plugin.get(&*name).map_or_else(config::default_limits, |settings| settings.limits);
    let file = config.plugins.directory.join(format!("{name}.wasm"));
    Ok(Subject { file, limits, runtime: check::runtime(&config)? })
}

fn describe(plugin: &Plugin) -> Described {
    Described {
        interface: plugin.kind.as_str(),
        ports: plugin.ports.clone(),
        imports: plugin.imports.clone(),
        config_schema: plugin.config_schema.clone(),
    }
}

fn refuse(error: &LoadError) -> Refused {
    Refused { error: error.to_string(), hint: error.hint() }
}

/// Whether there is a signature beside the file. Whether it is right, the keys of a config decide.
fn signature(file: &Path) -> String {
    let signature = file.with_extension("wasm.minisig");
    if signature.is_file() { format!("`{}`, not checked", signature.display()) } else { "none".to_owned() }
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
