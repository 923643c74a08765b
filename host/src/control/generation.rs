//! Generations: the immutable pair of a config and the plugin versions that it runs with, named by the hash of its
//! manifest. Built apart from the data plane, whole or not at all.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use crate::config::model::Config;
use crate::data::plugin::Plugin;
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
    /// When it was built.
    pub built_at: SystemTime,
}

/// The digest of a manifest: what the config says, and which plugins run.
pub fn manifest_hash(config_sha256: &digest::Bytes, plugins: &BTreeMap<String, Arc<Plugin>>) -> digest::Bytes {
    let versions = plugins.iter().map(|(name, plugin)| (name.as_str(), plugin.sha256));
    digest::of(manifest(config_sha256, versions).as_bytes())
}

fn manifest<'a>(config_sha256: &digest::Bytes, plugins: impl Iterator<Item = (&'a str, digest::Bytes)>) -> String {
    let plugins: BTreeMap<_, _> = plugins.map(|(name, sha256)| (name, digest::hex(&sha256))).collect();
    serde_json::json!({ "v": 1, "config": digest::hex(config_sha256), "plugins": plugins }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_names_the_config_and_every_plugin() {
        let manifest = manifest(&[0xab; 32], [("b", [1; 32]), ("a", [2; 32])].into_iter());
        let expected = format!(
            r#"{{"v":1,"config":"{}","plugins":{{"a":"{}","b":"{}"}}}}"#,
            "ab".repeat(32),
            "02".repeat(32),
            "01".repeat(32)
        );
        assert_eq!(manifest, expected);
    }
}
