//! The config against the plugins that are there: names, ports, config schemas, pins. Never loads a plugin.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::document::{Binding, Document, PluginTable, RouteTable, StageTable, reason};
use super::json_schema::{self, Fault, Violation};
use super::names;
use super::problem::{Place, Problem, Problems};
use super::tree::{Node, Value};
use super::{Loaded, Severity};
use crate::data::failure::Kind;
use crate::data::plugin::{InstanceError, LoadError, Plugin};

/// The port that feeds the next plugin of a chain.
const DEFAULT_PORT: &str = "default";

/// What is in the plugin directory, by name.
#[derive(Debug, Clone, Default)]
pub struct Available {
    /// Each `*.wasm` that is there.
    pub plugins: BTreeMap<String, Found>,
    /// Why the directory could not be read.
    pub unreadable: Option<String>,
}

/// A file of the plugin directory.
#[derive(Debug, Clone)]
pub enum Found {
    /// A plugin, and what it says of itself.
    Described(Described),
    /// No plugin that this host can run.
    Refused {
        /// What is wrong, with the plugin's name in backticks.
        message: String,
        /// What to do, where that is known.
        hint: Option<String>,
    },
    /// A version that the config's pin excludes, so that nobody loaded it.
    Excluded([u8; 32]),
    /// No route names it, so that nobody looked.
    Unused,
}

/// What a plugin says of itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Described {
    /// Its version.
    pub sha256: [u8; 32],
    /// Every port that it may name.
    pub ports: Vec<String>,
    /// Of its config.
    pub config_schema: Option<serde_json::Value>,
}

impl From<&Plugin> for Found {
    fn from(plugin: &Plugin) -> Self {
        Self::Described(Described {
            sha256: plugin.sha256,
            ports: plugin.ports.clone(),
            config_schema: plugin.config_schema.clone(),
        })
    }
}

impl From<&LoadError> for Found {
    fn from(error: &LoadError) -> Self {
        Self::Refused { message: error.to_string(), hint: error.hint() }
    }
}

/// The plugins of a directory: the names of all `*.wasm` files in it.
///
/// # Errors
/// When it can't be read: why not.
pub fn list(directory: &Path) -> Result<BTreeSet<String>, String> {
    let mut names = BTreeSet::new();
    for entry in std::fs::read_dir(directory).map_err(|error| reason(&error))? {
        let path = entry.map_err(|error| reason(&error))?.path();
        let is_plugin = path.extension().is_some_and(|extension| extension == "wasm") && path.is_file();
        if let Some(name) = path.file_stem().and_then(|stem| stem.to_str()).filter(|_| is_plugin) {
            names.insert(name.to_owned());
        }
    }
    Ok(names)
}

impl Loaded {
    /// All that plugins bring to light, errors and warnings, with the places in the config.
    pub fn against_plugins(&self, available: &Available) -> Problems {
        let check = Check { document: &self.document, available };
        let mut problems = Vec::new();
        check.directory(&mut problems);
        for route in &self.document.routes {
            check.route(route, &mut problems);
        }
        check.pins(&mut problems);
        check.unused(&mut problems);
        let sources = self.warnings.sources.clone();
        Problems { inputs: self.warnings.inputs.clone(), ..Problems::new(sources, problems) }
    }

    /// What it means for the config that a plugin doesn't start with what a route, known by its id, gives it.
    pub fn instance_problem(&self, route: &str, plugin: &str, error: &InstanceError) -> Problem {
        let ids = self.config.routes.iter().find(|known| known.id == route);
        let name = ids.map_or(route, |known| known.name.as_str());
        let stages =
            self.document.routes.iter().filter(|table| table.name.text == name).flat_map(|table| &table.through);
        let stage = stages.into_iter().find(|stage| stage.plugin.value == plugin);
        let message = format!("{error}, in `routes.{name}`");
        Problem {
            severity: Severity::Error,
            at: stage.map(|stage| stage.plugin.at),
            offending: plugin.to_owned(),
            message,
            expected: None,
            hint: Some(instance_hint(plugin, error)),
            related: None,
        }
    }
}

/// What to do about a plugin that doesn't start.
fn instance_hint(plugin: &str, error: &InstanceError) -> String {
    match error {
        InstanceError::Refused { .. } => format!(
            "these are the plugin's own words; it was given the keys of `[plugin.{plugin}.config]` and of the route's \
             `config`, which win, and the ports that the route binds"
        ),
        InstanceError::Start { failure, .. } | InstanceError::Configure { failure, .. } => match failure.kind {
            Kind::Memory => format!("raise `memory` (or `table`) in `[plugin.{plugin}]`"),
            Kind::Deadline => "`configure` may take 10 s of CPU time".to_owned(),
            Kind::Transient => {
                "nothing is wrong with the plugin or the config: mend the host, and try again".to_owned()
            }
            _ => "the plugin fails before its first event: this is a fault of its own".to_owned(),
        },
    }
}

struct Check<'c> {
    document: &'c Document,
    available: &'c Available,
}

