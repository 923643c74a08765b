//! What would be said again and again, as it is tried again and again: said now and then. And how often it is tried.

use std::collections::HashMap;
use std::time::Duration;

use crate::data::engine::Now;
use crate::kafka::Code;

/// How long something stays said.
const SAID_FOR: Duration = Duration::from_secs(10);
/// How long the broker is left alone after it has refused.
const REFUSED_WAIT: Duration = Duration::from_millis(200);

/// What was said, and when.
#[derive(Debug, Default)]
pub(super) struct Said {
    at: HashMap<(&'static str, Option<Code>), Now>,
    refused: Option<Now>,
}

impl Said {
    /// Whether to say something, for a reason. Not if it was said a moment ago, for the same one.
    pub(super) fn is_news(&mut self, what: &'static str, why: Option<Code>, now: Now) -> bool {
        let last = self.at.get(&(what, why));
        let news = last.is_none_or(|last| now.saturating_sub(*last) >= SAID_FOR);
        if news {
            self.at.insert((what, why), now);
        }
        news
    }

    /// The broker has just refused to say where partitions begin.
    pub(super) fn refused(&mut self, now: Now) {
        self.refused = Some(now);
    }

    /// When it may be asked again, if that is not now.
    pub(super) fn not_before(&self) -> Option<Now> {
        self.refused.map(|refused| refused + REFUSED_WAIT)
    }
}

/// The right that this host's user lacks, where that is why the broker said no about a group.
pub(super) fn lacks(code: Option<Code>, group: &str) -> Option<String> {
    let on = match code? {
        Code::GROUP_AUTHORIZATION_FAILED => format!("the group `{group}`"),
        Code::TOPIC_AUTHORIZATION_FAILED => "each topic that it reads".to_owned(),
        _ => return None,
    };
    Some(format!("this host's user needs the right `Read` on {on}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_said_once_in_a_while() {
        let mut said = Said::default();
        let at = Duration::from_secs;
        let (one, other) = (Some(Code::GROUP_AUTHORIZATION_FAILED), Some(Code::TRANSPORT));
        assert!(said.is_news("a", one, at(1)));
        assert!(!said.is_news("a", one, at(2)) && said.is_news("a", other, at(2)) && said.is_news("b", one, at(2)));
        assert!(said.is_news("a", one, at(11)) && !said.is_news("a", one, at(20)));
    }
}
