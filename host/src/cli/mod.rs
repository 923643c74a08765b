//! The command line: arguments, commands, exit codes. Never decides anything about events.

mod broker;
pub mod check;
mod completions;
mod connect;
mod dlq;
mod exit;
mod host;
mod orders;
mod partition;
mod plan;
mod plugin;
mod route;
mod run;
mod status;
mod table;
#[cfg(test)]
mod testing;
mod topic;

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use tracing::Level;

pub use exit::{Exit, Failure};

use crate::config::{self, Loaded, Problems};
use crate::control::logging;
use crate::data::plugin::THREAD_STACK_BYTES;

/// Routes events from Kafka topics, through WebAssembly plugins, to Kafka topics.
#[derive(Debug, Parser)]
#[command(name = "midplane", version, max_term_width = 100, after_help = EXAMPLES, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  midplane check        what would run with ./midplane.toml, or what is wrong
  midplane run          run it until SIGTERM or Ctrl-C
  midplane topic list   the topics of the broker that ./midplane.toml names
  echo '{\"amount\": 12}' | midplane topic produce payments
  midplane topic consume payments --from-beginning
  midplane status       what a running host runs, and whether it is well
  midplane plan         what a reload would change
  midplane dlq list     what failed, and why, counted
  midplane rollback     back to what ran before the last change
  midplane partition list   what stands still, and why

Exit codes:
  0 done   1 failed while running   2 wrong usage   3 config or plugin refused
  4 broker or host unreachable   5 stopped, but something was not acknowledged in time
  10 `plan` would change something

Without a [broker] in the config, `midplane run` starts a broker of its own on
this machine, which every Kafka client can talk to.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the router until SIGTERM or Ctrl-C
    Run(run::RunArgs),
    /// Say what would run with a config, or all that is wrong with it
    Check(check::CheckArgs),
    /// Say what a reload of a running host would change
    Plan(plan::PlanArgs),
    /// Say what a running host runs, and whether it is well
    Status(status::StatusArgs),
    /// Make a running host take up its files now, and say how that went
    Reload(orders::ReloadArgs),
    /// Go back to an older generation of config and plugins, and hold it
    Rollback(orders::RollbackArgs),
    /// End the hold of a rollback: follow the files again
    Resume(orders::ResumeArgs),
    /// Look at plugins and their versions; pin them, roll them back
    Plugin(plugin::PluginArgs),
    /// Pause routes, and let them go on
    Route(route::RouteArgs),
    /// Look at partitions; have those that stopped try again, or skip what stopped them
    Partition(partition::PartitionArgs),
    /// Run the embedded broker alone, until SIGTERM or Ctrl-C
    Broker(broker::BrokerArgs),
    /// List, create and delete topics; write and read their events
    Topic(topic::TopicArgs),
    /// Look at dead letters, and send them through their routes again
    Dlq(dlq::DlqArgs),
    /// Print a shell's completion script
    Completions(completions::CompletionsArgs),
}

/// The config file, as every command takes it.
#[derive(Debug, Clone, Args)]
pub struct ConfigArgs {
    /// The config file
    #[arg(long, value_name = "FILE", default_value = "midplane.toml")]
    pub config: PathBuf,
}

impl ConfigArgs {
    /// The config, without what only the plugins' bytes could tell of it.
    ///
    /// # Errors
    /// When it is refused.
    fn load(&self) -> Result<Loaded, Failure> {
        config::load(&self.config).map_err(|problems| refused(&problems))
    }

    /// As [`Self::load`], for commands that use the config and say nothing of it themselves: what is doubtful about it is
    /// shown, and they go on.
    ///
    /// # Errors
    /// When it is refused.
    fn load_with_warnings(&self) -> Result<Loaded, Failure> {
        let mut loaded = self.load()?;
        // That there is nothing to route is no news to who only wants a broker.
        loaded.warnings.list.retain(|problem| problem.offending != "routes");
        if !loaded.warnings.is_empty() {
            let stderr = std::io::stderr();
            write!(&stderr, "{}", loaded.warnings.render(check::style(&stderr)))?;
        }
        Ok(loaded)
    }
}

/// The failure that a refused config is: all its problems, as `midplane check` shows them.
fn refused(problems: &Problems) -> Failure {
    let problems = problems.render(check::style(&std::io::stderr()));
    Failure::refused(format!("the config is refused\n\n{}", problems.trim_end()))
}

/// Runs the command line of this process, and says how it ended.
pub fn main() -> Exit {
    // Some commands call plugins, and the main thread's stack is whatever the shell has set.
    let thread = std::thread::Builder::new().name("main".to_owned()).stack_size(THREAD_STACK_BYTES);
    match thread.spawn(|| run(std::env::args_os())).map(std::thread::JoinHandle::join) {
        Ok(Ok(exit)) => exit,
        Ok(Err(panic)) => std::panic::resume_unwind(panic),
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "midplane: no thread can be started: {error}");
            Exit::Failed
        }
    }
}

fn run(args: impl IntoIterator<Item = OsString>) -> Exit {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are errors to clap, and none to whoever asked for them.
            let exit = if error.use_stderr() { Exit::Usage } else { Exit::Done };
            let _ = error.print();
            return exit;
        }
    };
    match dispatch(cli.command) {
        Ok(exit) => exit,
        Err(failure) => {
            let _ = writeln!(std::io::stderr(), "midplane: {}", failure.message);
            failure.exit
        }
    }
}

fn dispatch(command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Run(args) => run::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Plan(args) => quiet(|| plan::run(&args)),
        Command::Status(args) => quiet(|| status::run(&args)),
        Command::Reload(args) => quiet(|| orders::reload(&args)),
        Command::Rollback(args) => quiet(|| orders::rollback(&args)),
        Command::Resume(args) => quiet(|| orders::resume(&args)),
        Command::Plugin(args) => quiet(|| plugin::run(&args)),
        Command::Route(args) => quiet(|| route::run(&args)),
        Command::Partition(args) => quiet(|| partition::run(&args)),
        Command::Broker(args) => broker::run(&args),
        Command::Topic(args) => quiet(|| topic::run(&args)),
        Command::Dlq(args) => quiet(|| dlq::run(&args)),
        Command::Completions(args) => completions::run(&args),
    }
}

/// For commands whose output is what they were asked for: the log shows only what went wrong, and not what librdkafka
/// says of connections, since a failure of those ends the command with a message of its own.
fn quiet(command: impl FnOnce() -> Result<Exit, Failure>) -> Result<Exit, Failure> {
    if std::env::var_os("RUST_LOG").is_some() {
        logging::start(logging::Format::Auto, Level::WARN).map_err(Failure::usage)?;
    }
    command()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