impl<'c> Check<'c> {
    /// One problem of the directory in place of one for each plugin.
    fn directory(&self, problems: &mut Vec<Problem>) {
        let Some(reason) = &self.available.unreadable else { return };
        let Some(stage) = self.document.routes.iter().flat_map(|route| &route.through).next() else { return };
        let problem = match &self.document.plugins_at {
            Some(at) => {
                let message = format!("`{}` can't be read: {reason}, in `plugins.directory`", at.written);
                Problem::error(at.at, &at.written, message)
            }
            None => {
                let name = &stage.plugin.written;
                let message = format!("`{name}` can't be found: the directory of the plugins can't be read: {reason}");
                Problem::error(stage.plugin.at, name, message)
            }
        };
        let expected = "a folder with the plugin's `.wasm` file";
        problems
            .push(problem.expected(expected).hint("`[plugins] directory` names another one; its default is `plugins`"));
    }

    fn route(&self, route: &RouteTable, problems: &mut Vec<Problem>) {
        let mut described: Vec<Option<&Described>> = Vec::with_capacity(route.through.len());
        for stage in &route.through {
            let found = self.stage(route, stage, problems);
            if let Some(found) = found {
                self.config(stage, found, problems);
            }
            described.push(found);
        }
        // What one plugin of the chain has can't be told while another is unknown.
        let Some(described) = described.into_iter().collect::<Option<Vec<_>>>() else { return };
        let Some(((last, last_described), before)) = route
            .through
            .iter()
            .zip(&described)
            .collect::<Vec<_>>()
            .split_last()
            .map(|(last, before)| (*last, before.to_vec()))
        else {
            return;
        };
        for (stage, described) in before.iter().filter(|(_, described)| !has_port(described, DEFAULT_PORT)) {
            let name = &stage.plugin.written;
            let message = format!("`{name}` feeds no plugin after it: it has no port `{DEFAULT_PORT}`");
            let ports = names::list(described.ports.iter().map(String::as_str));
            problems.push(
                Problem::error(stage.plugin.at, name, message)
                    .expected("a plugin with that port")
                    .hint(format!("its ports: {ports}")),
            );
        }
        for binding in &route.to {
            let known = if binding.port.text == DEFAULT_PORT {
                has_port(last_described, DEFAULT_PORT)
            } else {
                described.iter().any(|described| has_port(described, &binding.port.text))
            };
            if !known {
                problems.push(unknown_port(route, binding, last, &described));
            }
        }
        unbound_ports(route, last, &described, problems);
    }

    fn stage(&self, route: &RouteTable, stage: &StageTable, problems: &mut Vec<Problem>) -> Option<&'c Described> {
        let name = &stage.plugin.written;
        let problem = match self.available.plugins.get(&stage.plugin.value) {
            Some(Found::Described(described)) => return Some(described),
            // What the pin excludes is said where the pin stands.
            Some(Found::Excluded(_) | Found::Unused) => return None,
            Some(Found::Refused { message, hint }) => {
                let message = if message.contains(&format!("`{name}`")) {
                    message.clone()
                } else {
                    format!("`{name}` {message}")
                };
                Problem::error(stage.plugin.at, name, message).hint_if(hint.clone())
            }
            None if self.available.unreadable.is_some() => return None,
            None => {
                let known = self.available.plugins.keys().map(String::as_str);
                let message = format!("unknown plugin `{name}`, in `routes.{}`", route.name.text);
                Problem::error(stage.plugin.at, name, message)
                    .expected(format!("one of the plugin directory: {}", names::list(known.clone())))
                    .hint_if(names::did_you_mean(name, known))
            }
        };
        problems.push(problem);
        None
    }

    /// The config that the stage gets, against what the plugin says of it.
    fn config(&self, stage: &StageTable, described: &Described, problems: &mut Vec<Problem>) {
        let Some(schema) = &described.config_schema else { return };
        let table = self.table(&stage.plugin.value).and_then(|table| table.config.as_ref());
        let mut merged = serde_json::Map::new();
        for node in [table, stage.config.as_ref()].into_iter().flatten() {
            if let serde_json::Value::Object(keys) = node.to_json() {
                merged.extend(keys);
            }
        }
        for violation in json_schema::violations(schema, &merged.into()) {
            // The route's keys win over the table's: the value is where its first key stands.
            let nodes = [stage.config.as_ref(), table];
            let owner = violation_key(&violation).and_then(|key| {
                nodes
                    .into_iter()
                    .flatten()
                    .find(|node| matches!(&node.value, Value::Table(table) if table.entry(key).is_some()))
            });
            problems.push(config_problem(stage, owner, violation));
        }
    }

    fn table(&self, plugin: &str) -> Option<&'c PluginTable> {
        self.document.plugin.iter().find(|table| table.name.text == plugin)
    }

    fn pins(&self, problems: &mut Vec<Problem>) {
        for table in &self.document.plugin {
            let Some(pin) = &table.sha256 else { continue };
            let found = match self.available.plugins.get(&table.name.text) {
                Some(Found::Described(described)) => described.sha256,
                Some(Found::Excluded(sha256)) => *sha256,
                _ => continue,
            };
            if found != pin.value {
                let name = &table.name.text;
                let message = format!("`{}` is not the version of plugin `{name}` that is there", pin.written);
                let problem = Problem::error(pin.at, &pin.written, message);
                problems.push(
                    problem.expected(format!("`{}`", hex(&found))).hint("put the pinned version back, or pin this one"),
                );
            }
        }
    }

    fn unused(&self, problems: &mut Vec<Problem>) {
        let used: BTreeSet<&str> = self
            .document
            .routes
            .iter()
            .flat_map(|route| &route.through)
            .map(|stage| stage.plugin.value.as_str())
            .collect();
        for name in self.available.plugins.keys().filter(|name| !used.contains(name.as_str())) {
            let message = format!("`{name}.wasm` is in the plugin directory, and no route uses it");
            problems.push(Problem {
                severity: Severity::Warning,
                at: None,
                offending: format!("{name}.wasm"),
                message,
                expected: None,
                hint: None,
                related: None,
            });
        }
    }
}

