//! How a command ends: the exit codes that scripts rely on, and the message that goes with each but the first.

use std::fmt;
use std::process::ExitCode;

/// The exit codes of every command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// It failed while it ran.
    Failed = 1,
    /// The command line is wrong.
    Usage = 2,
    /// The config or a plugin is refused.
    Refused = 3,
    /// The broker or the host can't be reached.
    Unreachable = 4,
    /// Stopped, but something was not acknowledged in time.
    NotClean = 5,
    /// A plan would change something.
    WouldChange = 10,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

/// Why a command did not do what was asked, and the exit code that says so.
#[derive(Debug)]
pub struct Failure {
    /// Never [`Exit::Done`].
    pub exit: Exit,
    /// What a person reads on standard error.
    pub message: String,
}

impl Failure {
    /// A failure while running.
    pub fn failed(message: impl fmt::Display) -> Self {
        Self::new(Exit::Failed, message)
    }

    /// A command line that can't mean anything.
    pub fn usage(message: impl fmt::Display) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// A refused config or plugin.
    pub fn refused(message: impl fmt::Display) -> Self {
        Self::new(Exit::Refused, message)
    }

    /// A broker or host that doesn't answer.
    pub fn unreachable(message: impl fmt::Display) -> Self {
        Self::new(Exit::Unreachable, message)
    }

    fn new(exit: Exit, message: impl fmt::Display) -> Self {
        Self { exit, message: message.to_string() }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Failure::failed(error)
    }
}
