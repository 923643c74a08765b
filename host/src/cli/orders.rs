//! `midplane reload|rollback|resume`: orders about the whole of what runs. Each waits until it is carried out, and prints what
//! the host says of it.

use std::io::Write;

use clap::Args;
use serde::Serialize;
use serde_json::json;

use super::host::OrderArgs;
use super::topic::Output;
use super::{Exit, Failure};

/// `midplane reload`
#[derive(Debug, Args)]
#[command(after_help = "\
A host looks at its files by itself; this asks for it at once, and waits for the
result: the generation that is live now, or why the files are refused. What is
refused changes nothing. `midplane plan` says before what would change.

Examples:
  midplane reload
  midplane reload --config production.toml --wait 2m

Exit code 3 says that the host refuses what the files have become.")]
pub(super) struct ReloadArgs {
    #[command(flatten)]
    order: OrderArgs,
}

/// `midplane rollback`
#[derive(Debug, Args)]
#[command(after_help = "\
Config and plugins become those of an older generation, from the copies that the
host keeps; files are neither needed nor changed. They stay so, over restarts
too, until the config's bytes change or `midplane resume`. `midplane status`
lists the generations that are kept.

Examples:
  midplane rollback            to the generation before the live one
  midplane rollback --to 41

One plugin alone: `midplane plugin rollback NAME`.")]
pub(super) struct RollbackArgs {
    /// The generation whose contents are wanted [default: the one before the live one]
    #[arg(long, value_name = "GENERATION")]
    to: Option<u64>,

    #[command(flatten)]
    order: OrderArgs,
}

/// `midplane resume`
#[derive(Debug, Args)]
#[command(after_help = "\
After `midplane rollback` the files change nothing. This makes the host look at
them again: `midplane plan` says before what that would change.")]
pub(super) struct ResumeArgs {
    #[command(flatten)]
    order: OrderArgs,
}

pub(super) fn reload(args: &ReloadArgs) -> Result<Exit, Failure> {
    give(&args.order, "/api/v1/reload", &json!({}))
}

pub(super) fn rollback(args: &RollbackArgs) -> Result<Exit, Failure> {
    give(&args.order, "/api/v1/rollback", &json!({ "generation": args.to }))
}

pub(super) fn resume(args: &ResumeArgs) -> Result<Exit, Failure> {
    give(&args.order, "/api/v1/resume", &json!({}))
}

/// Gives an order, and prints what was done.
pub(super) fn give(args: &OrderArgs, path: &str, particulars: &impl Serialize) -> Result<Exit, Failure> {
    let done = args.host.client()?.order(path, particulars, args.wait)?;
    let text = match args.output {
        Output::Text => done.message,
        Output::Json => serde_json::to_string_pretty(&done).map_err(Failure::failed)?,
    };
    writeln!(std::io::stdout(), "{text}")?;
    Ok(Exit::Done)
}
