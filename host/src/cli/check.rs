//! `midplane check`: what would run with a config, or all that is wrong with it. Loads the plugins, asks no broker, changes
//! nothing.

use std::io::{IsTerminal, Write};

use clap::Args;
use serde_json::json;

use super::topic::Output;
use super::{ConfigArgs, Exit, Failure};
use crate::config::model::Config;
use crate::config::{self, Loaded, Problems, Severity, Style};
use crate::control::plugins::{self, Directory};
use crate::control::tryout;
use crate::data::plugin::{Runtime, RuntimeOptions};

/// `midplane check`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  midplane check
  midplane check --config production.toml --output json
  midplane check --schema >midplane.schema.json    for completion in editors

Exit code 3 says that the config, or a plugin that it names, is refused.")]
pub struct CheckArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// How the result is written
    #[arg(long, value_enum, default_value_t)]
    output: Output,
    /// Print a JSON Schema of the file instead
    #[arg(long)]
    schema: bool,
}

/// Prints what would run, or what is wrong.
///
/// # Errors
///
/// When nothing can be written, or when no plugin could be run on this machine.
pub fn run(args: &CheckArgs) -> Result<Exit, Failure> {
    if args.schema {
        writeln!(std::io::stdout(), "{:#}", config::schema())?;
        return Ok(Exit::Done);
    }
    match config::load(&args.config.config) {
        Err(problems) => {
            show(&problems, args.output, None)?;
            Ok(Exit::Refused)
        }
        Ok(loaded) => check(&loaded, args.output),
    }
}

fn check(loaded: &Loaded, output: Output) -> Result<Exit, Failure> {
    let Directory { available, plugins } = plugins::load(&loaded.config, &runtime(&loaded.config)?);
    let mut problems = loaded.against_plugins(&available);
    if problems.count(Severity::Error) == 0 {
        problems.add(&tryout::config(loaded, plugins));
    }
    problems.add(&loaded.warnings);
    if problems.count(Severity::Error) > 0 {
        show(&problems, output, None)?;
        return Ok(Exit::Refused);
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let summary = loaded.summary(&available, cores);
    show(&problems, output, Some(&summary))?;
    Ok(Exit::Done)
}

/// With the compile cache of the host where there is one: a check makes no folders.
pub(super) fn runtime(config: &Config) -> Result<Runtime, Failure> {
    let cache_directory = config.host.data_directory.is_dir().then(|| config.host.compile_cache());
    let options = RuntimeOptions { cache_directory, stack_bytes: config.host.stack_bytes };
    let uncached = RuntimeOptions { cache_directory: None, ..options.clone() };
    Runtime::new(options).or_else(|_| Runtime::new(uncached)).map_err(Failure::failed)
}

/// Problems go to standard error, what would run to standard output; as JSON all goes there, as one value.
pub(super) fn show(problems: &Problems, output: Output, summary: Option<&config::Summary>) -> Result<(), Failure> {
    match output {
        Output::Json => {
            let mut value = problems.to_json();
            value["summary"] = summary.map_or(Ok(json!(null)), serde_json::to_value).map_err(Failure::failed)?;
            writeln!(std::io::stdout(), "{value:#}")?;
        }
        Output::Text => {
            if !problems.is_empty() {
                write!(std::io::stderr(), "{}", problems.render(style(&std::io::stderr())))?;
            }
            if let Some(summary) = summary {
                write!(std::io::stdout(), "{}", summary.to_text())?;
            }
        }
    }
    Ok(())
}

/// Drawn on a terminal, plain elsewhere.
pub(super) fn style(stream: &impl IsTerminal) -> Style {
    if stream.is_terminal() {
        Style::Drawn { color: std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) }
    } else {
        Style::Plain
    }
}
