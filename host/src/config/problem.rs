//! What is wrong with a config: where, what, what was expected, what to do. Never holds a value that came from the
//! environment or from a file: messages are made of what is written in the config.

use std::path::PathBuf;
use std::sync::Arc;

use super::inputs::Inputs;

/// A stretch of one of the files that were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Index into the files, in the order in which they were read.
    pub file: usize,
    /// First byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
}

/// One file that was read.
#[derive(Debug, Clone)]
pub struct Source {
    /// As people know it: relative to where they are.
    pub path: PathBuf,
    /// All of it.
    pub text: Arc<str>,
}

/// Whether a config can be used in spite of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// No.
    Error,
    /// Yes, but somebody should look.
    Warning,
}

impl Severity {
    /// As it is printed.
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
        }
    }
}

/// One thing that is wrong, or suspicious.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Whether the config can be used in spite of it.
    pub severity: Severity,
    /// Where; nowhere when the file itself can't be read.
    pub at: Option<Place>,
    /// The offending text as it stands in the file, or the name that is missing there.
    pub offending: String,
    /// Lower case, with the offending text in backticks.
    pub message: String,
    /// What could stand there.
    pub expected: Option<String>,
    /// What to do about it, where that is known.
    pub hint: Option<String>,
    /// Another place that has to do with it, and what is there.
    pub related: Option<(Place, String)>,
}

impl Problem {
    /// An error. `message` names `offending` in backticks.
    pub fn error(at: Place, offending: impl Into<String>, message: impl Into<String>) -> Self {
        let (offending, message) = (offending.into(), message.into());
        debug_assert!(message.contains(&format!("`{offending}`")), "{message} doesn't name {offending}");
        Self { severity: Severity::Error, at: Some(at), offending, message, expected: None, hint: None, related: None }
    }

    /// A warning. `message` names `offending` in backticks.
    pub fn warning(at: Place, offending: impl Into<String>, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(at, offending, message) }
    }

    /// Adds what could stand there.
    #[must_use]
    pub fn expected(mut self, expected: impl Into<String>) -> Self {
        self.expected = Some(expected.into());
        self
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds what to do about it, if anything is known.
    #[must_use]
    pub fn hint_if(mut self, hint: Option<String>) -> Self {
        self.hint = hint;
        self
    }

    /// Adds another place.
    #[must_use]
    pub fn related(mut self, at: Place, label: impl Into<String>) -> Self {
        self.related = Some((at, label.into()));
        self
    }
}

/// All that is wrong with a config, by file and line, with the files to point into.
#[derive(Debug, Clone, Default)]
pub struct Problems {
    /// The files, in the order in which they were read.
    pub sources: Arc<[Source]>,
    /// In the order of the files and of their lines.
    pub list: Vec<Problem>,
    /// What the config depends on: what is wrong may be put right in any of these.
    pub inputs: Arc<Inputs>,
}

impl Problems {
    /// Sorts what was found.
    pub fn new(sources: Arc<[Source]>, mut list: Vec<Problem>) -> Self {
        list.sort_by_key(|problem| problem.at);
        list.dedup();
        Self { sources, list, inputs: Arc::default() }
    }

    /// Adds what was found elsewhere in the same files.
    pub fn add(&mut self, others: &Self) {
        self.list.extend(others.list.iter().cloned());
        self.list.sort_by_key(|problem| problem.at);
    }

    /// Whether there is nothing to say.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// How many there are of a severity.
    pub fn count(&self, severity: Severity) -> usize {
        self.list.iter().filter(|problem| problem.severity == severity).count()
    }

    /// Line and column of a place, both from 1; columns count characters.
    pub fn position(&self, place: Place) -> (usize, usize) {
        self.sources.get(place.file).map_or((1, 1), |source| position(&source.text, place.start))
    }
}

/// Line and column of a byte, both from 1; columns count characters.
pub(super) fn position(text: &str, byte: usize) -> (usize, usize) {
    let before = &text[..text.floor_char_boundary(byte)];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_lines_and_characters() {
        let check = |byte, expected| assert_eq!(position("ab\nçé\n\nx", byte), expected, "byte {byte}");
        check(0, (1, 1));
        check(2, (1, 3));
        check(3, (2, 1));
        check(5, (2, 2));
        check(8, (3, 1));
        check(9, (4, 1));
        check(99, (4, 2));
    }
}
