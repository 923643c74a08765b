//! From text to syntax tree: the parser is the crate `cel`'s; the bounds that keep it harmless, and its errors as ours.

use cel::common::ast::{IdedExpr, SourceInfo};

use super::Problem;

/// Longer expressions are refused: the parser takes its time, once for each load of the config.
pub(super) const LENGTH_MAX: usize = 4096;
/// Brackets within brackets. The parser needs stack for each.
const NESTING_MAX: usize = 64;

/// The tree of an expression, and where its parts are.
///
/// # Errors
/// All that is wrong with its syntax.
pub(super) fn parse(source: &str) -> Result<(IdedExpr, SourceInfo), Vec<Problem>> {
    if let Some(problem) = bounds(source) {
        return Err(vec![problem]);
    }
    cel::parser::Parser::new().parse_with_source_info(source).map_err(|errors| {
        let mut problems: Vec<Problem> = Vec::new();
        for error in &errors.errors {
            let problem = syntax_problem(source, error);
            // One mistake makes the parser stumble several times, over the rest of the text too.
            let known =
                problems.iter().any(|earlier| earlier.span == problem.span || earlier.message == problem.message);
            let follows = !problems.is_empty() && problem.message == ENDS_EARLY;
            if !known && !follows {
                problems.push(problem);
            }
        }
        problems
    })
}

const ENDS_EARLY: &str = "the expression ends too early";

fn bounds(source: &str) -> Option<Problem> {
    if source.trim().is_empty() {
        return Some(Problem {
            message: "an empty expression".into(),
            span: 0..source.len(),
            hint: Some("leave `where` out to take every event".into()),
        });
    }
    if source.len() > LENGTH_MAX {
        return Some(Problem {
            message: format!("an expression of {} bytes, of at most {LENGTH_MAX}", source.len()),
            span: 0..source.len(),
            hint: Some("a plugin can decide what takes this many words".into()),
        });
    }
    let at = too_deep(source)?;
    Some(Problem { message: format!("brackets are nested deeper than {NESTING_MAX}"), span: at..at + 1, hint: None })
}

/// Where brackets are nested too deep, if they are. What is in strings and comments doesn't count.
fn too_deep(source: &str) -> Option<usize> {
    let bytes = source.as_bytes();
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'(' | b'[' | b'{' => {
                depth += 1;
                if depth > NESTING_MAX {
                    return Some(at);
                }
            }
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            b'"' | b'\'' => {
                at = string_end(bytes, at);
                continue;
            }
            b'/' if bytes.get(at + 1) == Some(&b'/') => {
                at += bytes[at..].iter().position(|&byte| byte == b'\n').unwrap_or(bytes.len() - at);
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    None
}

/// The byte after the string that starts with the quote at `start`.
fn string_end(bytes: &[u8], start: usize) -> usize {
    let quote = bytes[start];
    let raw = start > 0 && bytes[start - 1].eq_ignore_ascii_case(&b'r');
    let triple = [quote; 3];
    let close: &[u8] = if bytes[start..].starts_with(&triple) { &triple } else { &triple[..1] };
    let mut at = start + close.len();
    while at < bytes.len() {
        if bytes[at..].starts_with(close) {
            return at + close.len();
        }
        at += if bytes[at] == b'\\' && !raw { 2 } else { 1 };
    }
    bytes.len()
}

fn syntax_problem(source: &str, error: &cel::ParseError) -> Problem {
    let (line, column) = error.pos;
    let start = byte_of(source, line, column).min(source.len());
    let length = source[start..].chars().next().map_or(0, char::len_utf8);
    let (message, hint) = reworded(&error.msg, &source[start..]);
    Problem { message, span: start..start + length, hint: hint.map(str::to_owned) }
}

/// The parser's message, in our words, and what to do; `rest` is the text from the place that it is about.
fn reworded(message: &str, rest: &str) -> (String, Option<&'static str>) {
    let message = message.strip_prefix("Syntax error: ").unwrap_or(message);
    let next: String = rest.chars().take(1).collect();
    if message.starts_with("token recognition error") {
        return match next.as_str() {
            "'" | "\"" => ("a string that isn't closed".into(), None),
            "=" => ("unexpected `=`".into(), Some("`==` compares")),
            "&" => ("unexpected `&`".into(), Some("`&&` is true where both sides are")),
            "|" => ("unexpected `|`".into(), Some("`||` is true where one side is")),
            other if other.is_ascii() => (format!("unexpected `{other}`"), None),
            other => (
                format!("unexpected `{other}`"),
                Some("names are of ASCII letters, digits and `_`; any other is read as in `event.json[\"été\"]`"),
            ),
        };
    }
    if message.contains("has() macro") {
        let hint = "`has()` takes a field, as in `has(event.json.amount)`; for a name in brackets there is `\"name\" in event.headers`";
        return ("`has()` doesn't take this".into(), Some(hint));
    }
    if message.starts_with("Incomplete") {
        return ("an incomplete expression".into(), None);
    }
    if message.contains("Recursion limit") {
        return ("operations are nested too deep".into(), None);
    }
    if ["mismatched", "extraneous", "no viable"].iter().any(|start| message.starts_with(start)) {
        let what = if rest.trim().is_empty() { ENDS_EARLY.into() } else { format!("unexpected `{next}`") };
        return (what, None);
    }
    // The parser names every token that would do: too many to read.
    let message = message.split(" expecting {").next().unwrap_or(message).trim();
    let mut message = message.replace("'<EOF>'", "the end of the expression").replace('\'', "`");
    if let Some(first) = message.get_mut(..1) {
        first.make_ascii_lowercase();
    }
    (message, None)
}

/// The byte at a line and column, both counted from 1, the columns in characters.
fn byte_of(source: &str, line: isize, column: isize) -> usize {
    let (line, column) = (usize::try_from(line).unwrap_or(1).max(1), usize::try_from(column).unwrap_or(1).max(1));
    let before: usize = source.split_inclusive('\n').take(line - 1).map(str::len).sum();
    let rest = source.get(before..).unwrap_or_default();
    before + rest.char_indices().nth(column - 1).map_or(rest.len(), |(at, _)| at)
}
