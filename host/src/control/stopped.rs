//! Shards that ended by themselves: what that is to the host, when they are started again, and what is shown of them. Decides
//! from values; whoever owns the shards acts on it.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::partitions::time;
use super::shards::{Error, error_chain};
use crate::kafka;

/// How long a shard that can't go on is left alone at first, and at most: each start asks the broker for a place in the group.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const WAIT_MAX: Duration = Duration::from_secs(30);
/// One that ran for so long is left alone as if it had failed for the first time.
const RAN_WELL: Duration = Duration::from_secs(60);

/// What helps a shard that ended by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cure {
    /// Nothing that this process could do.
    NewProcess,
    /// Somebody who sees to it, and says so. Somebody else has its name: who took it back unasked would be fenced in turn, and
    /// so on for ever.
    Order,
    /// Another start, later.
    Time,
}

impl Cure {
    /// Of what a shard ended with. Of the broker's answers, the next one may be another.
    pub(super) fn of(error: &Error) -> Self {
        match error {
            Error::Kafka { source, .. } => match source.code() {
                Some(code) if code.is_fenced() => Self::Order,
                Some(_) => Self::Time,
                None => Self::NewProcess,
            },
            Error::Panicked { .. } | Error::Thread { .. } => Self::NewProcess,
        }
    }
}

/// How often in a row a shard has ended by itself, with the end that has just come.
pub(super) fn in_a_row(before: u32, ran: Duration) -> u32 {
    if ran >= RAN_WELL { 1 } else { before.saturating_add(1) }
}

/// How long a shard is left alone that has ended so often in a row.
pub(super) fn wait(ends: u32) -> Duration {
    FIRST_WAIT.saturating_mul(1 << ends.saturating_sub(1).min(16)).min(WAIT_MAX)
}

/// A shard that ended by itself, as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoppedView {
    /// Its group, whose partitions others may have by now.
    pub group: String,
    /// `GROUP/NUMBER`
    pub shard: String,
    /// Since when.
    pub since: String,
    /// When it is started again by itself; none where somebody has to see to it.
    pub until: Option<String>,
    /// Why, and what helps.
    pub why: String,
}

impl StoppedView {
    /// Of a shard that has just ended; `wait`s so long for its next start.
    pub(super) fn new(group: &str, shard: &str, error: &Error, wait: Option<Duration>) -> Self {
        let cause = match error {
            Error::Kafka { source: kafka::Error::Fatal { message, code }, .. } => {
                format!("{message} ({})", code.name())
            }
            error => error_chain(error),
        };
        let next = match wait {
            Some(_) => "it is started again by itself",
            None => "`midplane reload` or a restart starts it again, once that is seen to",
        };
        let now = SystemTime::now();
        Self {
            group: group.to_owned(),
            shard: shard.to_owned(),
            since: time(now),
            until: wait.map(|wait| time(now + wait)),
            why: format!("{cause}; {next}"),
        }
    }

    /// In a sentence.
    pub fn text(&self) -> String {
        format!("shard {} has stopped: {}", self.shard, self.why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::Code;

    fn ended(source: kafka::Error) -> Error {
        Error::Kafka { shard: "g/0".to_owned(), source }
    }

    fn fatal(code: Code) -> Error {
        ended(kafka::Error::Fatal { code, message: "somebody said no".to_owned() })
    }

    #[test]
    fn what_helps_depends_on_why() {
        let check = |error: Error, expected| assert_eq!(Cure::of(&error), expected, "{error}");
        check(fatal(Code::FENCED), Cure::Order);
        check(fatal(Code::PRODUCER_FENCED), Cure::Order);
        check(fatal(Code::TRANSACTIONAL_ID_AUTHORIZATION_FAILED), Cure::Time);
        check(ended(kafka::Error::Refused { action: "to join", code: Code(30) }), Cure::Time);
        check(ended(kafka::Error::Setting { name: "x".to_owned(), hint: "unknown" }), Cure::NewProcess);
        check(Error::Panicked { shard: "g/0".to_owned(), message: "index".to_owned() }, Cure::NewProcess);
    }

    #[test]
    fn a_shard_is_left_alone_for_longer_each_time() {
        assert_eq!([1, 2, 3, 5, 6, 100].map(|ends| wait(ends).as_secs()), [1, 2, 4, 16, 30, 30]);
        assert_eq!((in_a_row(4, Duration::from_secs(3)), in_a_row(4, Duration::from_secs(61))), (5, 1));
    }

    #[test]
    fn it_is_said_what_helps() {
        let view = |wait| StoppedView::new("g", "g/0", &fatal(Code::FENCED), wait);
        let (alone, again) = (view(None), view(Some(Duration::from_secs(4))));
        let said = "shard g/0 has stopped: somebody said no (_FENCED); ";
        assert_eq!(alone.text(), format!("{said}`midplane reload` or a restart starts it again, once that is seen to"));
        assert_eq!((again.text(), again.until.is_some()), (format!("{said}it is started again by itself"), true));
    }
}
