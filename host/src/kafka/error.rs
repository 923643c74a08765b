//! What can go wrong between this process and the broker, with what a person needs to act on it.

use std::ffi::CStr;
use std::fmt;

use rdkafka::bindings as rdsys;

/// An error code of the Kafka protocol (positive) or of the client (negative).
///
/// A number and not librdkafka's enumeration, since a newer broker may send codes that the enumeration doesn't know.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Code(pub i32);

impl Code {
    /// No error.
    pub const NONE: Self = Self(0);
    /// The committed or given offset isn't in the log.
    pub const OFFSET_OUT_OF_RANGE: Self = Self(1);
    /// No such topic or partition.
    pub const UNKNOWN_TOPIC_OR_PARTITION: Self = Self(3);
    /// The record is larger than the topic takes.
    pub const MESSAGE_TOO_LARGE: Self = Self(10);
    /// The generation of the group has moved on.
    pub const ILLEGAL_GENERATION: Self = Self(22);
    /// The group doesn't know this member.
    pub const UNKNOWN_MEMBER_ID: Self = Self(25);
    /// The group is between two generations.
    pub const REBALANCE_IN_PROGRESS: Self = Self(27);
    /// The record's timestamp is further from the broker's clock than the topic takes.
    pub const INVALID_TIMESTAMP: Self = Self(32);
    /// A newer producer has the transactional id.
    pub const INVALID_PRODUCER_EPOCH: Self = Self(47);
    /// The topic is there already.
    pub const TOPIC_ALREADY_EXISTS: Self = Self(36);
    /// A topic can't have this setting, or not with this value.
    pub const INVALID_CONFIG: Self = Self(40);
    /// The topic may not be used by this user.
    pub const TOPIC_AUTHORIZATION_FAILED: Self = Self(29);
    /// The group may not be used by this user.
    pub const GROUP_AUTHORIZATION_FAILED: Self = Self(30);
    /// The transactional id may not be used by this user.
    pub const TRANSACTIONAL_ID_AUTHORIZATION_FAILED: Self = Self(53);
    /// No such group.
    pub const GROUP_ID_NOT_FOUND: Self = Self(69);
    /// The broker refuses the record itself.
    pub const INVALID_RECORD: Self = Self(87);
    /// An open transaction stands before the committed offset.
    pub const UNSTABLE_OFFSET_COMMIT: Self = Self(88);

    /// The client's: a batch of records is damaged.
    pub const BAD_MSG: Self = Self(-199);
    /// The client's: a batch of records can't be decompressed.
    pub const BAD_COMPRESSION: Self = Self(-198);
    /// The client's: a batch of records, or its compression, is of a kind that the client doesn't know.
    pub const NOT_IMPLEMENTED: Self = Self(-170);
    /// The client's: the connection was lost.
    pub const TRANSPORT: Self = Self(-195);
    /// The client's: the end of a partition was reached.
    pub const PARTITION_EOF: Self = Self(-191);
    /// The client's: it was asked for something that can't be.
    pub const INVALID_ARGUMENT: Self = Self(-186);
    /// The client's: the partition isn't assigned, or stands still after an error.
    pub const STATE: Self = Self(-172);
    /// The client's: it gave up waiting.
    pub const TIMED_OUT: Self = Self(-185);
    /// The client's: no such partition.
    pub const UNKNOWN_PARTITION: Self = Self(-190);
    /// The client's: no such topic.
    pub const UNKNOWN_TOPIC: Self = Self(-188);
    /// The client's: the producer's buffer is full.
    pub const QUEUE_FULL: Self = Self(-184);
    /// The client's: the group's coordinator isn't known yet.
    pub const WAIT_COORDINATOR: Self = Self(-180);
    /// The client's: no committed offset, and no policy to choose one.
    pub const NO_OFFSET: Self = Self(-168);
    /// The client's: the record was purged from the producer's buffer.
    pub const PURGE_QUEUE: Self = Self(-152);
    /// The client's: the record was purged while on its way; it may have been written.
    pub const PURGE_INFLIGHT: Self = Self(-151);
    /// The client's: this client can't go on.
    pub const FATAL: Self = Self(-150);
    /// A newer producer has the transactional id.
    pub const PRODUCER_FENCED: Self = Self(90);
    /// The client's: a newer client has its name.
    pub const FENCED: Self = Self(-144);
    /// The client's: an offset that isn't there, or none at all, and `auto.offset.reset=error`.
    pub const AUTO_OFFSET_RESET: Self = Self(-140);
    /// Another record of the batch was refused, and this one with it.
    pub const INVALID_DIFFERENT_RECORD: Self = Self(-138);

