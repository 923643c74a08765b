//! The routes: what they read, the filter, the plugins, the topics, what becomes of failures.

use std::sync::Arc;

use super::super::fields::{Fields, Located, Mismatch, Reader, located, name, topic};
use super::super::keys;
use super::super::model::{Backoff, Breaker, OnFilterError, OnPermanent, Selector};
use super::super::names;
use super::super::problem::{Place, Problem};
use super::super::text::Text;
use super::super::tree::{Name, Node, Value};
use super::parts::{group_name, object, topic_at};
use super::{Binding, FailureTable, RouteTable, StageTable, section_or_default};
use crate::data::filter::Filter;

/// Compiled, a pattern may take this much.
const PATTERN_BYTES_MAX: usize = 1 << 20;

pub(super) fn routes(root: &Fields<'_>, reader: &mut Reader<'_>) -> Vec<RouteTable> {
    let tables = root.sections("routes", reader);
    tables.into_iter().map(|(name, fields)| route(name.clone(), &fields, reader)).collect()
}

fn route(name: Name, fields: &Fields<'_>, reader: &mut Reader<'_>) -> RouteTable {
    if !names::is_name(&name.text) {
        let message = format!("`{}` is not a route's name, in `routes`", name.text);
        reader.report(Problem::error(name.at, &name.text, message).expected(names::NAME_RULE));
    }
    let on_filter_error = [OnFilterError::DeadLetter, OnFilterError::Drop, OnFilterError::Match];
    let id = fields.parsed("id", reader, super::super::fields::name);
    let id = id.unwrap_or_else(|| Located { value: name.text.clone(), at: name.at, written: name.text.clone() });
    RouteTable {
        from: from(fields, reader),
        filter: filter(fields, reader),
        filter_written: fields.node("where").map(|node| node.written.clone()),
        on_filter_error: fields.choice("on_filter_error", on_filter_error, reader).value,
        through: through(fields, reader),
        through_named: fields.node("through").is_some_and(|node| !one_or_many(node).is_empty()),
        to: to(fields, reader),
        to_named: fields.node("to").is_some(),
        group: fields.parsed("group", reader, group_name),
        group_named: fields.node("group").is_some(),
        provenance: fields.flag("provenance", reader),
        allow_loop: fields.flag("allow_loop", reader),
        was: fields.parsed("was", reader, super::super::fields::name),
        failure: failure(fields, &id, reader),
        id,
        name,
    }
}

/// A single value, or those of a list.
fn one_or_many(node: &Node) -> &[Node] {
    match &node.value {
        Value::List(nodes) => nodes,
        _ => std::slice::from_ref(node),
    }
}

fn from(route: &Fields<'_>, reader: &mut Reader<'_>) -> Vec<Located<Selector>> {
    let key = route.key("from");
    let Some(node) = route.node("from") else {
        let message = format!("`from` is missing, in `{}`", route.path);
        reader.report(
            Problem::error(route.at, "from", message)
                .expected("the topics that the route reads")
                .hint("add `from = \"TOPIC\"`"),
        );
        return Vec::new();
    };
    if matches!(&node.value, Value::List(nodes) if nodes.is_empty()) {
        reader.refuse(node, &key, Mismatch::new("a list of topics", "at least one topic"));
    }
    let mut selectors: Vec<Located<Selector>> = Vec::new();
    for node in one_or_many(node) {
        let Some(text) = reader.string(node, &key) else { continue };
        if let Some(twice) = selectors.iter().find(|selector| selector.written == node.written) {
            let message = format!("`{}` is listed twice, in `{key}`", node.written);
            let problem = Problem::error(node.at, &node.written, message).related(twice.at, "first listed here");
            reader.report(problem);
        } else if let Some(selector) = selector(node, text, &key, reader) {
            selectors.push(located(node, selector));
        }
    }
    selectors
}

fn selector(node: &Node, text: &Text, key: &str, reader: &mut Reader<'_>) -> Option<Selector> {
    let Some(pattern) = text.value.strip_prefix('/') else {
        return topic_at(node, key, reader).map(|topic| Selector::Topic(topic.value));
    };
    let Some(pattern) = pattern.strip_suffix('/').filter(|pattern| !pattern.is_empty()) else {
        let expected = "Rust's regex syntax between two slashes, such as `/^payments\\..*$/`";
        reader.refuse(node, key, Mismatch::new("a pattern", expected));
        return None;
    };
    match regex::RegexBuilder::new(pattern).size_limit(PATTERN_BYTES_MAX).build() {
        Ok(regex) => Some(Selector::Pattern(regex)),
        Err(error) => {
            let reason = error.to_string();
            // The last line of many says what is wrong; those before it show the pattern.
            let reason = reason.lines().last().map(|line| line.trim_start_matches("error: ").to_owned());
            let mismatch = Mismatch::new("a pattern", "Rust's regex syntax between two slashes");
            reader.refuse(node, key, mismatch.hint(reason.filter(|_| !text.secret)));
            None
        }
    }
}

