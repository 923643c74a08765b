//! What the checker finds, by kinds, and how it says so.

use std::collections::BTreeMap;
use std::fmt;

/// What a finding is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// An event is committed, and nothing is there of it.
    Lost,
    /// An event is committed, and only a part of its outputs is there.
    Torn,
    /// Something is there more often than may be.
    Repeated,
    /// Exactly once: something can be read of an event that isn't committed.
    Premature,
    /// Something is there that no event asked for.
    Unasked,
    /// A letter and outputs of one event are there.
    Contradicted,
    /// A letter is there instead of outputs, or the other way round.
    Mistaken,
    /// Something is in another topic than it should be.
    Astray,
    /// Events of a partition, or outputs of an event, are not in their order.
    Disordered,
    /// A record is in another partition than its key says.
    Misplaced,
    /// A record has another key than its event.
    Rekeyed,
    /// No generation made all of an event's outputs.
    Mixed,
    /// A generation comes after a later one.
    GenerationFellBack,
    /// One generation of a route ran different versions.
    TwoVersions,
    /// A committed position went back.
    CommitFellBack,
    /// A position is committed that is behind the input's end.
    CommitTooFar,
    /// Not everything was worked off in the end.
    Stuck,
    /// A process holds more than it did before.
    Leaked,
}

/// One thing that is wrong.
#[derive(Debug, Clone)]
pub struct Finding {
    /// What it is about.
    pub kind: Kind,
    /// What exactly.
    pub what: String,
}

/// What was judged, and all that is wrong.
#[derive(Debug, Clone, Default)]
pub struct Verdict {
    /// Everything that is wrong.
    pub findings: Vec<Finding>,
    /// How many events there were.
    pub events: usize,
    /// How many outputs could be read in the end.
    pub outputs: usize,
    /// How many letters could be read in the end.
    pub letters: usize,
    /// How many of these were repetitions, allowed ones included.
    pub repeats: usize,
}

/// How many findings of a kind are told in full.
const EXAMPLES: usize = 5;

impl Verdict {
    pub(super) fn find(&mut self, kind: Kind, what: impl FnOnce() -> String) {
        self.findings.push(Finding { kind, what: what() });
    }

    /// How many findings there are of each kind.
    pub fn kinds(&self) -> BTreeMap<Kind, usize> {
        let mut kinds = BTreeMap::new();
        for finding in &self.findings {
            *kinds.entry(finding.kind).or_default() += 1;
        }
        kinds
    }

    /// How many findings there are of one kind.
    pub fn count(&self, kind: Kind) -> usize {
        self.findings.iter().filter(|finding| finding.kind == kind).count()
    }

    /// Asserts that all is as it should be.
    ///
    /// # Panics
    /// When something isn't: with what it is.
    #[track_caller]
    pub fn assert(&self) {
        assert!(self.findings.is_empty(), "{self}");
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { events, outputs, letters, repeats, .. } = self;
        write!(f, "{events} events, {outputs} outputs, {letters} letters, {repeats} repeated")?;
        for (kind, count) in self.kinds() {
            write!(f, "\n{kind:?}: {count}")?;
            let examples = self.findings.iter().filter(|finding| finding.kind == kind).take(EXAMPLES);
            examples.into_iter().try_for_each(|finding| write!(f, "\n  {}", finding.what))?;
        }
        Ok(())
    }
}
