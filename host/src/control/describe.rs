//! Puts together what operators are shown of a host, from what is live, kept and decided. Decides nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use super::config_view::{ConfigView, rollout_word};
use super::decisions::{Decision, Decisions};
use super::generation::Candidate;
use super::overview::{
    CandidateView, DecisionKind, DecisionView, GenerationView, GroupView, Held, Overview, PluginView, VersionView,
};
use super::prepare::Live;
use super::shards::Shards;
use super::store::{Manifest, versions};
use crate::digest;

/// What there is to be told beside the generation.
pub struct Around<'a> {
    /// Names this host to the broker.
    pub instance: &'a str,
    /// What operators decided.
    pub decisions: &'a Decisions,
    /// What the directory has, by plugin.
    pub present: &'a BTreeMap<String, digest::Bytes>,
    /// Each way in which the files and what is live differ.
    pub drift: &'a [String],
    /// The generations that are kept, newest last.
    pub kept: &'a [Arc<Manifest>],
    /// Those of this host.
    pub shards: &'a Shards,
}

/// All of it.
pub fn overview(live: &Live, around: &Around<'_>) -> Overview {
    let generation = &live.generation;
    let published_at = around.kept.iter().find(|manifest| manifest.number == generation.number);
    let published_at = published_at.map_or_else(|| time(generation.built_at), |kept| kept.published_at.clone());
    let held = around.decisions.hold.as_ref().map(|hold| Held {
        generation: hold.generation,
        since: hold.since.clone(),
        config_sha256: digest::hex(&hold.config_sha256),
    });
    Overview {
        generation: generation.number,
        hash: digest::hex(&generation.hash),
        config_sha256: digest::hex(&generation.config.sha256),
        config_file: generation.config.path.display().to_string(),
        published_at,
        instance: around.instance.to_owned(),
        held,
        drift: around.drift.to_vec(),
        plugins: plugins(live, around),
        groups: groups(live, around.shards),
        history: around.kept.iter().map(|manifest| kept(manifest, generation.number)).collect(),
        config: ConfigView::of(&generation.config),
    }
}

fn plugins(live: &Live, around: &Around<'_>) -> Vec<PluginView> {
    let plugins = live.generation.plugins.iter().map(|(name, plugin)| PluginView {
        name: name.clone(),
        sha256: digest::hex(&plugin.sha256),
        bytes: plugin.size as u64,
        loaded_at: time(live.loaded_at[name]),
        directory_sha256: around.present.get(name).map(digest::hex),
        decision: around.decisions.plugins.get(name).map(decision),
        candidate: live.generation.candidates.get(name).map(candidate),
        versions: versions(around.kept, name)
            .into_iter()
            .rev()
            .map(|(sha256, generations)| VersionView { sha256: digest::hex(&sha256), generations })
            .collect(),
    });
    plugins.collect()
}

fn candidate(candidate: &Candidate) -> CandidateView {
    let (mode, share) = (rollout_word(candidate.rollout.mode).to_owned(), candidate.rollout.share);
    CandidateView { sha256: digest::hex(&candidate.plugin.sha256), mode, share }
}

fn decision(decision: &Decision) -> DecisionView {
    match decision {
        Decision::Pin { sha256, since } => {
            DecisionView { kind: DecisionKind::Pin, sha256: digest::hex(sha256), from: None, since: since.clone() }
        }
        Decision::Rollback { to, from, since } => DecisionView {
            kind: DecisionKind::Rollback,
            sha256: digest::hex(to),
            from: Some(digest::hex(from)),
            since: since.clone(),
        },
    }
}

fn groups(live: &Live, shards: &Shards) -> Vec<GroupView> {
    let config = &live.generation.config;
    let groups = config.groups.iter().map(|group| GroupView {
        name: group.name.clone(),
        shards: shards.count_of(&group.name),
        routes: group.routes.iter().map(|route| config.routes[*route].name.clone()).collect(),
        topics: shards.topics_of(&group.name),
    });
    groups.collect()
}

fn kept(manifest: &Manifest, live: u64) -> GenerationView {
    let plugins = manifest.plugins.iter().map(|(name, plugin)| (name.clone(), digest::hex(&plugin.sha256)));
    GenerationView {
        generation: manifest.number,
        hash: digest::hex(&manifest.hash),
        published_at: manifest.published_at.clone(),
        live: manifest.number == live,
        why: manifest.why.clone(),
        plugins: plugins.collect(),
    }
}

fn time(time: SystemTime) -> String {
    jiff::Timestamp::try_from(time).unwrap_or(jiff::Timestamp::UNIX_EPOCH).to_string()
}
