//! What an operator is shown of a host, whole: what is live, what is kept, what was decided, and where the files differ from
//! it. Values alone, as `GET /api/v1/overview` writes them and the command line reads them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::config_view::ConfigView;

/// `GET /api/v1/overview`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Overview {
    /// The live generation's number.
    pub generation: u64,
    /// Of its manifest, in hex.
    pub hash: String,
    /// Of its config's bytes, in hex.
    pub config_sha256: String,
    /// The file that the host was started with.
    pub config_file: String,
    /// When it became live.
    pub published_at: String,
    /// The host's name to the broker.
    pub instance: String,
    /// The hold of a rollback, while there is one.
    pub held: Option<Held>,
    /// Each way in which the files and the live generation differ, a sentence each.
    pub drift: Vec<String>,
    /// Those that are live, by name.
    pub plugins: Vec<PluginView>,
    /// In the order of the config.
    pub groups: Vec<GroupView>,
    /// What is kept, oldest first.
    pub history: Vec<GenerationView>,
    /// The live config.
    pub config: ConfigView,
}

/// A rollback's hold: files are looked at, and change nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Whose contents are held.
    pub generation: u64,
    /// Of the bytes that the config had when it was ordered, in hex: others end the hold.
    pub config_sha256: String,
    /// When it was ordered.
    pub since: String,
}

/// A plugin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PluginView {
    /// Its name.
    pub name: String,
    /// The live version, in hex.
    pub sha256: String,
    /// The size of its file.
    pub bytes: u64,
    /// When this process loaded it.
    pub loaded_at: String,
    /// The version in the plugin directory; none where there is no file.
    pub directory_sha256: Option<String>,
    /// What an operator decided about it, while it holds.
    pub decision: Option<DecisionView>,
    /// A version on trial beside the live one.
    pub candidate: Option<CandidateView>,
    /// What is kept of it, oldest first.
    pub versions: Vec<VersionView>,
}

/// What an operator decided about a plugin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecisionView {
    /// Which kind.
    pub kind: DecisionKind,
    /// The version that it holds, in hex.
    pub sha256: String,
    /// The version that was rolled back from, in hex.
    pub from: Option<String>,
    /// When it was ordered.
    pub since: String,
}

/// How a decision ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DecisionKind {
    /// By `plugin unpin`.
    Pin,
    /// By other bytes in the directory than those that were rolled back from.
    Rollback,
}

/// A version on trial.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CandidateView {
    /// The version, in hex.
    pub sha256: String,
    /// `shadow` or `canary`
    pub mode: String,
    /// Of the keys, 0 to 1.
    pub share: f64,
}

/// A version that is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionView {
    /// The version, in hex.
    pub sha256: String,
    /// The generations that have it, ascending.
    pub generations: Vec<u64>,
}

/// A group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupView {
    /// The group's id.
    pub name: String,
    /// How many it has on this host.
    pub shards: usize,
    /// The names of its routes.
    pub routes: Vec<String>,
    /// How many topics it reads at present.
    pub topics: usize,
}

/// A generation that is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GenerationView {
    /// Its number.
    pub generation: u64,
    /// Of its manifest, in hex.
    pub hash: String,
    /// When it became live.
    pub published_at: String,
    /// Whether it is the live one.
    pub live: bool,
    /// What brought it about.
    pub why: String,
    /// Its plugins' versions, in hex.
    pub plugins: BTreeMap<String, String>,
}
