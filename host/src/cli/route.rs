//! `midplane route`: routes of a running host, paused and let go again.

use clap::{Args, Subcommand};
use serde_json::json;

use super::host::{OrderArgs, encoded};
use super::{Exit, Failure, orders};

/// `midplane route`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  midplane route pause large-payments
  midplane route resume large-payments
  midplane partition list                 what stands still, and why")]
pub(super) struct RouteArgs {
    #[command(subcommand)]
    command: RouteCommand,
}

#[derive(Debug, Subcommand)]
enum RouteCommand {
    /// Take nothing more of the partitions that a route reads
    Pause(PauseArgs),
    /// Go on where a route was paused; close its breaker
    Resume(ResumeArgs),
}

/// An order about a route.
#[derive(Debug, Args)]
struct NameArgs {
    /// The route, by its name in the config, or by its id
    #[arg(value_name = "ROUTE")]
    name: String,

    #[command(flatten)]
    order: OrderArgs,
}

/// `midplane route pause`
#[derive(Debug, Args)]
#[command(after_help = "\
The routes of a group share its offsets: all of them stand still on every
partition of the topics that this route reads. What was taken before is settled
and committed first. The host stays in its group, and keeps its partitions.

A pause holds over reloads and restarts, until `midplane route resume`. It is of
this host alone: where several hosts share a group, each needs it.")]
struct PauseArgs {
    #[command(flatten)]
    route: NameArgs,
}

/// `midplane route resume`
#[derive(Debug, Args)]
#[command(after_help = "\
The group goes on where it stood. Where the route's breaker has tripped, since
too much of it failed, it closes: what waits for it runs, and fails if it still
has to. Of this host alone, as `midplane route pause` is.")]
struct ResumeArgs {
    #[command(flatten)]
    route: NameArgs,
}

pub(super) fn run(args: &RouteArgs) -> Result<Exit, Failure> {
    match &args.command {
        RouteCommand::Pause(args) => args.route.give("pause"),
        RouteCommand::Resume(args) => args.route.give("resume"),
    }
}

impl NameArgs {
    fn give(&self, verb: &str) -> Result<Exit, Failure> {
        let path = format!("/api/v1/routes/{}/{verb}", encoded(&self.name));
        orders::give(&self.order, &path, &json!({}))
    }
}
