//! The router as it is measured: `midplane run` with one shard, as the loop has one thread, and a config in a folder of its
//! own, in which compiled plugins stay from one run to the next.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::callgrind::launched;
use crate::{Failure, Options};

/// The only plugin: it hands every event on as it is.
const PLUGIN: &str = "identity.wasm";

/// Runs on the shard's thread, and on no other.
pub(crate) const SHARD: &str = "midplane::data::shard::Shard::run";

/// Where configs and the router's own data are.
pub(crate) struct Router {
    program: PathBuf,
    servers: String,
    folder: tempfile::TempDir,
}

impl Router {
    pub(crate) fn new(options: &Options) -> Result<Self, Failure> {
        let folder = tempfile::tempdir()?;
        let plugins = folder.path().join("plugins");
        fs::create_dir(&plugins)?;
        // Alone: the host says something of each plugin that no route uses.
        let built = options.plugins.join(PLUGIN);
        fs::copy(&built, plugins.join(PLUGIN)).map_err(|error| {
            format!("no plugin at `{}` (`cargo xtask plugins` builds it): {error}", built.display())
        })?;
        Ok(Self { program: options.program("midplane"), servers: options.servers()?.to_owned(), folder })
    }

    /// Where profiles go that nobody asked to keep.
    pub(crate) fn profiles(&self) -> PathBuf {
        self.folder.path().join("profiles")
    }

    /// The command that runs a group with this guarantee and these routes, or has another program run it: `launcher` and its
    /// arguments.
    pub(crate) fn command(
        &self,
        launcher: &[String],
        group: &str,
        guarantee: &str,
        routes: &str,
    ) -> Result<Command, Failure> {
        let config = self.folder.path().join(format!("{group}.toml"));
        let servers = &self.servers;
        let text = format!(
            "[broker]\nbootstrap_servers = \"{servers}\"\ncreate_topics = true\n[admin]\nlisten = \"127.0.0.1:0\"\n\
             [groups.{group}]\nshards = 1\nguarantee = \"{guarantee}\"\n{routes}"
        );
        fs::write(&config, text)?;
        let mut command = launched(launcher, &self.program);
        // What a host says while it is measured is what it says when something is wrong.
        command.args(["run", "--config"]).arg(&config).current_dir(self.folder.path()).env("RUST_LOG", "warn");
        Ok(command)
    }
}
