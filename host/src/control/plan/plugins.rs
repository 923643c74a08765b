//! Which versions of plugins would be live: what the directory has, what operators decided, what stays for want of a file.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::Next;
use crate::control::config_view::{ConfigView, Value};
use crate::control::decisions::{Choice, Decision, Standing, choose};
use crate::control::overview::{DecisionKind, Overview, PluginView};
use crate::digest;

/// A plugin whose version changes, or would.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginPlan {
    /// Its name.
    pub name: String,
    /// What becomes of it.
    pub change: PluginChange,
    /// The live version, in hex.
    pub from: Option<String>,
    /// The version that would be live, in hex.
    pub to: Option<String>,
    /// The version in the directory, in hex.
    pub directory: Option<String>,
    /// Why it is not what the directory has.
    pub note: Option<String>,
    /// How it is tried beside the live version, before it takes over. None: it takes over at once.
    pub trial: Option<TrialPlan>,
}

/// What a new version has to go through first, in the config's words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrialPlan {
    /// `shadow` or `canary`
    pub mode: String,
    /// Of the keys; none in the shadow.
    pub share: Option<String>,
    /// It ends with so many events,
    pub events: u64,
    /// or after this time.
    pub time: String,
}

/// What becomes of a plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PluginChange {
    /// Routes begin to use it.
    Added,
    /// Another version.
    Changed,
    /// No route uses it any more.
    Removed,
    /// The directory has another version, or none, and the live one stays.
    HeldBack,
}

/// The version of each plugin that routes name, as a reload would choose it. None: there is none.
pub fn versions(
    live: &Overview,
    config: &ConfigView,
    directory: &BTreeMap<String, String>,
) -> BTreeMap<String, (Choice, Standing)> {
    let named: BTreeSet<&String> =
        config.routes.iter().flat_map(|route| &route.through).map(|stage| &stage.plugin).collect();
    let version = |name: &String| {
        let view = live.plugins.iter().find(|plugin| plugin.name == *name);
        let decision = view.and_then(decision);
        let pin = config.plugin.get(name).and_then(|settings| settings.get("sha256")).and_then(|value| match value {
            Value::Shown(text) => digest::parse(text),
            Value::Hidden { .. } => None,
        });
        let directory = directory.get(name).and_then(|sha256| digest::parse(sha256));
        choose(pin, decision.as_ref(), directory, view.and_then(|view| digest::parse(&view.sha256)))
    };
    named.into_iter().map(|name| (name.clone(), version(name))).collect()
}

fn decision(view: &PluginView) -> Option<Decision> {
    let decision = view.decision.as_ref()?;
    let since = decision.since.clone();
    let sha256 = digest::parse(&decision.sha256)?;
    Some(match decision.kind {
        DecisionKind::Pin => Decision::Pin { sha256, since },
        DecisionKind::Rollback => {
            let from = decision.from.as_deref().and_then(digest::parse)?;
            Decision::Rollback { to: sha256, from, since }
        }
    })
}

/// By name.
pub(super) fn plan(live: &Overview, next: &Next) -> Vec<PluginPlan> {
    let chosen = versions(live, &next.config, &next.directory);
    let names: BTreeSet<&String> = live.plugins.iter().map(|plugin| &plugin.name).chain(chosen.keys()).collect();
    names.into_iter().filter_map(|name| one(live, next, name, chosen.get(name).copied())).collect()
}

fn one(live: &Overview, next: &Next, name: &str, chosen: Option<(Choice, Standing)>) -> Option<PluginPlan> {
    let view = live.plugins.iter().find(|plugin| plugin.name == name);
    let from = view.map(|view| view.sha256.clone());
    let directory = next.directory.get(name).cloned();
    let to = chosen.and_then(|(choice, _)| match choice {
        Choice::Directory(sha256) | Choice::Stored(sha256) | Choice::Keep(sha256) => Some(digest::hex(&sha256)),
        Choice::Missing => None,
    });
    let change = match (&from, &to) {
        (Some(_), Some(to)) if is_on_trial(view, to) => PluginChange::HeldBack,
        (Some(from), Some(to)) if from != to => PluginChange::Changed,
        (Some(_), Some(to)) if directory.as_ref() != Some(to) => PluginChange::HeldBack,
        (Some(_), Some(_)) | (None, None) => return None,
        (None, Some(_)) => PluginChange::Added,
        (Some(_), None) => PluginChange::Removed,
    };
    // A trial goes on: the live version is then still the one that it was.
    let to = if change == PluginChange::HeldBack { from.clone() } else { to };
    let note = (change == PluginChange::HeldBack).then(|| held_back(view, chosen)).flatten();
    // What somebody has decided on takes over at once.
    let is_tried = change == PluginChange::Changed && !matches!(chosen, Some((_, Standing::Stands)));
    let trial = is_tried.then(|| trial(&next.config, name)).flatten();
    Some(PluginPlan { name: name.to_owned(), change, from, to, directory, note, trial })
}

fn is_on_trial(view: Option<&PluginView>, sha256: &str) -> bool {
    view.and_then(|view| view.candidate.as_ref()).is_some_and(|candidate| candidate.sha256 == sha256)
}

fn held_back(view: Option<&PluginView>, chosen: Option<(Choice, Standing)>) -> Option<String> {
    if let Some((Choice::Keep(_), _)) = chosen {
        return Some("its file is gone from the directory".to_owned());
    }
    let view = view?;
    let Some(decision) = &view.decision else {
        return view.candidate.as_ref().map(|candidate| format!("the other version is on trial as {}", candidate.mode));
    };
    Some(match decision.kind {
        DecisionKind::Pin => format!("pinned since {}", decision.since),
        DecisionKind::Rollback => format!("rolled back since {}", decision.since),
    })
}

/// The trial that the config wants of other versions of a plugin. One that it pins has none.
fn trial(config: &ConfigView, name: &str) -> Option<TrialPlan> {
    let settings = config.plugin.get(name).filter(|settings| !settings.contains_key("sha256"))?;
    let shown = |key: &str| match settings.get(key) {
        Some(Value::Shown(text)) => Some(text.clone()),
        Some(Value::Hidden { .. }) | None => None,
    };
    let mode = shown("rollout.mode").filter(|mode| mode != "direct")?;
    let share = shown("rollout.share").filter(|_| mode == "canary");
    Some(TrialPlan { share, events: shown("rollout.events")?.parse().ok()?, time: shown("rollout.time")?, mode })
}
