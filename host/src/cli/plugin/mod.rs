//! `midplane plugin`: versions of plugins, looked at and decided about.

mod inspect;
mod list;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::host::{OrderArgs, encoded};
use super::{Exit, Failure, orders};
use crate::control::order::version_prefix;

/// `midplane plugin`
#[derive(Debug, Args)]
#[command(after_help = "\
A version of a plugin is the SHA-256 of its file; its first digits name it where
they can mean no other one, four at least.

Examples:
  midplane plugin inspect target/plugin/mask.wasm
  midplane plugin list
  midplane plugin pin mask              keep what is live now, whatever comes
  midplane plugin pin mask 1f2e3d4c     make this version live, and keep it
  midplane plugin unpin mask            follow the plugin directory again
  midplane plugin rollback mask         back to the version that was live before")]
pub(super) struct PluginArgs {
    #[command(subcommand)]
    command: PluginCommand,
}

#[derive(Debug, Subcommand)]
enum PluginCommand {
    /// Say what a plugin file is, or why it is none; needs no host
    Inspect(inspect::InspectArgs),
    /// List the versions that are live, kept, or in the plugin directory
    List(list::ListArgs),
    /// Keep a plugin at one version until it is unpinned
    Pin(PinArgs),
    /// End a pin: the plugin follows the plugin directory again
    Unpin(NameArgs),
    /// Make the version on trial the live one now
    Promote(NameArgs),
    /// End the trial of a version: the live one stays
    Abort(NameArgs),
    /// Go back to an older version until other bytes are in the plugin directory
    Rollback(RollbackArgs),
}

/// An order about a plugin.
#[derive(Debug, Args)]
struct NameArgs {
    /// The plugin, by its name in the plugin directory
    name: String,

    #[command(flatten)]
    order: OrderArgs,
}

/// `midplane plugin pin`
#[derive(Debug, Args)]
#[command(after_help = "\
A pinned plugin keeps its version over reloads of everything else and over
restarts. The version must be live, kept, or in the plugin directory:
`midplane plugin list` shows them. `sha256` in the config beats a pin, and one
that contradicts it is refused.")]
struct PinArgs {
    #[command(flatten)]
    plugin: NameArgs,

    /// The version's first digits [default: the live version]
    #[arg(value_parser = version_prefix)]
    version: Option<String>,
}

/// `midplane plugin rollback`
#[derive(Debug, Args)]
#[command(after_help = "\
The older version comes from the copies that the host keeps. It stays over
reloads of everything else and over restarts, until the plugin directory has
other bytes than those that are rolled back from.

Example:
  midplane plugin rollback mask --to 1f2e3d4c")]
struct RollbackArgs {
    #[command(flatten)]
    plugin: NameArgs,

    /// The version's first digits [default: the version that was live before]
    #[arg(long, value_name = "VERSION", value_parser = version_prefix)]
    to: Option<String>,
}

pub(super) fn run(args: &PluginArgs) -> Result<Exit, Failure> {
    match &args.command {
        PluginCommand::Inspect(args) => inspect::run(args),
        PluginCommand::List(args) => list::run(args),
        PluginCommand::Pin(args) => args.plugin.give("pin", &json!({ "version": args.version })),
        PluginCommand::Unpin(args) => args.give("unpin", &json!({})),
        PluginCommand::Promote(args) => args.give("promote", &json!({})),
        PluginCommand::Abort(args) => args.give("abort", &json!({})),
        PluginCommand::Rollback(args) => args.plugin.give("rollback", &json!({ "version": args.to })),
    }
}

impl NameArgs {
    fn give(&self, verb: &str, particulars: &Value) -> Result<Exit, Failure> {
        let path = format!("/api/v1/plugins/{}/{verb}", encoded(&self.name));
        orders::give(&self.order, &path, particulars)
    }
}