fn filter(route: &Fields<'_>, reader: &mut Reader<'_>) -> Option<Arc<Filter>> {
    let text = route.text("where", reader)?;
    let problems = match Filter::compile(&text.value.value) {
        Ok(filter) => return Some(Arc::new(filter)),
        Err(problems) => problems,
    };
    let key = route.key("where");
    if text.value.secret {
        // Whatever could be said about it would show what was put in.
        let message = format!("`{}` is not a filter once its values are put in, in `{key}`", text.written);
        let expected = "a CEL expression that is true or false";
        reader.report(Problem::error(text.at, &text.written, message).expected(expected));
        return None;
    }
    let literal = reader.sources.get(text.at.file).and_then(|source| source.text.get(text.at.start..text.at.end));
    let literal = literal.unwrap_or_default().to_owned();
    for problem in problems {
        let span = text.value.source_span(&problem.span, &literal);
        let at = span.map_or(text.at, |span| Place {
            start: text.at.start + span.start,
            end: text.at.start + span.end,
            ..text.at
        });
        let stretch = text.value.value.get(problem.span.clone()).unwrap_or_default();
        let offending = if stretch.is_empty() { &text.written } else { stretch };
        let message = if problem.message.contains(&format!("`{offending}`")) {
            format!("{}, in `{key}`", problem.message)
        } else {
            format!("{}, at `{offending}` in `{key}`", problem.message)
        };
        reader.report(Problem::error(at, offending, message).hint_if(problem.hint));
    }
    None
}

fn through(route: &Fields<'_>, reader: &mut Reader<'_>) -> Vec<StageTable> {
    let Some(node) = route.node("through") else { return Vec::new() };
    one_or_many(node).iter().filter_map(|node| stage(node, route, reader)).collect()
}

fn stage(node: &Node, route: &Fields<'_>, reader: &mut Reader<'_>) -> Option<StageTable> {
    let key = route.key("through");
    match &node.value {
        Value::Text(text) => match name(&text.value) {
            Ok(plugin) => Some(StageTable { plugin: located(node, plugin), config: None }),
            Err(_) => {
                reader.refuse(node, &key, Mismatch::new("a plugin's name", names::NAME_RULE));
                None
            }
        },
        Value::Table(table) => {
            let fields = Fields::open(&keys::STAGE, key.clone(), node.at, table, reader);
            if fields.node("plugin").is_none() {
                let message = format!("`plugin` is missing, in `{key}`");
                let hint = "add `plugin = \"NAME\"`";
                reader.report(Problem::error(node.at, "plugin", message).expected("the plugin's name").hint(hint));
            }
            let config = object(&fields, reader);
            fields.parsed("plugin", reader, name).map(|plugin| StageTable { plugin, config })
        }
        Value::Broken => None,
        _ => {
            let expected = format!("a plugin's name, or a table with `plugin` and `config`, not {}", node.kind());
            reader.refuse(node, &key, Mismatch::new("a plugin", expected));
            None
        }
    }
}

fn to(route: &Fields<'_>, reader: &mut Reader<'_>) -> Vec<Binding> {
    let Some(node) = route.node("to") else { return Vec::new() };
    let key = route.key("to");
    match &node.value {
        Value::Text(_) => {
            let port = Name { at: node.at, text: "default".to_owned() };
            topic_at(node, &key, reader).map(|topic| Binding { port, topic }).into_iter().collect()
        }
        Value::Table(table) => {
            let bind = |(port, node): &(Name, Node)| {
                let topic = topic_at(node, &format!("{key}.{}", port.text), reader)?;
                Some(Binding { port: port.clone(), topic })
            };
            table.entries.iter().filter_map(bind).collect()
        }
        Value::Broken => Vec::new(),
        _ => {
            let expected = format!("a topic, or a table from port to topic, not {}", node.kind());
            reader.refuse(node, &key, Mismatch::new("a topic", expected));
            Vec::new()
        }
    }
}

fn failure(route: &Fields<'_>, id: &Located<String>, reader: &mut Reader<'_>) -> FailureTable {
    section_or_default(route, "failure", &keys::FAILURE, reader, |fields, reader| {
        let on_permanent = [OnPermanent::DeadLetter, OnPermanent::Drop, OnPermanent::Halt];
        let dead_letter = fields.parsed("dead_letter", reader, topic);
        FailureTable {
            attempts: fields.integer("attempts", reader).unwrap_or(1),
            backoff: backoff(fields, reader),
            breaker: breaker(fields, reader),
            on_permanent: fields.choice("on_permanent", on_permanent, reader),
            dead_letter: dead_letter.unwrap_or_else(|| Located {
                value: format!("{}.dead-letters", id.value),
                at: id.at,
                written: format!("{}.dead-letters", id.written),
            }),
        }
    })
}

fn backoff(failure: &Fields<'_>, reader: &mut Reader<'_>) -> Backoff {
    section_or_default(failure, "backoff", &keys::BACKOFF, reader, |fields, reader| {
        let backoff = Backoff {
            first: fields.duration("first", reader),
            max: fields.duration("max", reader),
            jitter: fields.number("jitter", reader),
        };
        if backoff.first > backoff.max {
            let node = fields.node("first").or(fields.node("max"));
            if let Some(node) = node {
                let message = format!("`{}` makes `first` longer than `max`, in `{}`", node.written, fields.path);
                let expected = "a first wait that is at most the longest one";
                reader.report(Problem::error(node.at, &node.written, message).expected(expected));
            }
        }
        backoff
    })
}

fn breaker(failure: &Fields<'_>, reader: &mut Reader<'_>) -> Option<Breaker> {
    let on = !failure.is_off("breaker");
    on.then(|| {
        section_or_default(failure, "breaker", &keys::BREAKER, reader, |fields, reader| Breaker {
            failures: fields.number("failures", reader),
            events: fields.integer("events", reader).unwrap_or(1),
            probe: fields.duration("probe", reader),
        })
    })
}
