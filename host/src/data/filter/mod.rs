//! Filters: CEL, checked when the config loads, compiled into a predicate over the borrowed event.
//!
//! [`parse`] bounds and parses the text, [`compile`] and [`names`] check the tree and turn it into [`node`]s, which are
//! evaluated over a [`run`]: one event, whose value is indexed as [`json`] at most once for all filters. A filter reads
//! only what it names, copies nothing, and never fails but as an [`Outcome`]. `host/docs/filters.md` is the language.

mod compile;
mod function;
mod hint;
mod json;
mod kinds;
mod names;
mod node;
mod parse;
mod run;
#[cfg(test)]
mod tests;
mod value;

use super::event::Event;
use node::{Locals, Node};
use run::Run;
pub use run::Scratch;
use value::{Budget, Fault, Value};

/// The parser recurses by the nesting of the text, and walking a tree by its depth; both are bounded to fit in this.
const COMPILE_STACK_BYTES: usize = 32 << 20;

/// A checked and compiled expression.
#[derive(Debug)]
pub struct Filter {
    source: String,
    node: Node,
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

impl Filter {
    /// Parses, checks and compiles an expression, on a thread of its own, since the parser needs more stack than a caller
    /// may have.
    ///
    /// # Errors
    /// All problems at once, in the order of the text; syntax errors alone, since nothing can be said of what isn't parsed.
    pub fn compile(source: &str) -> Result<Self, Vec<Problem>> {
        let compile = || {
            let (tree, info) = parse::parse(source)?;
            compile::compile(source, &tree, info)
        };
        let failed = |message: &str| vec![Problem { message: message.into(), span: 0..source.len(), hint: None }];
        let node = std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name("filter-compile".into()).stack_size(COMPILE_STACK_BYTES);
            match thread.spawn_scoped(scope, compile) {
                Ok(thread) => thread.join().unwrap_or_else(|_| Err(failed("the parser gave up on this expression"))),
                Err(error) => Err(failed(&format!("no thread to parse this expression: {error}"))),
            }
        })?;
        Ok(Self { source: source.to_owned(), node })
    }

    /// The expression as it was written.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Whether the route takes the event. [`Scratch::next_event`] has been called since the event before.
    pub fn evaluate(&self, event: &Event<'_>, scratch: &mut Scratch) -> Outcome {
        let run = Run { event, scratch, budget: Budget::default() };
        match self.node.evaluate(&run, &mut Locals::new()) {
            Ok(Value::Bool(true)) => Outcome::Match,
            Ok(Value::Bool(false)) => Outcome::NoMatch,
            Ok(other) => Outcome::Error(format!("the filter gives {}, expected bool", other.kind())),
            Err(Fault::Absent) => Outcome::Absent,
            Err(Fault::Error(message)) => Outcome::Error(message.into()),
        }
    }
}
