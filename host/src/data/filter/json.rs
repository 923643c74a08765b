//! A JSON text as an index of its parts: one pass checks all of it and notes where each part is; strings and numbers are
//! read when a filter asks for them.
//!
//! The index is kept in memory that is used again for the next event, so reading a field allocates nothing. It never
//! copies the text, and never looks at a text that isn't wholly valid.

use std::borrow::Cow;

use super::value::Value;

/// Deeper texts are refused, so that no reader of them needs more stack than it has.
const DEPTH_MAX: usize = 128;

/// What a part of the text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Null,
    True,
    False,
    /// Digits with an optional minus.
    Integer,
    /// Any other number.
    Number,
    /// A string without escapes; the bytes are those between the quotes.
    Text,
    /// A string with escapes.
    Escaped,
    Array,
    Object,
}

/// A part: where it is in the text, and which entry of the index follows it and all that it holds. The members of an
/// object are two entries each, the key before its value.
#[derive(Debug, Clone, Copy)]
struct Entry {
    part: Part,
    start: u32,
    end: u32,
    next: u32,
}

/// The index of one text.
#[derive(Debug, Default)]
pub(super) struct Index {
    entries: Vec<Entry>,
}

/// Why a text has no index.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{expected} at byte {at}")]
pub(super) struct Invalid {
    expected: &'static str,
    at: usize,
}

impl Index {
    /// Replaces the index by that of `text`.
    ///
    /// # Errors
    /// Says what was expected where the text stops being JSON (RFC 8259, with paired surrogates only).
    pub(super) fn read(&mut self, text: &str) -> Result<(), Invalid> {
        self.entries.clear();
        if u32::try_from(text.len()).is_err() {
            return Err(Invalid { expected: "expected less than 4 GiB", at: 0 });
        }
        Reader { bytes: text.as_bytes(), at: 0, entries: &mut self.entries }.document()
    }

    /// The value of the whole text. It takes the bytes of the text that was last read, so that a caller who has an event's
    /// bytes doesn't check all of them once more for being UTF-8.
    pub(super) fn root<'v>(&'v self, bytes: &'v [u8]) -> Value<'v> {
        Json { bytes, entries: &self.entries, at: 0 }.value()
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    entries: &'a mut Vec<Entry>,
}

/// What may come next.
#[derive(Clone, Copy)]
enum Expect {
    Value,
    ValueOrEnd,
    Key,
    KeyOrEnd,
    CommaOrEnd,
}

impl Reader<'_> {
    fn document(&mut self) -> Result<(), Invalid> {
        // The open containers' entries. The depth is bounded, so they fit on the stack.
        let mut open = [0_u32; DEPTH_MAX];
        let mut depth = 0;
        let mut expect = Expect::Value;
        loop {
            let byte = self.skip_space();
            match (expect, byte) {
                (Expect::ValueOrEnd | Expect::CommaOrEnd, Some(b']')) if self.closes(&open[..depth], Part::Array) => {
                    depth -= 1;
                    self.close(open[depth]);
                }
                (Expect::KeyOrEnd | Expect::CommaOrEnd, Some(b'}')) if self.closes(&open[..depth], Part::Object) => {
                    depth -= 1;
                    self.close(open[depth]);
                }
                (Expect::CommaOrEnd, Some(b',')) => {
                    self.at += 1;
                    expect = if self.closes(&open[..depth], Part::Array) { Expect::Value } else { Expect::Key };
                    continue;
                }
                (Expect::Key | Expect::KeyOrEnd, Some(b'"')) => {
                    self.string()?;
                    if self.skip_space() != Some(b':') {
                        return self.fail("expected `:`");
                    }
                    self.at += 1;
                    expect = Expect::Value;
                    continue;
                }
                (Expect::Value | Expect::ValueOrEnd, Some(opening @ (b'{' | b'['))) => {
                    let Some(slot) = open.get_mut(depth) else {
                        return self.fail("expected at most 128 levels of nesting");
                    };
                    *slot = self.entries.len() as u32;
                    depth += 1;
                    let (part, next) = if opening == b'{' {
                        (Part::Object, Expect::KeyOrEnd)
                    } else {
                        (Part::Array, Expect::ValueOrEnd)
                    };
                    self.push(part, self.at, self.at);
                    self.at += 1;
                    expect = next;
                    continue;
                }
                (Expect::Value | Expect::ValueOrEnd, Some(byte)) => self.scalar(byte)?,
                (Expect::Value, None) => return self.fail("expected a value"),
                (Expect::ValueOrEnd, None) => return self.fail("expected a value or `]`"),
                (Expect::Key, _) => return self.fail("expected a key"),
                (Expect::KeyOrEnd, _) => return self.fail("expected a key or `}`"),
                (Expect::CommaOrEnd, _) => {
                    return self.fail("expected `,` or the end of the list or object");
                }
            }
            if depth == 0 {
                return if self.skip_space().is_none() { Ok(()) } else { self.fail("expected the end") };
            }
            expect = Expect::CommaOrEnd;
        }
    }