    /// What librdkafka knows of it.
    fn describe(self) -> Option<(&'static str, &'static str)> {
        let (mut table, mut count) = (std::ptr::null(), 0);
        // SAFETY: the table is static memory of the library, `count` entries long. Its codes are read as numbers, since
        // the gaps between the known ones hold values that the Rust enumeration lacks.
        unsafe {
            rdsys::rd_kafka_get_err_descs(&mut table, &mut count);
            for index in 0..count {
                let entry = table.add(index);
                let code = std::ptr::addr_of!((*entry).code).cast::<i32>().read();
                if code != self.0 || (*entry).name.is_null() || (*entry).desc.is_null() {
                    continue;
                }
                let name = CStr::from_ptr((*entry).name).to_str().unwrap_or("unknown");
                let text = CStr::from_ptr((*entry).desc).to_str().unwrap_or("unknown");
                return Some((name, text));
            }
        }
        None
    }

    /// Its name, as in the protocol's documentation: `UNKNOWN_TOPIC_OR_PART`, `_TIMED_OUT`.
    pub fn name(self) -> &'static str {
        self.describe().map_or("unknown", |(name, _)| name)
    }

    /// Whether a consumer that says this has records behind it that it will never deliver, and goes on with those after them.
    pub fn passes_records_over(self) -> bool {
        matches!(self, Self::BAD_MSG | Self::BAD_COMPRESSION | Self::NOT_IMPLEMENTED)
    }

    /// Whether it may be otherwise in a moment, though nobody does anything: coordinators and leaders move, and are elected.
    pub fn may_pass(self) -> bool {
        const LEADERS: [i32; 5] = [5, 6, 7, 9, 13];
        const COORDINATORS: [i32; 3] = [14, 15, 16];
        let moving = LEADERS.contains(&self.0) || COORDINATORS.contains(&self.0);
        moving
            || matches!(self, Self::TIMED_OUT | Self::TRANSPORT | Self::WAIT_COORDINATOR | Self::UNSTABLE_OFFSET_COMMIT)
    }

    /// Whether somebody else has a producer's name.
    pub fn is_fenced(self) -> bool {
        matches!(self, Self::FENCED | Self::PRODUCER_FENCED | Self::INVALID_PRODUCER_EPOCH)
    }

    /// Whether it stays as it is until somebody grants something, changes a setting, or another version of the broker.
    pub fn is_final(self) -> bool {
        const AUTHORIZATION: [i32; 4] = [29, 30, 31, 53];
        const SETTINGS: [i32; 4] = [35, 50, -165, -186];
        AUTHORIZATION.contains(&self.0) || SETTINGS.contains(&self.0)
    }

    /// `None` where there is no error.
    pub fn error(self) -> Option<Self> {
        (self != Self::NONE).then_some(self)
    }

    /// Reads a code where C wrote it, as the number that it is.
    ///
    /// # Safety
    /// `field` points to a readable code.
    pub(super) unsafe fn read(field: *const rdsys::rd_kafka_resp_err_t) -> Self {
        // SAFETY: the enumeration has the layout of an `i32`, and the caller promised that it can be read.
        Self(unsafe { field.cast::<i32>().read() })
    }
}

impl From<rdsys::rd_kafka_resp_err_t> for Code {
    fn from(code: rdsys::rd_kafka_resp_err_t) -> Self {
        Self(code as i32)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.describe() {
            Some((name, text)) => write!(f, "{text} ({name})"),
            None => write!(f, "error code {} of the broker", self.0),
        }
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Code({}, {})", self.0, self.name())
    }
}

