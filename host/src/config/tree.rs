//! The file as it stands: TOML in which every key and value knows its place. Knows no key and no type of the config.

use toml::de::{DeTable, DeValue};
use toml::value::Datetime;

use super::problem::{Place, Problem};
use super::text::{self, Outside, Text};

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) at: Place,
    /// As it stands in the file: strings without quotes, of tables and lists the beginning.
    pub(super) written: String,
    pub(super) value: Value,
}

/// What TOML knows.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Text(Text),
    /// A string with a `${…}` that could not be put in; that was reported, and nothing else is to be said about it.
    Broken,
    Integer(i64),
    Float(f64),
    Flag(bool),
    Datetime(Datetime),
    List(Vec<Node>),
    Table(Table),
}

/// Keys in their order in the file.
#[derive(Debug, Clone, Default)]
pub(super) struct Table {
    pub(super) entries: Vec<(Name, Node)>,
}

/// A key and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) at: Place,
    pub(super) text: String,
}

impl Table {
    /// The entry of a key.
    pub(super) fn entry(&self, name: &str) -> Option<&(Name, Node)> {
        self.entries.iter().find(|(key, _)| key.text == name)
    }
}

impl Node {
    /// What kind of value it is, with its article.
    pub(super) fn kind(&self) -> &'static str {
        match self.value {
            Value::Text(_) | Value::Broken => "a string",
            Value::Integer(_) => "an integer",
            Value::Float(_) => "a float",
            Value::Flag(_) => "a boolean",
            Value::Datetime(_) => "a date",
            Value::List(_) => "a list",
            Value::Table(_) => "a table",
        }
    }

    /// As JSON, secrets put in. Not to be shown.
    pub(super) fn to_json(&self) -> serde_json::Value {
        match &self.value {
            Value::Text(text) => text.value.clone().into(),
            Value::Broken => serde_json::Value::Null,
            Value::Integer(integer) => (*integer).into(),
            Value::Float(float) => (*float).into(),
            Value::Flag(flag) => (*flag).into(),
            Value::Datetime(datetime) => datetime.to_string().into(),
            Value::List(nodes) => nodes.iter().map(Node::to_json).collect(),
            Value::Table(table) => table.entries.iter().map(|(key, node)| (key.text.clone(), node.to_json())).collect(),
        }
    }

    /// The value that the steps lead to, or the last one on their way, and whether they were all taken.
    pub(super) fn follow<'s>(&self, steps: impl IntoIterator<Item = &'s str>) -> (&Node, bool) {
        let mut node = self;
        for step in steps {
            let next = match &node.value {
                Value::Table(table) => table.entry(step).map(|(_, node)| node),
                Value::List(nodes) => step.parse::<usize>().ok().and_then(|index| nodes.get(index)),
                _ => None,
            };
            match next {
                Some(next) => node = next,
                None => return (node, false),
            }
        }
        (node, true)
    }
}

/// Parses one file. What of it can be read is returned in spite of errors, so that the rest is looked at as well.
pub(super) fn parse(source: &str, file: usize, outside: &mut dyn Outside, problems: &mut Vec<Problem>) -> Table {
    let (table, errors) = DeTable::parse_recoverable(source);
    for error in errors {
        problems.push(syntax_problem(source, file, &error));
    }
    Parser { source, file, outside, problems }.table(table.get_ref())
}

fn syntax_problem(source: &str, file: usize, error: &toml::de::Error) -> Problem {
    let span = error.span().unwrap_or(0..0);
    let line_end = source[span.start..].find('\n').map_or(source.len(), |at| span.start + at);
    let end = span.end.clamp(span.start, line_end.max(span.start));
    let at = Place { file, start: span.start, end };
    let rest_of_line = source[span.start..line_end].trim_end();
    let offending = match source[span.start..end].trim() {
        "" if rest_of_line.is_empty() => "end of line",
        "" => rest_of_line,
        text => text,
    };
    Problem::error(at, offending, format!("`{offending}` is not TOML here: {}", error.message()))
}

/// The beginning of what may be long.
fn excerpt(literal: &str, empty: &str) -> String {
    const LENGTH_MAX: usize = 40;
    let line = literal.lines().next().unwrap_or_default();
    if line.is_empty() { empty.to_owned() } else { line.chars().take(LENGTH_MAX).collect() }
}

struct Parser<'p> {
    source: &'p str,
    file: usize,
    outside: &'p mut dyn Outside,
    problems: &'p mut Vec<Problem>,
}

