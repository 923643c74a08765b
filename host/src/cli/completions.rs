//! `midplane completions`: what a shell needs to complete the command line.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::{Cli, Exit, Failure};

/// `midplane completions`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  midplane completions bash >~/.local/share/bash-completion/completions/midplane
  midplane completions zsh >~/.zfunc/_midplane
  midplane completions fish >~/.config/fish/completions/midplane.fish")]
pub(super) struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

pub(super) fn run(args: &CompletionsArgs) -> Result<Exit, Failure> {
    clap_complete::generate(args.shell, &mut Cli::command(), "midplane", &mut std::io::stdout());
    Ok(Exit::Done)
}
