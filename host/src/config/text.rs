//! Strings of the file: `${NAME}`, `${file:PATH}` and `$$` put in, and the way back from a byte of the result to the byte
//! of the file. What was put in is a secret: it is in the value, and never in what messages show.

use std::ops::Range;

/// A string, as it is written and as it is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Text {
    /// As it is written: `${NAME}` for what came from outside.
    pub(super) written: String,
    /// As it is meant.
    pub(super) value: String,
    /// Whether anything came from outside, so that nothing derived from the value may be shown.
    pub(super) secret: bool,
}

/// Where `${…}` comes from.
pub(super) trait Outside {
    /// An environment variable, or why there is none.
    fn variable(&mut self, name: &str) -> Result<String, String>;
    /// A file's content, or why there is none.
    fn file(&mut self, path: &str) -> Result<String, String>;
}

/// What is wrong with a `${…}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    /// Bytes of the written string.
    pub(super) span: Range<usize>,
    /// What is wrong, without the reference itself.
    pub(super) reason: String,
    /// What to do.
    pub(super) hint: &'static str,
}

const DOLLAR: &str = "a dollar that stands for itself is written `$$`";

/// Puts in what is referred to.
pub(super) fn expand(written: &str, outside: &mut dyn Outside) -> Result<Text, Vec<Refusal>> {
    let mut value = String::with_capacity(written.len());
    let mut secret = false;
    let mut refusals = Vec::new();
    let mut rest = 0;
    while let Some(dollar) = written[rest..].find('$').map(|at| rest + at) {
        value.push_str(&written[rest..dollar]);
        let tail = &written[dollar..];
        if tail.starts_with("$$") {
            value.push('$');
            rest = dollar + 2;
        } else if tail.starts_with("${") {
            let end = tail.find('}').map_or(written.len(), |close| dollar + close + 1);
            match reference(&written[dollar..end], outside) {
                Ok(content) => {
                    value.push_str(&content);
                    secret = true;
                }
                Err((reason, hint)) => refusals.push(Refusal { span: dollar..end, reason, hint }),
            }
            rest = end;
        } else {
            value.push('$');
            rest = dollar + 1;
        }
    }
    value.push_str(&written[rest..]);
    if refusals.is_empty() { Ok(Text { written: written.to_owned(), value, secret }) } else { Err(refusals) }
}

fn reference(whole: &str, outside: &mut dyn Outside) -> Result<String, (String, &'static str)> {
    let Some(name) = whole.strip_prefix("${").and_then(|tail| tail.strip_suffix('}')) else {
        return Err(("has no closing brace".to_owned(), DOLLAR));
    };
    if let Some(path) = name.strip_prefix("file:") {
        return outside.file(path).map_err(|reason| (reason, "the path starts at the folder of the config"));
    }
    let valid = !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty()
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if !valid {
        return Err(("names no environment variable".to_owned(), DOLLAR));
    }
    outside.variable(name).map_err(|reason| (reason, "set it in the environment of midplane"))
}

impl Text {
    /// The bytes of the file that a stretch of the value was written as, when `literal` is the string as it stands in the
    /// file, quotes and all. None where they can't be told apart.
    pub(super) fn source_span(&self, span: &Range<usize>, literal: &str) -> Option<Range<usize>> {
        if self.secret || span.end > self.value.len() || span.start > span.end {
            return None;
        }
        let offsets = literal_offsets(literal)?;
        // One offset a byte, and one for the end.
        if offsets.len() != self.written.len() + 1 {
            return None;
        }
        let written = written_offsets(&self.written);
        let byte = |at: usize| written.get(at).and_then(|at| offsets.get(*at)).copied();
        let start = byte(span.start)?;
        let end = byte(span.end)?;
        Some(start..end.max(start))
    }
}

/// For each byte of the value, its byte in the written string, where `$$` is the only difference.
fn written_offsets(written: &str) -> Vec<usize> {
    let bytes = written.as_bytes();
    let mut offsets = Vec::with_capacity(bytes.len() + 1);
    let mut at = 0;
    while at < bytes.len() {
        offsets.push(at);
        at += if bytes[at..].starts_with(b"$$") { 2 } else { 1 };
    }
    offsets.push(at);
    offsets
}