    fn fail<T>(&self, expected: &'static str) -> Result<T, Invalid> {
        Err(Invalid { expected, at: self.at })
    }

    fn push(&mut self, part: Part, start: usize, end: usize) {
        let next = self.entries.len() as u32 + 1;
        self.entries.push(Entry { part, start: start as u32, end: end as u32, next });
    }

    fn closes(&self, open: &[u32], part: Part) -> bool {
        open.last().is_some_and(|&entry| self.entries[entry as usize].part == part)
    }

    fn close(&mut self, entry: u32) {
        self.at += 1;
        let next = self.entries.len() as u32;
        let entry = &mut self.entries[entry as usize];
        entry.end = self.at as u32;
        entry.next = next;
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn skip_space(&mut self) -> Option<u8> {
        loop {
            match self.peek() {
                Some(b' ' | b'\n' | b'\r' | b'\t') => self.at += 1,
                byte => return byte,
            }
        }
    }

    fn scalar(&mut self, first: u8) -> Result<(), Invalid> {
        match first {
            b'"' => self.string(),
            b'-' | b'0'..=b'9' => self.number(),
            b't' => self.word("true", Part::True),
            b'f' => self.word("false", Part::False),
            b'n' => self.word("null", Part::Null),
            _ => self.fail("expected a value"),
        }
    }

    fn word(&mut self, word: &str, part: Part) -> Result<(), Invalid> {
        if !self.bytes[self.at..].starts_with(word.as_bytes()) {
            return self.fail("expected a value");
        }
        self.push(part, self.at, self.at + word.len());
        self.at += word.len();
        Ok(())
    }

    fn digits(&mut self) -> Result<(), Invalid> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == start { self.fail("expected a digit") } else { Ok(()) }
    }

    fn number(&mut self) -> Result<(), Invalid> {
        let start = self.at;
        let mut part = Part::Integer;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            part = Part::Number;
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            part = Part::Number;
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        self.push(part, start, self.at);
        Ok(())
    }

    /// A string, the opening quote being next.
    fn string(&mut self) -> Result<(), Invalid> {
        self.at += 1;
        let start = self.at;
        let mut part = Part::Text;
        loop {
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => {
                    part = Part::Escaped;
                    self.escape()?;
                }
                Some(byte) if byte >= 0x20 => self.at += 1,
                Some(_) => return self.fail("expected control characters to be escaped"),
                None => return self.fail("expected `\"`"),
            }
        }
        self.push(part, start, self.at);
        self.at += 1;
        Ok(())
    }

    fn escape(&mut self) -> Result<(), Invalid> {
        match self.bytes.get(self.at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.at += 2;
                Ok(())
            }
            Some(b'u') => match unicode_escape(&self.bytes[self.at..]) {
                Some((_, length)) => {
                    self.at += length;
                    Ok(())
                }
                None => self.fail("expected four hex digits, and surrogates in pairs"),
            },
            _ => self.fail("expected an escape"),
        }
    }
}

/// The character that `\uXXXX` or a pair of these at the start of `bytes` stands for, and how long they are.
fn unicode_escape(bytes: &[u8]) -> Option<(char, usize)> {
    let unit = |from: usize| {
        let escape = bytes.get(from..from + 6)?;
        let digits = escape.strip_prefix(b"\\u")?;
        digits.iter().try_fold(0, |unit, &digit| Some(unit * 16 + char::from(digit).to_digit(16)?))
    };
    match unit(0)? {
        high @ 0xD800..=0xDBFF => {
            let low = unit(6).filter(|low| (0xDC00..=0xDFFF).contains(low))?;
            let scalar = 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00);
            Some((char::from_u32(scalar)?, 12))
        }
        unit => Some((char::from_u32(unit)?, 6)),
    }
}

