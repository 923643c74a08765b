//! The first generation of a process: what the files say, with what operators decided before; or, where those are refused and
//! the operator chose that, what ran last. Publishes nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::data_directory::DataDirectory;
use super::decisions::Decisions;
use super::prepare::{self, Error, Next, Tools};
use super::reload::Begin;
use super::shards::error_chain;
use super::store::Store;
use super::watch::Snapshot;
use crate::config::model::Config;
use crate::config::{self, Inputs, Loaded, Problems};
use crate::data::plugin;

/// Where the data of a host is that can't read its config: where the file says, as far as it is TOML, or where the default is.
pub fn data_directory(path: &Path, problems: &Problems) -> PathBuf {
    let folder = path.parent().unwrap_or(Path::new(""));
    folder.join(of_host(problems, "data_directory").unwrap_or_else(|| "midplane-data".to_owned()))
}

/// The stack of a plugin's call, where it may be the generation that ran last which runs: what that asks for, or the file, as far
/// as it can be read.
pub fn stack_bytes(path: &Path, loaded: &Result<Loaded, Problems>, data: &DataDirectory, store: &Store) -> usize {
    let of_file = match loaded {
        Ok(loaded) => Some(loaded.config.host.stack_bytes),
        Err(problems) => {
            let named = of_host(problems, "stack").and_then(|text| config::parse_size(&text));
            named.and_then(|bytes| usize::try_from(bytes).ok())
        }
    };
    let last = data.live().ok().flatten().and_then(|last| store.get(last.number).ok());
    let last = last.and_then(|manifest| prepare::stored(path, &manifest, store).ok());
    of_file.max(last.map(|last| last.config.host.stack_bytes)).unwrap_or(plugin::STACK_BYTES)
}

/// A text in the table `[host]`.
fn of_host(problems: &Problems, key: &str) -> Option<String> {
    let table: toml::Table = problems.sources.first()?.text.parse().ok()?;
    Some(table.get("host")?.get(key)?.as_str()?.to_owned())
}

/// Prepares the first generation, and what the reloads begin with.
///
/// # Errors
/// When there is none that could run.
pub fn prepare(
    loaded: Result<Loaded, Problems>,
    path: &Path,
    last_known_good: bool,
    tools: &Tools,
) -> Result<(Next, Begin), Error> {
    let (inputs, sha256) = match &loaded {
        Ok(loaded) => (loaded.inputs().clone(), loaded.config.sha256),
        Err(problems) => (problems.inputs.as_ref().clone(), problems.inputs.sha256),
    };
    let taken = Snapshot::of(&inputs);
    let decisions = Decisions::load(&tools.data.decisions_file())?;
    match prepare::prepare(loaded, sha256, path, &decisions, None, tools) {
        Ok(outcome) => {
            let prepare::Outcome { next, decisions, present, drift } = outcome;
            let next = next.expect("nothing is live yet that it could be the same as");
            for sentence in &drift {
                tracing::warn!(drift = sentence, "The files and what is live differ.");
            }
            if decisions != Decisions::load(&tools.data.decisions_file())? {
                decisions.save(&tools.data.decisions_file())?;
            }
            let begin = Begin { live: next.live.clone(), decisions, present, drift, inputs, taken, refused: None };
            Ok((next, begin))
        }
        Err(error) if last_known_good && error.is_refusal() => instead(error, path, decisions, inputs, taken, tools),
        Err(error) => Err(error),
    }
}

/// The config that ran last, as far as it is still there.
pub fn config_before(path: &Path, tools: &Tools) -> Option<Config> {
    let last = tools.data.live().ok()??;
    let stored =
        tools.store.get(last.number).map_err(Error::from).and_then(|last| prepare::stored(path, &last, &tools.store));
    match stored {
        Ok(loaded) => Some(loaded.config),
        Err(error) => {
            let error = error_chain(&error);
            tracing::warn!(generation = last.number, error, "Which groups routes were in is not known any more.");
            None
        }
    }
}

/// What ran last, in place of what is refused.
fn instead(
    error: Error,
    path: &Path,
    decisions: Decisions,
    inputs: Inputs,
    taken: Snapshot,
    tools: &Tools,
) -> Result<(Next, Begin), Error> {
    let Some(last) = tools.data.live()? else { return Err(error) };
    let Some(next) = prepare::prepare_stored(path, last.number, None, tools)? else { return Err(error) };
    let refused = error.to_string();
    tracing::error!(
        generation = last.number,
        error = refused,
        "The config is refused: the last known good generation runs instead, until the files are mended."
    );
    let drift = vec![format!("the files are refused, and generation {} runs instead (--last-known-good)", last.number)];
    // What is watched is what was refused: that is what somebody will mend.
    let (live, refused) = (next.live.clone(), Some(refused));
    Ok((next, Begin { live, decisions, present: BTreeMap::new(), drift, inputs, taken, refused }))
}