fn has_port(described: &Described, port: &str) -> bool {
    described.ports.iter().any(|known| known == port)
}

fn unknown_port(route: &RouteTable, binding: &Binding, last: &StageTable, described: &[&Described]) -> Problem {
    let port = &binding.port.text;
    let key = format!("routes.{}.to", route.name.text);
    let all: BTreeSet<&str> = described.iter().flat_map(|described| &described.ports).map(String::as_str).collect();
    let message = if port == DEFAULT_PORT {
        format!("`{port}` is no port of plugin `{}`, in `{key}`", last.plugin.written)
    } else {
        format!("`{port}` is no port of any plugin, in `{key}`")
    };
    // A string that binds `default` doesn't show the name of the port.
    Problem::error(binding.port.at, port, message)
        .expected(format!("a port that a plugin of the route describes: {}", names::list(all.iter().copied())))
        .hint_if(names::did_you_mean(port, all))
}

/// What is written to a port without a topic becomes a dead letter: somebody should know before.
fn unbound_ports(route: &RouteTable, last: &StageTable, described: &[&Described], problems: &mut Vec<Problem>) {
    let bound = |port: &str| route.to.iter().any(|binding| binding.port.text == port);
    let mut seen = BTreeSet::new();
    for (index, (stage, described)) in route.through.iter().zip(described).enumerate() {
        let is_last = index + 1 == route.through.len() && std::ptr::eq(stage, last);
        for port in &described.ports {
            let feeds_the_next = port == DEFAULT_PORT && !is_last;
            if feeds_the_next || bound(port) || !seen.insert(port) {
                continue;
            }
            let name = &stage.plugin.written;
            let message =
                format!("`{name}` may write to port `{port}`, which `routes.{}` binds to no topic", route.name.text);
            let hint = format!("bind it: `to = {{ {port} = \"TOPIC\" }}`; until then such events become dead letters");
            problems.push(Problem::warning(stage.plugin.at, name, message).hint(hint));
        }
    }
}

/// The first key on the way to a violation.
fn violation_key(violation: &Violation) -> Option<&str> {
    match (&violation.fault, violation.path.first()) {
        (_, Some(first)) => Some(first),
        (Fault::Unknown(key, _), None) => Some(key),
        _ => None,
    }
}

fn config_problem(stage: &StageTable, owner: Option<&Node>, violation: Violation) -> Problem {
    let plugin = &stage.plugin.written;
    let nowhere = (stage.plugin.at, plugin.as_str());
    let path = std::iter::once("config").chain(violation.path.iter().map(String::as_str)).collect::<Vec<_>>().join(".");
    let node = owner.map(|owner| owner.follow(violation.path.iter().map(String::as_str)).0);
    let place_of = |key: &str| -> Option<Place> {
        match &node?.value {
            Value::Table(table) => table.entry(key).map(|(name, _)| name.at),
            _ => None,
        }
    };
    match violation.fault {
        Fault::Expected(expected) => {
            let (at, written) = node.map_or(nowhere, |node| (node.at, node.written.as_str()));
            let message = format!("`{written}` is not what plugin `{plugin}` takes, in `{path}`");
            Problem::error(at, written, message).expected(expected)
        }
        Fault::Missing(key) => {
            let at = node.map_or(stage.plugin.at, |node| node.at);
            let message = format!("`{key}` is missing, in `{path}` of plugin `{plugin}`");
            Problem::error(at, &key, message).expected("a value for it").hint(format!("add `{key}` to its `config`"))
        }
        Fault::Unknown(key, known) => {
            let at = place_of(&key).unwrap_or(stage.plugin.at);
            let known = known.iter().map(String::as_str);
            let message = format!("unknown key `{key}`, in `{path}` of plugin `{plugin}`");
            let expected = format!("one of {}", names::list(known.clone()));
            Problem::error(at, &key, message).expected(expected).hint_if(names::did_you_mean(&key, known))
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