/// The characters that a checked string stands for.
fn unescape(raw: &str) -> String {
    let mut text = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(at) = rest.find('\\') {
        text.push_str(&rest[..at]);
        let escape = &rest[at..];
        let (character, length) = match escape.as_bytes().get(1) {
            Some(b'b') => ('\u{8}', 2),
            Some(b'f') => ('\u{c}', 2),
            Some(b'n') => ('\n', 2),
            Some(b'r') => ('\r', 2),
            Some(b't') => ('\t', 2),
            Some(b'u') => unicode_escape(escape.as_bytes()).unwrap_or((char::REPLACEMENT_CHARACTER, 6)),
            Some(&other) => (char::from(other), 2),
            None => (char::REPLACEMENT_CHARACTER, 1),
        };
        text.push(character);
        rest = &escape[length..];
    }
    text.push_str(rest);
    text
}

/// An array or object of an indexed text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Json<'v> {
    bytes: &'v [u8],
    entries: &'v [Entry],
    at: u32,
}

impl<'v> Json<'v> {
    fn entry(&self) -> Entry {
        self.entries[self.at as usize]
    }

    fn raw_bytes(&self) -> &'v [u8] {
        let entry = self.entry();
        &self.bytes[entry.start as usize..entry.end as usize]
    }

    /// The entry as it was written. It is UTF-8, since the whole text was and an entry is cut out of it at ASCII characters;
    /// that is checked again for these few bytes alone.
    fn raw(&self) -> &'v str {
        std::str::from_utf8(self.raw_bytes()).unwrap_or_default()
    }

    /// Whether it is an object; otherwise it is an array.
    pub(super) fn is_object(&self) -> bool {
        self.entry().part == Part::Object
    }

    /// What the entry stands for: arrays and objects stay as they are, everything else is read.
    fn value(self) -> Value<'v> {
        let entry = self.entry();
        match entry.part {
            Part::Null => Value::Null,
            Part::True => Value::Bool(true),
            Part::False => Value::Bool(false),
            Part::Integer => self.raw().parse().map_or_else(|_| double(self.raw()), Value::Int),
            Part::Number => double(self.raw()),
            Part::Text => Value::Text(Cow::Borrowed(self.raw())),
            Part::Escaped => Value::Text(Cow::Owned(unescape(self.raw()))),
            Part::Array | Part::Object => Value::Json(self),
        }
    }

    /// The entries directly within, keys included.
    fn children(self) -> impl Iterator<Item = Self> {
        let end = self.entry().next;
        let mut at = self.at + 1;
        std::iter::from_fn(move || {
            let child = (at < end).then_some(Self { at, ..self })?;
            at = child.entry().next;
            Some(child)
        })
    }

    /// The elements of an array.
    pub(super) fn elements(self) -> impl Iterator<Item = Value<'v>> {
        self.children().map(Self::value)
    }

    /// The members of an object, as often as a key is repeated.
    pub(super) fn members(self) -> impl Iterator<Item = (Cow<'v, str>, Value<'v>)> {
        let mut children = self.children();
        std::iter::from_fn(move || {
            let (key, value) = (children.next()?, children.next()?);
            Some((key.key(), value.value()))
        })
    }

    fn key(self) -> Cow<'v, str> {
        match self.value() {
            Value::Text(key) => key,
            _ => Cow::Borrowed(""),
        }
    }

    /// The last member of a key, and how many entries were looked at.
    pub(super) fn member(self, name: &str) -> (Option<Value<'v>>, u32) {
        let mut found = None;
        let mut looked_at = 0;
        let end = self.entry().next;
        let mut at = self.at + 1;
        while at < end {
            let key = Self { at, ..self };
            let entry = key.entry();
            let value = Self { at: entry.next, ..self };
            if entry.part == Part::Text && key.raw_bytes() == name.as_bytes()
                || entry.part == Part::Escaped && key.key() == name
            {
                found = Some(value);
            }
            looked_at += 1;
            at = value.entry().next;
        }
        (found.map(Self::value), looked_at)
    }
}

/// The double nearest to a checked number.
fn double<'v>(raw: &str) -> Value<'v> {
    Value::Double(raw.parse().unwrap_or(f64::NAN))
}
