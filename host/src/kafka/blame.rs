//! Which records a broker refused a batch for. The broker says it, and librdkafka (2.12.1) tells it from each record's code,
//! unless it was one record: then all of the batch get its code (`rd_kafka_dr_msgq0` has the interceptors overwrite it). What
//! still tells them apart is the text of the error: the innocent share one. Texts are compared by address and never read, since
//! those of the guilty are freed before anybody gets them.

use std::sync::atomic::{AtomicUsize, Ordering};

use rdkafka::bindings as rdsys;

use super::error::Code;

/// Where the text of the innocent is, once it was seen; it never moves.
static INNOCENT: AtomicUsize = AtomicUsize::new(0);

/// Who is to blame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Blame {
    /// Those whose code says so.
    ByCode,
    /// Those with another text than the one at this address.
    ButFor(usize),
    /// All.
    All,
    /// One of them, or all: nobody knows.
    Unclear,
}

impl Blame {
    /// Of the records of one batch, all of which failed.
    pub(super) fn of(messages: &[*const rdsys::rd_kafka_message_t]) -> Self {
        let read = |&message: &*const rdsys::rd_kafka_message_t| {
            // SAFETY: the message is live, and the field readable; the text is not looked at.
            unsafe {
                let code = Code::read(std::ptr::addr_of!((*message).err));
                (code, rdsys::rd_kafka_message_produce_errstr(message) as usize)
            }
        };
        let read: Vec<_> = messages.iter().map(read).collect();
        if let Some((_, text)) = read.iter().find(|(code, _)| *code == Code::INVALID_DIFFERENT_RECORD) {
            INNOCENT.store(*text, Ordering::Relaxed);
            return Self::ByCode;
        }
        let texts: Vec<_> = read.into_iter().map(|(_, text)| text).collect();
        let blame = Self::by_texts(&texts, INNOCENT.load(Ordering::Relaxed));
        if let Self::ButFor(innocent) = blame {
            INNOCENT.store(innocent, Ordering::Relaxed);
        }
        blame
    }

    /// By the addresses of the texts; `known` is that of the innocent, or 0. The guilty have one each.
    fn by_texts(texts: &[usize], known: usize) -> Self {
        let shared = texts.iter().find(|text| texts.iter().filter(|other| other == text).count() > 1);
        match (texts, shared) {
            ([_], _) => Self::All,
            (_, Some(shared)) if texts.iter().all(|text| text == shared) => Self::Unclear,
            (_, Some(shared)) => Self::ButFor(*shared),
            (texts, None) if known != 0 && texts.contains(&known) => Self::ButFor(known),
            // One that is guilty, or two.
            ([_, _], None) if known == 0 => Self::Unclear,
            (_, None) => Self::All,
        }
    }

    /// The error of one of the records, where the batch's is `whole`; and whether that may be another one's.
    pub(super) fn error(self, message: *const rdsys::rd_kafka_message_t, whole: Code) -> (Code, bool) {
        // SAFETY: the message is live, and the field readable; the text is not looked at.
        let (code, text) = unsafe {
            let code = Code::read(std::ptr::addr_of!((*message).err));
            (code, rdsys::rd_kafka_message_produce_errstr(message) as usize)
        };
        let is_innocent = match self {
            Self::ByCode => code == Code::INVALID_DIFFERENT_RECORD,
            Self::ButFor(innocent) => text == innocent,
            Self::All | Self::Unclear => false,
        };
        (if is_innocent { Code::INVALID_DIFFERENT_RECORD } else { whole }, self == Self::Unclear)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innocent_share_a_text() {
        let check = |texts: &[usize], known, expected| assert_eq!(Blame::by_texts(texts, known), expected, "{texts:?}");
        check(&[7], 0, Blame::All);
        check(&[7, 1, 1], 0, Blame::ButFor(1));
        check(&[1, 1, 7, 1], 9, Blame::ButFor(1));
        check(&[5, 6, 7], 0, Blame::All);
        check(&[5, 6, 7], 1, Blame::All);
        check(&[1, 7], 1, Blame::ButFor(1));
        check(&[6, 7], 1, Blame::All);
        check(&[6, 7], 0, Blame::Unclear);
        check(&[0, 0], 0, Blame::Unclear);
        check(&[3, 3, 3], 1, Blame::Unclear);
    }
}