/// For each byte of the string that a TOML literal denotes, its byte in the literal; then that of the closing quote.
fn literal_offsets(literal: &str) -> Option<Vec<usize>> {
    let basic = literal.starts_with('"');
    let quotes = ["\"\"\"", "'''", "\"", "'"]
        .into_iter()
        .find(|quotes| literal.len() >= 2 * quotes.len() && literal.starts_with(quotes) && literal.ends_with(quotes))?;
    let end = literal.len() - quotes.len();
    let mut at = quotes.len();
    if quotes.len() == 3 {
        // A newline right after the opening quotes is not part of the string.
        at += ["\r\n", "\n"].iter().find(|newline| literal[at..].starts_with(**newline)).map_or(0, |n| n.len());
    }
    let mut offsets = Vec::with_capacity(literal.len());
    while at < end {
        if basic && literal.as_bytes()[at] == b'\\' {
            let (read, decoded) = escape(&literal[at..end])?;
            offsets.extend(std::iter::repeat_n(at, decoded));
            at += read;
        } else {
            offsets.push(at);
            at += 1;
        }
    }
    offsets.push(end);
    Some(offsets)
}

/// The length of an escape, and of what it denotes.
fn escape(tail: &str) -> Option<(usize, usize)> {
    let code = |digits: usize| {
        let number = u32::from_str_radix(tail.get(2..2 + digits)?, 16).ok()?;
        Some((2 + digits, char::from_u32(number)?.len_utf8()))
    };
    match tail.as_bytes().get(1)? {
        b'x' => code(2),
        b'u' => code(4),
        b'U' => code(8),
        b'b' | b't' | b'n' | b'f' | b'r' | b'e' | b'"' | b'\\' => Some((2, 1)),
        // The end of a line that is continued: all white space up to the next text goes.
        _ => Some((1 + tail[1..].len() - tail[1..].trim_start().len(), 0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    struct Fixed;

    impl Outside for Fixed {
        fn variable(&mut self, name: &str) -> Result<String, String> {
            if name == "HOME" { Ok("/home/ada".to_owned()) } else { Err("is not set".to_owned()) }
        }

        fn file(&mut self, path: &str) -> Result<String, String> {
            if path == "a/secret" { Ok("s3cret".to_owned()) } else { Err("can't be read".to_owned()) }
        }
    }

    #[test]
    fn references_are_put_in() {
        let check = |written: &str, value: &str, secret: bool| {
            let text = expand(written, &mut Fixed).expect("all is set");
            assert_eq!((text.value.as_str(), text.secret), (value, secret), "{written}");
            assert_eq!(text.written, written);
        };
        check("plain", "plain", false);
        check("${HOME}/x", "/home/ada/x", true);
        check("a${file:a/secret}b${HOME}", "as3cretb/home/ada", true);
        check("$$", "$", false);
        check("$${HOME}", "${HOME}", false);
        check("/^x$/", "/^x$/", false);
        check("$", "$", false);
    }

    #[test]
    fn what_is_unset_is_refused_each_by_itself() {
        let refusals = expand("${HOME}${NONE} ${file:x} ${} ${HO", &mut Fixed).expect_err("unset");
        let spans: Vec<_> = refusals.iter().map(|r| r.span.clone()).collect();
        assert_eq!(spans, [7..14, 15..24, 25..28, 29..33]);
    }

    #[test]
    fn bytes_find_their_way_back() {
        let check = |literal: &str, needle: &str, expected: Range<usize>| {
            let document = format!("x = {literal}");
            let table: toml::Table = document.parse().expect("valid TOML");
            let text = expand(table["x"].as_str().expect("a string"), &mut Fixed).expect("all is set");
            let start = text.value.find(needle).expect("the needle is there");
            let found = text.source_span(&(start..start + needle.len()), literal);
            assert_eq!(found, Some(expected), "{literal}");
        };
        check(r#""abc""#, "b", 2..3);
        check(r"'a\b'", "b", 3..4);
        check(r#""\"\u00e9\\c""#, "c", 11..12);
        check(r#""a$$c""#, "c", 4..5);
        check("'''\nabc'''", "b", 5..6);
        check("\"\"\"\\\n   abc\"\"\"", "b", 9..10);
    }

    #[test]
    fn a_secret_has_no_way_back() {
        let text = expand("${HOME}", &mut Fixed).expect("set");
        assert_eq!(text.source_span(&(0..1), "\"${HOME}\""), None);
    }

    proptest! {
        #[test]
        fn any_string_maps_onto_its_literal(value in ".{0,40}") {
            let literal = toml::Value::String(value.clone()).to_string();
            if let Some(offsets) = literal_offsets(&literal) {
                prop_assert_eq!(offsets.len(), value.len() + 1);
                prop_assert!(offsets.is_sorted());
                prop_assert!(offsets.iter().all(|at| *at < literal.len()));
            }
        }

        #[test]
        fn nothing_panics(literal in ".{0,40}", start in 0..40_usize, length in 0..40_usize) {
            let text = Text { written: literal.clone(), value: literal.clone(), secret: false };
            let _ = text.source_span(&(start..start + length), &literal);
        }
    }
}
