//! Where the log goes and how it looks: standard error, text for people, JSON lines for machines. Never decides what is
//! logged; that is `RUST_LOG`'s.

use std::io::IsTerminal;

use tracing::Level;
use tracing_subscriber::EnvFilter;

/// `--log-format`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Text on a terminal, JSON otherwise
    #[default]
    Auto,
    /// One line of text for each entry
    Text,
    /// One JSON object for each entry
    Json,
}

/// Why the log can't be started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `RUST_LOG` says nothing that can be understood.
    #[error("`RUST_LOG` is not a filter: {0}; expected levels such as `info` or `midplane=debug,warn`")]
    Filter(#[from] tracing_subscriber::filter::FromEnvError),
    /// It was started before.
    #[error("the log is started already")]
    Started,
}

/// Starts the log of this process. `RUST_LOG` wins over `level`, which is what is shown without it.
///
/// # Errors
/// When `RUST_LOG` can't be understood, or the log was started before.
pub fn start(format: Format, level: Level) -> Result<(), Error> {
    let filter = EnvFilter::builder().with_default_directive(level.into()).from_env()?;
    let terminal = std::io::stderr().is_terminal();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = if json(format, terminal) {
        log.json().flatten_event(true).with_current_span(true).with_span_list(false).try_init()
    } else {
        let colour = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        log.with_ansi(colour).try_init()
    };
    started.map_err(|_| Error::Started)
}

/// Whether entries are JSON objects.
fn json(format: Format, terminal: bool) -> bool {
    match format {
        Format::Auto => !terminal,
        Format::Text => false,
        Format::Json => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_read_text_and_machines_json() {
        for (format, terminal, expected) in [
            (Format::Auto, true, false),
            (Format::Auto, false, true),
            (Format::Text, false, false),
            (Format::Json, true, true),
        ] {
            assert_eq!(json(format, terminal), expected, "{format:?}, terminal: {terminal}");
        }
    }
}