impl Parser<'_> {
    fn place(&self, span: std::ops::Range<usize>) -> Place {
        Place { file: self.file, start: span.start, end: span.end }
    }

    fn table(&mut self, table: &DeTable<'_>) -> Table {
        let entries = table
            .iter()
            .map(|(key, value)| {
                let name = Name { at: self.place(key.span()), text: key.get_ref().to_string() };
                (name, self.node(value.get_ref(), value.span()))
            })
            .collect();
        Table { entries }
    }

    fn node(&mut self, value: &DeValue<'_>, span: std::ops::Range<usize>) -> Node {
        let at = self.place(span.clone());
        let literal = self.source.get(span).unwrap_or_default().to_owned();
        if literal.is_empty() && !matches!(value, DeValue::Table(_) | DeValue::Array(_)) {
            // Where the parser made up what was missing, and said so.
            return Node { at, written: literal, value: Value::Broken };
        }
        let (written, value) = match value {
            DeValue::String(string) => (string.to_string(), self.text(string, at)),
            DeValue::Integer(integer) => match i64::from_str_radix(integer.as_str(), integer.radix()) {
                Ok(number) => (literal, Value::Integer(number)),
                Err(_) => (literal.clone(), self.unreadable(at, &literal, "a number of at most 64 bits")),
            },
            DeValue::Float(float) => match float.as_str().parse::<f64>() {
                Ok(number) => (literal, Value::Float(number)),
                Err(_) => (literal.clone(), self.unreadable(at, &literal, "a number")),
            },
            DeValue::Boolean(flag) => (literal, Value::Flag(*flag)),
            DeValue::Datetime(datetime) => (literal, Value::Datetime(*datetime)),
            DeValue::Array(nodes) => {
                let nodes = nodes.iter().map(|node| self.node(node.get_ref(), node.span())).collect();
                (excerpt(&literal, "[]"), Value::List(nodes))
            }
            DeValue::Table(table) => (excerpt(&literal, "{}"), Value::Table(self.table(table))),
        };
        Node { at, written, value }
    }

    fn unreadable(&mut self, at: Place, literal: &str, expected: &str) -> Value {
        self.problems.push(Problem::error(at, literal, format!("`{literal}` can't be read")).expected(expected));
        Value::Broken
    }

    fn text(&mut self, written: &str, at: Place) -> Value {
        let refusals = match text::expand(written, self.outside) {
            Ok(text) => return Value::Text(text),
            Err(refusals) => refusals,
        };
        for refusal in refusals {
            let reference = &written[refusal.span];
            let literal = self.source.get(at.start..at.end).unwrap_or_default();
            let place = literal.find(reference).map_or(at, |start| Place {
                start: at.start + start,
                end: at.start + start + reference.len(),
                ..at
            });
            let message = format!("`{reference}` {}", refusal.reason);
            self.problems.push(Problem::error(place, reference, message).hint(refusal.hint));
        }
        Value::Broken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nothing;

    impl Outside for Nothing {
        fn variable(&mut self, _: &str) -> Result<String, String> {
            Err("is not set".to_owned())
        }

        fn file(&mut self, _: &str) -> Result<String, String> {
            Err("can't be read".to_owned())
        }
    }

    fn read(source: &str) -> (Table, Vec<Problem>) {
        let mut problems = Vec::new();
        let table = parse(source, 0, &mut Nothing, &mut problems);
        (table, problems)
    }

    #[test]
    fn keys_keep_their_order_and_place() {
        let source = "[routes.b]\nfrom = 'x'\n[routes.a]\nfrom = 'y'\n";
        let (table, problems) = read(source);
        assert_eq!(problems, []);
        let Value::Table(routes) = &table.entry("routes").expect("there").1.value else { panic!("a table") };
        let names: Vec<_> = routes.entries.iter().map(|(name, _)| &source[name.at.start..name.at.end]).collect();
        assert_eq!(names, ["b", "a"]);
    }

    #[test]
    fn syntax_errors_hide_neither_each_other_nor_the_rest() {
        let (table, problems) = read("a = \nb = tru\nc = 3\n");
        let offending: Vec<_> = problems.iter().map(|problem| problem.offending.as_str()).collect();
        assert_eq!(offending, ["end of line", "tru"]);
        assert!(matches!(table.entry("c").expect("there").1.value, Value::Integer(3)));
    }

    #[test]
    fn a_pointer_is_followed_as_far_as_it_leads() {
        let (table, _) = read("x = { list = [1, { deep = 'here' }] }");
        let node = &table.entry("x").expect("there").1;
        let check = |steps: &[&str], expected: (&str, bool)| {
            let (found, whole) = node.follow(steps.iter().copied());
            assert_eq!((found.written.as_str(), whole), expected, "{steps:?}");
        };
        check(&["list", "1", "deep"], ("here", true));
        check(&["list", "0", "deep"], ("1", false));
        check(&["list", "9"], ("[1, { deep = 'here' }]", false));
        check(&["nowhere"], ("{ list = [1, { deep = 'here' }] }", false));
    }
}
