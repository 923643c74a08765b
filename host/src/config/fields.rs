//! Reading one table of the file: unknown keys, kinds and bounds, all from its description in [`keys`](super::keys). A
//! value that is wrong is reported and taken for absent, so that it hides no other problem.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::keys::{Kind, Section};
use super::names;
use super::problem::{Place, Problem, Source};
use super::text::Text;
use super::tree::{Node, Table, Value};
use super::units::{self, Refusal};

/// What reading needs and what it finds.
pub(super) struct Reader<'r> {
    /// Where relative paths start.
    pub(super) folder: &'r Path,
    /// The files, for what points into a string.
    pub(super) sources: &'r [Source],
    /// What was found so far.
    pub(super) problems: Vec<Problem>,
    /// What was read on the way, beside the sources.
    pub(super) files: BTreeSet<PathBuf>,
}

/// A value, where it stands and how it is written there.
#[derive(Debug, Clone)]
pub(super) struct Located<T> {
    pub(super) value: T,
    pub(super) at: Place,
    /// Without what came from outside: for messages.
    pub(super) written: String,
}

/// Why a value is refused.
pub(super) struct Mismatch {
    /// What it isn't, with an article.
    pub(super) what: &'static str,
    pub(super) expected: String,
    pub(super) hint: Option<String>,
}

impl Mismatch {
    pub(super) fn new(what: &'static str, expected: impl Into<String>) -> Self {
        Self { what, expected: expected.into(), hint: None }
    }

    pub(super) fn hint(mut self, hint: Option<String>) -> Self {
        self.hint = hint;
        self
    }
}

impl<'r> Reader<'r> {
    /// Has read nothing yet.
    pub(super) fn new(folder: &'r Path, sources: &'r [Source], problems: Vec<Problem>) -> Self {
        Self { folder, sources, problems, files: BTreeSet::new() }
    }

    /// Takes note of a problem.
    pub(super) fn report(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    /// Takes note of a value that is refused, and of its key.
    pub(super) fn refuse(&mut self, node: &Node, key: &str, mismatch: Mismatch) {
        let message = format!("`{}` is not {}, in `{key}`", node.written, mismatch.what);
        self.report(Problem::error(node.at, &node.written, message).expected(mismatch.expected).hint_if(mismatch.hint));
    }

    /// A string. None where it isn't one, which is reported, or where it is broken, which was.
    pub(super) fn string<'n>(&mut self, node: &'n Node, key: &str) -> Option<&'n Text> {
        match &node.value {
            Value::Text(text) => Some(text),
            Value::Broken => None,
            _ => {
                let quoted = format!("in quotes: `\"{}\"`", node.written);
                let hint = matches!(node.value, Value::Integer(_) | Value::Float(_) | Value::Flag(_)).then_some(quoted);
                self.refuse(node, key, Mismatch::new("a string", format!("a string, not {}", node.kind())).hint(hint));
                None
            }
        }
    }

    /// A list of strings.
    pub(super) fn strings(&mut self, node: &Node, key: &str) -> Vec<Located<Text>> {
        let Value::List(nodes) = &node.value else {
            let hint = format!("in brackets: `[{:?}]`", node.written);
            let mismatch = Mismatch::new("a list", format!("a list of strings, not {}", node.kind()));
            self.refuse(node, key, mismatch.hint(matches!(node.value, Value::Text(_)).then_some(hint)));
            return Vec::new();
        };
        nodes.iter().filter_map(|node| self.string(node, key).map(|text| located(node, text.clone()))).collect()
    }

    /// A table.
    pub(super) fn table<'n>(&mut self, node: &'n Node, key: &str) -> Option<&'n Table> {
        match &node.value {
            Value::Table(table) => Some(table),
            Value::Broken => None,
            _ => {
                self.refuse(node, key, Mismatch::new("a table", format!("a table, not {}", node.kind())));
                None
            }
        }
    }

    /// A path, from the folder of the config.
    pub(super) fn path(&self, text: &str) -> PathBuf {
        if self.folder.as_os_str().is_empty() { PathBuf::from(text) } else { self.folder.join(text) }
    }
}

/// One table of the file.
pub(super) struct Fields<'t> {
    section: &'static Section,
    /// Its name from the top, for messages; empty for the file itself.
    pub(super) path: String,
    /// Where its name stands: what is missing in it is reported there.
    pub(super) at: Place,
    table: &'t Table,
}