/// What a call to the client can fail with.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// A setting was refused. Never shows the value, which may be a secret.
    #[error("client setting `{name}` was refused by librdkafka ({hint})")]
    Setting {
        /// Its name.
        name: String,
        /// Why.
        hint: &'static str,
    },
    /// The client couldn't be made.
    #[error("the client couldn't be made: {message}")]
    Client {
        /// librdkafka's words.
        message: String,
    },
    /// A name that no topic, group or setting can have.
    #[error("`{name}` can't be the name of a topic, a group or a setting (it contains a NUL)")]
    Name {
        /// The name.
        name: String,
    },
    /// The broker couldn't be reached, or didn't answer in time.
    #[error("{action}: no answer from the broker within {timeout_ms} ms ({code})")]
    Unreachable {
        /// What was attempted.
        action: &'static str,
        /// How long it was waited for.
        timeout_ms: u64,
        /// What the client said.
        code: Code,
    },
    /// The broker, or the client, said no.
    #[error("{action}: {code}")]
    Refused {
        /// What was attempted.
        action: &'static str,
        /// Why not.
        code: Code,
    },
    /// The broker, or the client, said no about one topic.
    #[error("{action}: topic `{topic}`: {message}")]
    Topic {
        /// What was attempted.
        action: &'static str,
        /// The topic.
        topic: String,
        /// Why not.
        code: Code,
        /// Why not, in the broker's words where it has some.
        message: String,
    },
    /// The broker, or the client, said no about one partition.
    #[error("{action}: partition {partition} of topic `{topic}`: {code}")]
    Partition {
        /// What was attempted.
        action: &'static str,
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// Why not.
        code: Code,
    },
    /// This client can't go on: it must be replaced.
    #[error("the client can't go on: {message} ({code})")]
    Fatal {
        /// Why.
        code: Code,
        /// librdkafka's words.
        message: String,
    },
}

impl Error {
    /// Whether the same may work in a moment: the broker didn't answer, or isn't ready.
    pub fn may_pass(&self) -> bool {
        !matches!(self, Self::Fatal { .. }) && self.code().is_some_and(Code::may_pass)
    }

    /// The code, where one is known.
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::Setting { .. } | Self::Client { .. } | Self::Name { .. } => None,
            Self::Unreachable { code, .. }
            | Self::Refused { code, .. }
            | Self::Topic { code, .. }
            | Self::Partition { code, .. }
            | Self::Fatal { code, .. } => Some(*code),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_the_names_that_librdkafka_gives_them() {
        let check = |code: Code, expected: &str| assert_eq!(code.name(), expected);
        check(Code::OFFSET_OUT_OF_RANGE, "OFFSET_OUT_OF_RANGE");
        check(Code::UNKNOWN_TOPIC_OR_PARTITION, "UNKNOWN_TOPIC_OR_PART");
        check(Code::MESSAGE_TOO_LARGE, "MSG_SIZE_TOO_LARGE");
        check(Code::ILLEGAL_GENERATION, "ILLEGAL_GENERATION");
        check(Code::UNKNOWN_MEMBER_ID, "UNKNOWN_MEMBER_ID");
        check(Code::REBALANCE_IN_PROGRESS, "REBALANCE_IN_PROGRESS");
        check(Code::TOPIC_ALREADY_EXISTS, "TOPIC_ALREADY_EXISTS");
        check(Code::INVALID_TIMESTAMP, "INVALID_TIMESTAMP");
        check(Code::INVALID_CONFIG, "INVALID_CONFIG");
        check(Code::BAD_MSG, "_BAD_MSG");
        check(Code::BAD_COMPRESSION, "_BAD_COMPRESSION");
        check(Code::NOT_IMPLEMENTED, "_NOT_IMPLEMENTED");
        check(Code::TOPIC_AUTHORIZATION_FAILED, "TOPIC_AUTHORIZATION_FAILED");
        check(Code::GROUP_AUTHORIZATION_FAILED, "GROUP_AUTHORIZATION_FAILED");
        check(Code::TRANSACTIONAL_ID_AUTHORIZATION_FAILED, "TRANSACTIONAL_ID_AUTHORIZATION_FAILED");
        check(Code::GROUP_ID_NOT_FOUND, "GROUP_ID_NOT_FOUND");
        check(Code::UNSTABLE_OFFSET_COMMIT, "UNSTABLE_OFFSET_COMMIT");
        check(Code::PARTITION_EOF, "_PARTITION_EOF");
        check(Code::TIMED_OUT, "_TIMED_OUT");
        check(Code::INVALID_ARGUMENT, "_INVALID_ARG");
        check(Code::STATE, "_STATE");
        check(Code::TRANSPORT, "_TRANSPORT");
        check(Code::WAIT_COORDINATOR, "_WAIT_COORD");
        check(Code::UNKNOWN_PARTITION, "_UNKNOWN_PARTITION");
        check(Code::UNKNOWN_TOPIC, "_UNKNOWN_TOPIC");
        check(Code::QUEUE_FULL, "_QUEUE_FULL");
        check(Code::NO_OFFSET, "_NO_OFFSET");
        check(Code::PURGE_QUEUE, "_PURGE_QUEUE");
        check(Code::PURGE_INFLIGHT, "_PURGE_INFLIGHT");
        check(Code::FATAL, "_FATAL");
        check(Code::AUTO_OFFSET_RESET, "_AUTO_OFFSET_RESET");
        check(Code(29_999), "unknown");
    }
}
