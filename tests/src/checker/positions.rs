//! Where the group stood, and whether it went on; what processes held of their machine.

use super::finding::{Kind, Verdict};
use super::run::{Positions, Run};

/// Judges the whole run.
pub(super) fn check(run: &Run, verdict: &mut Verdict) {
    let ends = run.ends();
    let mut newest = Positions::new();
    for positions in &run.committed {
        for (&partition, &position) in positions {
            let before = newest.insert(partition, position).unwrap_or(0);
            if position < before {
                verdict.find(Kind::CommitFellBack, || format!("to {position} from {before} in partition {partition}"));
            }
            let end = ends.get(&partition).copied().unwrap_or(0);
            if position > end {
                verdict.find(Kind::CommitTooFar, || format!("{position} of {end} in partition {partition}"));
            }
        }
    }
    let Some(last) = run.looks.last() else { return };
    for (&partition, &end) in &ends {
        let position = last.committed.get(&partition).copied().unwrap_or(0);
        if position < end {
            verdict.find(Kind::Stuck, || format!("at {position} of {end} in partition {partition}"));
        }
    }
    for (before, after) in &run.usages {
        if after.exceeds(*before) {
            verdict.find(Kind::Leaked, || format!("{after:?} after {before:?}"));
        }
    }
}