impl<'t> Fields<'t> {
    /// Reports the keys that the table may not have.
    pub(super) fn open(
        section: &'static Section,
        path: impl Into<String>,
        at: Place,
        table: &'t Table,
        reader: &mut Reader<'_>,
    ) -> Self {
        let path = path.into();
        for (name, _) in table.entries.iter().filter(|(name, _)| section.key(&name.text).is_none()) {
            let known = section.keys.iter().map(|key| key.name);
            let place = if path.is_empty() { "at the top of the file".to_owned() } else { format!("in `{path}`") };
            reader.report(
                Problem::error(name.at, &name.text, format!("unknown key `{}` {place}", name.text))
                    .expected(format!("one of {}", names::list(known.clone())))
                    .hint_if(names::did_you_mean(&name.text, known)),
            );
        }
        Self { section, path, at, table }
    }

    /// The value of a key, if it is there.
    pub(super) fn node(&self, key: &str) -> Option<&'t Node> {
        debug_assert!(self.section.key(key).is_some(), "`{key}` is not described");
        self.table.entry(key).map(|(_, node)| node)
    }

    /// The name of a key from the top, for messages.
    pub(super) fn key(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// The table below a key, if it is there.
    pub(super) fn section(&self, key: &str, reader: &mut Reader<'_>) -> Option<Fields<'t>> {
        let Some(Kind::One(section) | Kind::Switch(section)) = self.section.key(key).map(|key| &key.kind) else {
            unreachable!("`{key}` is described as a table")
        };
        let (name, node) = self.table.entry(key)?;
        if let (Some(Kind::Switch(_)), Value::Flag(_)) = (self.section.key(key).map(|key| &key.kind), &node.value) {
            let mismatch = Mismatch::new("a table", "a table, or `false` for none");
            reader.refuse(node, &self.key(key), mismatch.hint(Some("leave it out for the defaults".to_owned())));
            return None;
        }
        let table = reader.table(node, &self.key(key))?;
        Some(Fields::open(section, self.key(key), name.at, table, reader))
    }

    /// Whether a key that may have a table says `false` instead.
    pub(super) fn is_off(&self, key: &str) -> bool {
        matches!(self.node(key), Some(Node { value: Value::Flag(false), .. }))
    }

    /// The tables by name below a key.
    pub(super) fn sections(&self, key: &str, reader: &mut Reader<'_>) -> Vec<(&'t super::tree::Name, Fields<'t>)> {
        let Some(Kind::Many(section)) = self.section.key(key).map(|key| &key.kind) else {
            unreachable!("`{key}` is described as tables by name")
        };
        let Some(table) = self.node(key).and_then(|node| reader.table(node, &self.key(key))) else {
            return Vec::new();
        };
        let mut sections = Vec::with_capacity(table.entries.len());
        for (name, node) in &table.entries {
            let path = format!("{}.{}", self.key(key), name.text);
            if let Some(table) = reader.table(node, &path) {
                sections.push((name, Fields::open(section, path, name.at, table, reader)));
            }
        }
        sections
    }

    /// A string, whatever it says.
    pub(super) fn text(&self, key: &str, reader: &mut Reader<'_>) -> Option<Located<Text>> {
        let node = self.node(key)?;
        reader.string(node, &self.key(key)).map(|text| located(node, text.clone()))
    }

    /// A list of strings.
    pub(super) fn texts(&self, key: &str, reader: &mut Reader<'_>) -> Vec<Located<Text>> {
        self.node(key).map(|node| reader.strings(node, &self.key(key))).unwrap_or_default()
    }

    /// A string that must be something; where it isn't, that is reported.
    pub(super) fn parsed<T>(
        &self,
        key: &str,
        reader: &mut Reader<'_>,
        parse: impl FnOnce(&str) -> Result<T, Mismatch>,
    ) -> Option<Located<T>> {
        let node = self.node(key)?;
        let text = reader.string(node, &self.key(key))?;
        match parse(&text.value) {
            Ok(value) => Some(located(node, value)),
            Err(mismatch) => {
                // A hint is made of the value.
                let hint = mismatch.hint.clone().filter(|_| !text.secret);
                reader.refuse(node, &self.key(key), mismatch.hint(hint));
                None
            }
        }
    }

    /// A path, from the folder of the config.
    pub(super) fn path(&self, key: &str, reader: &mut Reader<'_>) -> PathBuf {
        let written = self.parsed(key, reader, |text| {
            if text.is_empty() { Err(Mismatch::new("a path", "a path that is not empty")) } else { Ok(text.to_owned()) }
        });
        let path = written.map_or_else(|| self.default(key).to_owned(), |path| path.value);
        reader.path(&path)
    }

    /// A span of time.
    pub(super) fn duration(&self, key: &str, reader: &mut Reader<'_>) -> Duration {
        let read = self.quantity(key, reader, "a duration", "250ms", |text| {
            units::duration(text).map(|duration| (duration, duration.is_zero()))
        });
        read.unwrap_or_else(|| units::duration(self.default(key)).unwrap_or_default())
    }

    /// A number of bytes.
    pub(super) fn size(&self, key: &str, reader: &mut Reader<'_>) -> usize {
        let read =
            self.quantity(key, reader, "a size", "64MiB", |text| units::size(text).map(|size| (size, size == 0)));
        let size = read.unwrap_or_else(|| units::size(self.default(key)).unwrap_or_default());
        usize::try_from(size).unwrap_or(usize::MAX)
    }

    /// A number of bytes that has an upper bound.
    pub(super) fn size_up_to(&self, key: &str, max: usize, reader: &mut Reader<'_>) -> usize {
        let size = self.size(key, reader);
        if let Some(node) = self.node(key).filter(|_| size > max) {
            let expected = format!("a size of at most `\"{}\"`", units::print_size(max as u64));
            reader.refuse(node, &self.key(key), Mismatch::new("within bounds", expected));
        }
        size.min(max)
    }

    fn quantity<T>(
        &self,
        key: &str,
        reader: &mut Reader<'_>,
        what: &'static str,
        example: &str,
        parse: impl FnOnce(&str) -> Result<(T, bool), Refusal>,
    ) -> Option<T> {
        let expected = format!("a whole number and its unit in quotes, such as `\"{example}\"`");
        let node = self.node(key)?;
        let unit = example.trim_start_matches(|c: char| c.is_ascii_digit());
        if let Value::Integer(number) = node.value {
            let hint = format!("with its unit, in quotes: `\"{number}{unit}\"`");
            reader.refuse(node, &self.key(key), Mismatch::new(what, expected).hint(Some(hint)));
            return None;
        }
        let mismatch = |text: &str, refusal: Refusal| {
            let number = text.trim_end_matches(|c: char| !c.is_ascii_digit());
            let hint = match refusal {
                Refusal::NoUnit(number) => Some(format!("with its unit: `\"{number}{unit}\"`")),
                Refusal::UnknownUnit(Some(unit)) => Some(format!("did you mean `\"{number}{unit}\"`?")),
                Refusal::TooLarge => Some("it is too large".to_owned()),
                Refusal::NoNumber | Refusal::UnknownUnit(None) => None,
            };
            Mismatch::new(what, expected.clone()).hint(hint)
        };
        let parsed = self.parsed(key, reader, |text| match parse(text) {
            Ok((_, true)) => Err(Mismatch::new("more than nothing", format!("{what} above zero"))),
            Ok((value, false)) => Ok(value),
            Err(refusal) => Err(mismatch(text, refusal)),
        });
        parsed.map(|parsed| parsed.value)
    }

    /// A whole number within the bounds of its key.
    pub(super) fn integer<T: TryFrom<i64>>(&self, key: &str, reader: &mut Reader<'_>) -> Option<T> {
        let Some(Kind::Integer { min, max }) = self.section.key(key).map(|key| &key.kind) else {
            unreachable!("`{key}` is described as a whole number")
        };
        let default = || self.section.key(key).and_then(|key| key.default).and_then(|text| text.parse::<i64>().ok());
        let number = match self.node(key) {
            None => default()?,
            Some(Node { value: Value::Integer(number), .. }) if (min..=max).contains(&number) => *number,
            Some(node) => {
                if !matches!(node.value, Value::Broken) {
                    let expected = format!("a whole number from {min} to {max}");
                    let what = if matches!(node.value, Value::Integer(_)) { "within bounds" } else { "a whole number" };
                    reader.refuse(node, &self.key(key), Mismatch::new(what, expected));
                }
                default()?
            }
        };
        T::try_from(number).ok()
    }

    /// A number within the bounds of its key.
    pub(super) fn number(&self, key: &str, reader: &mut Reader<'_>) -> f64 {
        let Some(Kind::Number { min, max }) = self.section.key(key).map(|key| &key.kind) else {
            unreachable!("`{key}` is described as a number")
        };
        let default = self.default(key).parse().unwrap_or_default();
        let Some(node) = self.node(key) else { return default };
        let number = match node.value {
            Value::Float(number) => Some(number),
            Value::Integer(number) => i32::try_from(number).ok().map(f64::from),
            Value::Broken => return default,
            _ => None,
        };
        match number.filter(|number| (*min..=*max).contains(number)) {
            Some(number) => number,
            None => {
                let what = if number.is_some() { "within bounds" } else { "a number" };
                let expected = format!("a number from {min} to {max}");
                reader.refuse(node, &self.key(key), Mismatch::new(what, expected));
                default
            }
        }
    }

    /// A share such as `5%`, as a number above 0 and at most 1.
    pub(super) fn share(&self, key: &str, reader: &mut Reader<'_>) -> f64 {
        let parsed = self.parsed(key, reader, |text| {
            units::share(text).ok_or_else(|| {
                let number = text.parse::<f64>().ok();
                let hint = number.filter(|number| (1.0..=100.0).contains(number));
                Mismatch::new("a share", "a number above 0 and at most 100, with a percent sign, such as `\"5%\"`")
                    .hint(hint.map(|number| format!("did you mean `\"{number}%\"`?")))
            })
        });
        parsed.map_or_else(|| units::share(self.default(key)).unwrap_or(1.0), |share| share.value)
    }

    /// `true` or `false`.
    pub(super) fn flag(&self, key: &str, reader: &mut Reader<'_>) -> bool {
        let default = self.default(key) == "true";
        match self.node(key) {
            None | Some(Node { value: Value::Broken, .. }) => default,
            Some(Node { value: Value::Flag(flag), .. }) => *flag,
            Some(node) => {
                let unquoted = ["true", "false"].into_iter().find(|word| *word == node.written);
                let hint = unquoted.map(|word| format!("without quotes: `{word}`"));
                reader.refuse(node, &self.key(key), Mismatch::new("a boolean", "`true` or `false`").hint(hint));
                default
            }
        }
    }

    /// One of the words of its key, as the value that stands at the same index.
    pub(super) fn choice<T: Copy, const N: usize>(
        &self,
        key: &str,
        values: [T; N],
        reader: &mut Reader<'_>,
    ) -> Located<T> {
        let Some(Kind::Choice(words)) = self.section.key(key).map(|key| &key.kind) else {
            unreachable!("`{key}` is described as one of some words")
        };
        debug_assert_eq!(words.len(), N, "`{key}` has other words than values");
        let value_of = |word: &str| words.iter().position(|known| *known == word).map(|index| values[index]);
        let read = self.parsed(key, reader, |text| {
            value_of(text).ok_or_else(|| {
                let expected = format!("one of {}", names::list(words.iter().copied()));
                Mismatch::new("one of its words", expected).hint(names::did_you_mean(text, words.iter().copied()))
            })
        });
        let default = self.default(key);
        read.unwrap_or_else(|| Located {
            value: value_of(default).unwrap_or(values[0]),
            at: self.at,
            written: default.to_owned(),
        })
    }

    /// An address to listen on.
    pub(super) fn address(&self, key: &str, reader: &mut Reader<'_>) -> Located<SocketAddr> {
        let parse = |text: &str| {
            let numeric =
                text.strip_prefix("localhost:").map_or_else(|| text.to_owned(), |port| format!("127.0.0.1:{port}"));
            numeric.parse::<SocketAddr>().map_err(|_| {
                let hint = text.parse::<u16>().is_ok().then(|| format!("with an address: `\"127.0.0.1:{text}\"`"));
                Mismatch::new("an address to listen on", "an IP address and a port, such as `\"127.0.0.1:8090\"`")
                    .hint(hint)
            })
        };
        let default = self.default(key);
        self.parsed(key, reader, parse).unwrap_or_else(|| Located {
            value: default.parse().unwrap_or_else(|_| SocketAddr::from(([127, 0, 0, 1], 0))),
            at: self.at,
            written: default.to_owned(),
        })
    }

    /// What holds where the key is absent.
    pub(super) fn default(&self, key: &str) -> &'static str {
        self.section.key(key).and_then(|key| key.default).unwrap_or_default()
    }
}

/// A value of a node.
pub(super) fn located<T>(node: &Node, value: T) -> Located<T> {
    Located { value, at: node.at, written: node.written.clone() }
}

/// A name that fits into headers, metrics and file names.
pub(super) fn name(text: &str) -> Result<String, Mismatch> {
    if names::is_name(text) { Ok(text.to_owned()) } else { Err(Mismatch::new("a name", names::NAME_RULE)) }
}

/// A name that Kafka takes for a topic.
pub(super) fn topic(text: &str) -> Result<String, Mismatch> {
    if names::is_topic(text) { Ok(text.to_owned()) } else { Err(Mismatch::new("a topic", names::TOPIC_RULE)) }
}
