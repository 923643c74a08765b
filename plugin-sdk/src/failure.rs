//! Why an event could not be processed, and what the host is to do about it.

use std::fmt;

/// What the host does with an event that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// Offers it again, after a pause, until the route's attempts are spent.
    Transient,
    /// Sends it to the dead letters at once.
    Permanent,
}

/// Why an event could not be processed.
///
/// Every error becomes a permanent failure through `?`: a plugin is a function of its event, so what failed once fails
/// again. (For that reason this type isn't an error itself.)
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    kind: FailureKind,
    message: String,
}

impl Failure {
    /// The event may succeed later: it is offered again, and holds its partition up until then.
    pub fn transient(message: impl Into<String>) -> Self {
        Self { kind: FailureKind::Transient, message: message.into() }
    }

    /// The event will never succeed: it goes to the dead letters, with this message.
    pub fn permanent(message: impl Into<String>) -> Self {
        Self { kind: FailureKind::Permanent, message: message.into() }
    }

    /// What the host does with the event.
    pub fn kind(&self) -> FailureKind {
        self.kind
    }

    /// For people: what happened.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::permanent(error.to_string())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            FailureKind::Transient => "transient",
            FailureKind::Permanent => "permanent",
        };
        write!(f, "{kind}: {}", self.message)
    }
}
