//! Why a partition stands still, as far as a shard knows more of it than the engine decides: what failed, and what was found in
//! the log. Data alone.

use std::time::SystemTime;

use super::failure::Failure;
use crate::kafka::TopicId;

/// One stop of a partition.
#[derive(Debug, Clone)]
pub struct Stop {
    /// Where.
    pub offset: i64,
    /// Since when.
    pub since: SystemTime,
    /// What failed of the event there, by route.
    pub failures: Vec<Known>,
    /// Why nothing can be read there.
    pub unreadable: Option<Unreadable>,
}

/// A failure of the event that a partition stands at.
#[derive(Debug, Clone)]
pub struct Known {
    /// The route's id.
    pub route: String,
    /// The plugin that failed, as an index into the route's stages; none where it was none.
    pub stage: Option<usize>,
    /// The plugin's name.
    pub plugin: Option<String>,
    /// What happened.
    pub failure: Failure,
}

/// Why a partition can't be read on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unreadable {
    /// The offset is not in the log (any more).
    OutOfRange,
    /// What stands there is damaged.
    Damaged {
        /// The client's words.
        reason: String,
    },
    /// The topic was deleted, and another one made under its name.
    Recreated {
        /// What the topic was.
        before: TopicId,
        /// What it is.
        now: TopicId,
    },
}

impl Stop {
    /// A stop at an offset, now.
    pub fn at(offset: i64) -> Self {
        Self { offset, since: SystemTime::now(), failures: Vec::new(), unreadable: None }
    }
}

impl std::fmt::Display for Unreadable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::OutOfRange => f.write_str("the offset is not in the log any more (`out_of_range`)"),
            Self::Damaged { reason } => write!(f, "the records can't be read: {reason}"),
            Self::Recreated { before, now } => {
                write!(f, "the topic was deleted and made anew: its id was {before}, and is {now}")
            }
        }
    }
}
