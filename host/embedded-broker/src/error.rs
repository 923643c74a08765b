//! What can go wrong where the broker meets its caller. What goes wrong for a client is an error code of the protocol.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Why a broker did not start, or did not stop cleanly.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting that a later version will take.
    #[error("not yet supported: {0}")]
    NotYet(String),
    /// A topic that can't be.
    #[error("topic `{name}` is refused: {reason}")]
    Topic {
        /// Its name.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// An advertised address that isn't `host:port`.
    #[error("advertised address `{0}` is refused: expected `host:port`")]
    Advertise(String),
    /// The address is taken, or isn't ours.
    #[error("can't listen on `{address}`: is something else listening there? (port 0 takes any free one)")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// Another process has the folder.
    #[error("data folder `{}` is in use by another broker: stop it, or choose another folder", .0.display())]
    Locked(PathBuf),
    /// The folder isn't of this version.
    #[error("data folder `{}` has format `{found}`, expected `{expected}`: use the version that wrote it, or another folder", path.display())]
    Format {
        /// The folder.
        path: PathBuf,
        /// The first line of its `format` file.
        found: String,
        /// What it should have been.
        expected: String,
    },
    /// A file that holds what can't be.
    #[error("file `{}` is damaged at byte {position}: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where the damage begins.
        position: u64,
        /// What is wrong there.
        reason: String,
    },
    /// The runtime went down meanwhile.
    #[error("interrupted: {0}")]
    Interrupted(String),
    /// The file system refused.
    #[error("can't {action} `{}`", path.display())]
    File {
        /// What was tried, as a verb.
        action: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl Error {
    /// Wraps an error of the file system: `.map_err(Error::file("open", &path))`.
    pub(crate) fn file(action: &'static str, path: &std::path::Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { action, path, source }
    }
}
