//! What the files say at one time, held against what is live and what is ordered. Changes nothing.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::super::decisions::Decisions;
use super::super::obey::Situation;
use super::super::order::{Order, Refusal};
use super::super::prepare::{self, Live, Tools};
use super::Error;
use crate::config::{self, Inputs, Loaded, Problems, Source};
use crate::digest;

/// What is read, and held against what is live, apart from the task.
pub(super) struct Reading {
    pub(super) path: PathBuf,
    pub(super) tools: Tools,
    pub(super) live: Live,
    pub(super) decisions: Decisions,
    pub(super) present: BTreeMap<String, digest::Bytes>,
    pub(super) order: Option<Order>,
}

impl Reading {
    pub(super) fn run(self) -> (Inputs, Result<prepare::Outcome, Error>) {
        let disk = config::load(&self.path);
        let inputs = match &disk {
            Ok(loaded) => loaded.inputs().clone(),
            Err(problems) => problems.inputs.as_ref().clone(),
        };
        let decisions = self.order.as_ref().map(|order| self.decide(order, inputs.sha256)).transpose();
        let outcome = decisions.map_err(Error::Order).and_then(|decided| {
            let decisions = decided.as_ref().unwrap_or(&self.decisions);
            let loaded = disk.or_else(|problems| self.instead(problems));
            let (live, tools) = (Some(&self.live), &self.tools);
            Ok(prepare::prepare(loaded, inputs.sha256, &self.path, decisions, live, tools)?)
        });
        (inputs, outcome)
    }

    /// The live config, where the one on the disk is broken and what is ordered is about a plugin: whoever is up at night
    /// because of a plugin needn't mend a file first.
    fn instead(&self, problems: Problems) -> Result<Loaded, Problems> {
        match &self.order {
            None | Some(Order::Reload | Order::Resume | Order::Rollback { .. }) => Err(problems),
            Some(_) => {
                let source = |source: &Source| (source.path.clone(), source.text.to_string());
                config::load_stored(&self.path, self.live.loaded.sources().iter().map(source).collect())
            }
        }
    }

    fn decide(&self, order: &Order, config_sha256: digest::Bytes) -> Result<Decisions, Refusal> {
        let generation = &self.live.generation;
        let situation = Situation {
            decisions: &self.decisions,
            config: &generation.config,
            generation: generation.number,
            live: generation.plugins.iter().map(|(name, plugin)| (name.as_str(), plugin.sha256)).collect(),
            present: &self.present,
            kept: &self.tools.store.list(),
            config_sha256,
            now: jiff::Timestamp::now().to_string(),
        };
        situation.decide(order)
    }
}

/// An order as the history tells it.
pub(super) fn why(order: &Order) -> String {
    match order {
        Order::Reload => "an operator asked for it".to_owned(),
        Order::Rollback { to: Some(number) } => format!("rolled back to generation {number}"),
        Order::Rollback { to: None } => "rolled back to the generation before".to_owned(),
        Order::Resume => "resumed after a rollback".to_owned(),
        Order::Pin { plugin, .. } => format!("plugin {plugin} was pinned"),
        Order::Unpin { plugin } => format!("plugin {plugin} was unpinned"),
        Order::RollbackPlugin { plugin, .. } => format!("plugin {plugin} was rolled back"),
        Order::Promote { plugin } => format!("the candidate of plugin {plugin} was promoted"),
        Order::Abort { plugin } => format!("the candidate of plugin {plugin} was given up"),
        Order::PauseRoute { route } => format!("route {route} was paused"),
        Order::ResumeRoute { route } => format!("route {route} was resumed"),
        Order::Partition { target, .. } => format!("an operator looked after partition {target}"),
    }
}
