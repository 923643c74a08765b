//! Filters: CEL, checked when the config loads, compiled into a predicate over the borrowed event.

use super::event::Event;

/// A checked and compiled expression.
#[derive(Debug)]
pub struct Filter {
    source: String,
}

/// What is wrong with an expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Lower case, with the offending text in backticks and what was expected.
    pub message: String,
    /// Bytes of the expression.
    pub span: std::ops::Range<usize>,
    /// What to do instead, where that is known.
    pub hint: Option<String>,
}

/// What a filter says of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The route takes it.
    Match,
    /// It doesn't.
    NoMatch,
    /// A field or header that the expression reads isn't there: no match, counted apart.
    Absent,
    /// The expression could not be evaluated; the message says why.
    Error(String),
}

/// What evaluations share: buffers, and what was already read of the current event.
#[derive(Debug, Default)]
pub struct Scratch {}

impl Scratch {
    /// Forgets the current event. To be called before the first filter sees the next one.
    pub fn next_event(&mut self) {}
}

impl Filter {
    /// Parses, checks and compiles an expression. All problems at once.
    pub fn compile(source: &str) -> Result<Self, Vec<Problem>> {
        Ok(Self {
            source: source.to_owned(),
        })
    }

    /// The expression as it was written.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Whether the route takes the event.
    pub fn evaluate<'e>(&self, _event: &Event<'e>, _scratch: &mut Scratch) -> Outcome {
        Outcome::Match
    }
}
