//! `midplane run`: the config, the log, the runtime, and then the host until it is told to stop.

use clap::Args;
use tracing::Level;

use super::{ConfigArgs, Exit, Failure, refused};
use crate::config;
use crate::control::logging::{self, Format};
use crate::control::{prepare, run, shards};

/// Runs the router until SIGTERM or Ctrl-C, which drain and commit; a second one stops at once
#[derive(Debug, Clone, Args)]
pub(super) struct RunArgs {
    #[command(flatten)]
    config: ConfigArgs,

    /// Where the config or a plugin is refused, run the generation that ran last, and say so
    #[arg(long)]
    last_known_good: bool,

    /// How the log on standard error is written
    #[arg(long, value_enum, default_value_t = Format::Auto)]
    log_format: Format,
}

/// Runs the host, and says how it ended.
pub(super) fn run(args: &RunArgs) -> Result<Exit, Failure> {
    let loaded = config::load(&args.config.config);
    logging::start(args.log_format, Level::INFO).map_err(Failure::usage)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().thread_name("control").enable_all().build()?;
    let outcome = runtime.block_on(run::run(loaded, &args.config.config, args.last_known_good));
    // What still runs in the background is of no use to anyone any more.
    runtime.shutdown_background();
    match outcome {
        Ok(true) => Ok(Exit::Done),
        Ok(false) => Ok(Exit::NotClean),
        Err(run::Error::Prepare(prepare::Error::Config(problems))) => Err(refused(&problems)),
        Err(error) if error.is_refusal() => Err(Failure::refused(shards::error_chain(&error))),
        Err(error) => Err(Failure::failed(shards::error_chain(&error))),
    }
}
