//! Generations: the immutable pair of a config and the plugin versions that it runs with, named by the hash of its
//! manifest. Built apart from the data plane, whole or not at all.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use crate::config::model::{Config, Rollout};
use crate::data::plugin::Plugin;
use crate::data::trial::Trial;
use crate::digest;

/// What is live, or was, or is about to be.
#[derive(Debug)]
pub struct Generation {
    /// Counts the generations of this host, over restarts, from 1.
    pub number: u64,
    /// The manifest's digest: the same on every host that runs the same.
    pub hash: digest::Bytes,
    /// The config.
    pub config: Arc<Config>,
    /// The plugins that its routes name.
    pub plugins: BTreeMap<String, Arc<Plugin>>,
    /// Further versions of some of them, on trial beside the live ones.
    pub candidates: Candidates,
    /// When it was built.
    pub built_at: SystemTime,
}

/// Versions on trial, by plugin.
pub type Candidates = BTreeMap<String, Candidate>;

/// A version on trial.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// The version.
    pub plugin: Arc<Plugin>,
    /// How it is tried.
    pub rollout: Rollout,
    /// What is counted of it.
    pub trial: Arc<Trial>,
}

/// The digest of a manifest: what the config says, which plugins run, and which are on trial.
pub fn manifest_hash(
    config_sha256: &digest::Bytes,
    plugins: &BTreeMap<String, Arc<Plugin>>,
    candidates: &Candidates,
) -> digest::Bytes {
    let versions = plugins.iter().map(|(name, plugin)| (name.as_str(), plugin.sha256));
    let candidates = candidates.iter().map(|(name, candidate)| (name.as_str(), candidate.plugin.sha256));
    digest::of(manifest(config_sha256, versions, candidates).as_bytes())
}

fn manifest<'a>(
    config_sha256: &digest::Bytes,
    plugins: impl Iterator<Item = (&'a str, digest::Bytes)>,
    candidates: impl Iterator<Item = (&'a str, digest::Bytes)>,
) -> String {
    let plugins: BTreeMap<_, _> = plugins.map(|(name, sha256)| (name, digest::hex(&sha256))).collect();
    let candidates: BTreeMap<_, _> = candidates.map(|(name, sha256)| (name, digest::hex(&sha256))).collect();
    let mut manifest = serde_json::json!({ "v": 1, "config": digest::hex(config_sha256), "plugins": plugins });
    // Without any it reads as it always did, so that hosts of several versions agree.
    if !candidates.is_empty() {
        manifest["candidates"] = serde_json::json!(candidates);
    }
    manifest.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_names_the_config_and_every_plugin() {
        let plugins = || [("b", [1; 32]), ("a", [2; 32])].into_iter();
        let manifest_of =
            |candidates: &[(&'static str, digest::Bytes)]| manifest(&[0xab; 32], plugins(), candidates.iter().copied());
        let expected = format!(
            r#"{{"v":1,"config":"{}","plugins":{{"a":"{}","b":"{}"}}}}"#,
            "ab".repeat(32),
            "02".repeat(32),
            "01".repeat(32)
        );
        assert_eq!(manifest_of(&[]), expected);
        let candidates = format!(r#","candidates":{{"a":"{}"}}}}"#, "03".repeat(32));
        assert_eq!(
            manifest_of(&[("a", [3; 32])]),
            format!("{}{candidates}", expected.trim_end_matches('}').to_owned() + "}")
        );
    }
}
