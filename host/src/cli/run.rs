//! `midplane run`: the config, the log, the runtime, and then the host until it is told to stop.

use std::time::Duration;

use clap::Args;
use tracing::Level;

use super::{ConfigArgs, Exit, Failure, refused};
use crate::config;
use crate::control::logging::{self, Format};
use crate::control::{prepare, run, shards};
use crate::data::plugin::THREAD_STACK_BYTES;

/// How long a thread that waits for the disk, or compiles, is kept without work: less than the pause between two looks at the
/// files, which would keep as many as were ever needed at once, each with memory that it freed and its allocator holds.
const IDLE_MAX: Duration = Duration::from_secs(1);

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
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.thread_name("control").thread_keep_alive(IDLE_MAX).thread_stack_size(THREAD_STACK_BYTES).enable_all();
    let runtime = builder.build()?;
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
