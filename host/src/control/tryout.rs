//! Whether the plugins start with what their routes give them, seen by trial instances before any event. Says what is wrong
//! at its place in the config; never runs an event.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use super::build::{self, Bound};
use super::generation::{Candidates, Generation};
use crate::config::{Loaded, Problems};
use crate::data::plugin::{InstanceError, Plugin, Prepared};

/// What the outcomes of trials mean for the config: a problem for each that failed.
pub fn problems<'p>(
    loaded: &Loaded,
    outcomes: impl IntoIterator<Item = (&'p Arc<Prepared>, Result<(), InstanceError>)>,
) -> Problems {
    let problems = outcomes.into_iter().filter_map(|(prepared, outcome)| {
        let error = outcome.err()?;
        Some(loaded.instance_problem(&prepared.spec().route, &prepared.plugin().name, &error))
    });
    Problems::new(Arc::clone(&loaded.warnings.sources), problems.collect())
}

/// Tries a config that is looked at and not run: of no generation. Takes as long as the plugins' `configure` does.
pub fn config(loaded: &Loaded, plugins: BTreeMap<String, Arc<Plugin>>) -> Problems {
    let config = Arc::new(loaded.config.clone());
    let (candidates, built_at) = (Candidates::new(), SystemTime::UNIX_EPOCH);
    let generation = Generation { number: 0, hash: [0; 32], config, plugins, candidates, built_at };
    let bound = Bound::default();
    let programs = generation.config.groups.iter().map(|group| build::program(&generation, group, None, &bound));
    let programs: Vec<_> = programs.collect();
    let bindings = programs.iter().flat_map(|program| &program.prepared);
    problems(loaded, bindings.map(|prepared| (prepared, prepared.instantiate().map(drop))))
}
