//! What names stand for: the variables of an event, the variables of macros, and functions.

use cel::common::ast::{CallExpr, Expr, IdedExpr, SelectExpr};

use super::compile::{Compiler, Typed, text};
use super::function::{self, Form, Function, SIGNATURES, Signature};
use super::hint;
use super::kinds::{Kinds, Type};
use super::node::{Node, Variable};
use super::value::{Budget, Fault, Value};

/// The one variable.
const EVENT: &str = "event";

const TEXT_OR_NULL: Type = Type { kinds: Kinds::STRING.or(Kinds::NULL), elements: Kinds::ANY };
const BYTES_OR_NULL: Type = Type::of(Kinds::BYTES.or(Kinds::NULL));

/// The fields of an event that are values. `headers` and `ce` are read by name.
const FIELDS: [(&str, Variable, Type); 9] = [
    ("topic", Variable::Topic, Type::of(Kinds::STRING)),
    ("partition", Variable::Partition, Type::of(Kinds::INT)),
    ("offset", Variable::Offset, Type::of(Kinds::INT)),
    ("timestamp", Variable::Timestamp, Type::of(Kinds::TIMESTAMP.or(Kinds::NULL))),
    ("key", Variable::Key, BYTES_OR_NULL),
    ("value", Variable::Value, BYTES_OR_NULL),
    ("text", Variable::Text, TEXT_OR_NULL),
    ("json", Variable::Json, Type::JSON),
    (HEADERS, Variable::Headers, Type { kinds: Kinds::MAP, elements: TEXT_OR_NULL.kinds.or(Kinds::BYTES) }),
];
const HEADERS: &str = "headers";
const ATTRIBUTES: &str = "ce";

/// The attributes that CloudEvents defines, all texts. Others are extensions.
const STANDARD_ATTRIBUTES: [&str; 8] =
    ["id", "source", "specversion", "type", "datacontenttype", "dataschema", "subject", "time"];

const MACROS: [(&str, &str); 6] = [
    ("has", "has(event.json.amount)"),
    ("exists", "event.json.items.exists(item, item.price > 100)"),
    ("all", "event.json.items.all(item, item.price > 100)"),
    ("exists_one", "event.json.items.exists_one(item, item.price > 100)"),
    ("filter", "event.json.items.filter(item, item.price > 100)"),
    ("map", "event.json.items.map(item, item.price)"),
];

impl Compiler<'_> {
    fn local(&self, name: &str) -> Option<usize> {
        self.locals.iter().rposition(|(local, _)| local == name)
    }

    /// The field of the event that a part names.
    fn event_field<'t>(&self, part: &'t IdedExpr) -> Option<&'t SelectExpr> {
        let Expr::Select(select) = &part.expr else {
            return None;
        };
        let Expr::Ident(name) = &select.operand.expr else {
            return None;
        };
        (name == EVENT && self.local(EVENT).is_none() && !select.test).then_some(select)
    }

    fn is_field(&self, part: &IdedExpr, field: &str) -> bool {
        self.event_field(part).is_some_and(|select| select.field == field)
    }

    pub(super) fn identifier(&mut self, name: &str, part: &IdedExpr) -> Typed {
        if let Some(place) = self.local(name) {
            let of = self.locals[place].1;
            return Typed::new(Node::Local(place), of);
        }
        let span = self.span(part);
        if name == EVENT {
            let hint = Some(format!("name one of its fields: {}", field_names()));
            return self.problem("`event` is no value by itself".into(), span, hint);
        }
        let is_field = FIELDS.iter().any(|(field, ..)| *field == name) || name == ATTRIBUTES;
        let locals: Vec<&str> =
            self.locals.iter().map(|(local, _)| local.as_str()).filter(|local| !local.starts_with('@')).collect();
        let hint = if is_field {
            Some(format!("`event.{name}`"))
        } else {
            hint::nearest(name, locals.iter().copied().chain([EVENT]))
                .or_else(|| Some(format!("a filter reads `event`; a field of a JSON value is `event.json.{name}`")))
        };
        let known: Vec<String> = locals.iter().copied().chain([EVENT]).map(|name| format!("`{name}`")).collect();
        self.problem(format!("unknown variable `{name}` (known: {})", known.join(", ")), span, hint)
    }

    /// A selection whose operand is the event, its headers or its attributes.
    pub(super) fn event_select(&mut self, select: &SelectExpr, part: &IdedExpr) -> Option<Typed> {
        if self.is_field(&select.operand, HEADERS) {
            let name = Box::new(text(&select.field));
            return Some(if select.test {
                Typed::kinds(Node::HasHeader(name), Kinds::BOOL)
            } else {
                Typed::new(Node::Header(name), TEXT_OR_NULL)
            });
        }
        if self.is_field(&select.operand, ATTRIBUTES) {
            let typed = self.attribute(&select.field, part);
            return Some(match typed.node {
                Node::Attribute(name) if select.test => Typed::kinds(Node::HasAttribute(name), Kinds::BOOL),
                node => Typed::new(node, typed.of),
            });
        }
        let Expr::Ident(name) = &select.operand.expr else {
            return None;
        };
        if name != EVENT || self.local(EVENT).is_some() {
            return None;
        }
        let field = FIELDS.iter().find(|(field, ..)| *field == select.field);
        Some(match field {
            Some((_, variable, _)) if select.test => {
                let is_null = Node::Equal(Box::new(Node::Variable(*variable)), Box::new(Node::Const(Value::Null)));
                Typed::kinds(Node::Not(Box::new(is_null)), Kinds::BOOL)
            }
            Some((_, variable, of)) => Typed::new(Node::Variable(*variable), *of),
            None => self.unknown_field(&select.field, part),
        })
    }

    fn unknown_field(&mut self, field: &str, part: &IdedExpr) -> Typed {
        let span = self.span(part);
        if field == ATTRIBUTES {
            let hint = Some("name an attribute, as in `event.ce.type`".into());
            return self.problem("`event.ce` is no value by itself".into(), span, hint);
        }
        let names = FIELDS.iter().map(|(field, ..)| *field).chain([ATTRIBUTES]);
        let hint = hint::nearest(field, names)
            .map(|hint| hint.replacen('`', "`event.", 1))
            .or_else(|| Some(format!("a field of a JSON value is `event.json.{field}`")));
        self.problem(format!("unknown field `event.{field}` (known: {})", field_names()), span, hint)
    }

    fn attribute(&mut self, name: &str, part: &IdedExpr) -> Typed {
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()) {
            let span = self.span(part);
            let hint = Some("the names of CloudEvents attributes are lower-case letters and digits".into());
            return self.problem(format!("no attribute `{name}`"), span, hint);
        }
        if name == "data" {
            let span = self.span(part);
            let hint =
                Some("the data of a structured CloudEvent is `event.json.data`, of a binary one `event.json`".into());
            return self.problem("no attribute `data`".into(), span, hint);
        }
        let of = if STANDARD_ATTRIBUTES.contains(&name) { Type::of(Kinds::STRING) } else { Type::JSON };
        Typed::new(Node::Attribute(Box::new(text(name))), of)
    }

    /// `event.headers[…]` and `event.ce[…]`.
    pub(super) fn event_index(&mut self, of: &IdedExpr, at: &IdedExpr) -> Option<Typed> {
        if self.is_field(of, HEADERS) {
            let name = self.name(at, "header");
            return Some(Typed::new(Node::Header(name.boxed()), TEXT_OR_NULL));
        }
        if self.is_field(of, ATTRIBUTES) {
            let name = self.name(at, "attribute");
            return Some(match &name.node {
                Node::Const(Value::Text(known)) => self.attribute(known, at),
                _ => Typed::new(Node::Attribute(name.boxed()), Type::JSON),
            });
        }
        let Expr::Ident(name) = &of.expr else {
            return None;
        };
        if name != EVENT || self.local(EVENT).is_some() {
            return None;
        }
        let span = self.span(at);
        let hint = Some("a field is read with a dot, as in `event.topic`".into());
        Some(self.problem("`event` can't be indexed".into(), span, hint))
    }

    fn name(&mut self, part: &IdedExpr, what: &str) -> Typed {
        let name = self.part(part);
        if !name.of.kinds.meets(Kinds::STRING) {
            let span = self.span(part);
            let message = format!("{} is {}, expected the name of a {what}", self.quote(&span), name.of.kinds);
            self.problem(message, span, None);
        }
        name
    }

    /// `name in event.headers` and `name in event.ce`: what the test becomes.
    pub(super) fn event_contains(
        &mut self,
        name: &Typed,
        of: &IdedExpr,
        part: &IdedExpr,
    ) -> Option<fn(Box<Node>) -> Node> {
        let test: fn(Box<Node>) -> Node = if self.is_field(of, HEADERS) {
            Node::HasHeader
        } else if self.is_field(of, ATTRIBUTES) {
            Node::HasAttribute
        } else {
            return None;
        };
        if !name.of.kinds.meets(Kinds::STRING) {
            let span = self.span(part);
            self.problem(format!("{} is {}, expected a name", self.quote(&span), name.of.kinds), span, None);
        }
        Some(test)
    }

    /// A call of a function by its name.
    pub(super) fn function(&mut self, call: &CallExpr, part: &IdedExpr) -> Typed {
        let name = call.func_name.as_str();
        let rows: Vec<&Signature> = SIGNATURES.iter().filter(|row| row.name == name).collect();
        if rows.is_empty() {
            return self.unknown_function(call, part);
        }
        let parts: Vec<&IdedExpr> = call.target.as_deref().into_iter().chain(&call.args).collect();
        let arguments: Vec<Typed> = parts.iter().map(|part| self.part(part)).collect();
        let span = self.span(part);
        let form = if call.target.is_some() { Form::Member } else { Form::Global };
        if !rows.iter().any(|row| row.form == Form::Either || row.form == form) {
            let hint = Some(format!("write it as `{}`", usage(rows[0])));
            return self.problem(format!("`{name}` isn't called in this form"), span, hint);
        }
        let Some(row) = rows.iter().find(|row| row.arguments.len() == arguments.len()) else {
            let hint = Some(format!("write it as `{}`", usage(rows[0])));
            return self.problem(format!("wrong number of arguments for `{name}`"), span, hint);
        };
        let fits = |(argument, expected): (&Typed, &Kinds)| argument.of.kinds.meets(*expected);
        if let Some(wrong) = arguments.iter().zip(row.arguments).position(|pair| !fits(pair)) {
            let (given, expected) = (arguments[wrong].of.kinds, row.arguments[wrong]);
            let span = self.span(parts[wrong]);
            let message = format!("`{name}` takes {expected}, and {} is {given}", self.quote(&span));
            let hint = expected.is_one().then(|| hint::mixed(given, expected)).flatten();
            return self.problem(message, span, hint);
        }
        self.call_of(row, arguments, &parts)
    }

    fn call_of(&mut self, row: &Signature, arguments: Vec<Typed>, parts: &[&IdedExpr]) -> Typed {
        let mut nodes = arguments.into_iter().map(|argument| argument.node);
        let (Some(of), argument) = (nodes.next(), nodes.next()) else {
            return Typed::kinds(Node::Const(Value::Null), Kinds::ANY);
        };
        let last = self.span(parts[parts.len() - 1]);
        let node = match (row.function, of, argument) {
            (Function::Matches, of, Some(Node::Const(Value::Text(pattern)))) => match function::regex(&pattern) {
                Ok(regex) => Node::Matches(Box::new(of), regex),
                Err(problem) => {
                    let hint =
                        Some("patterns are in Rust's regex syntax; in a string, each `\\` is written twice".into());
                    return self.problem(format!("{} is no regex: {problem}", self.quote(&last)), last, hint);
                }
            },
            (Function::Get(_), of, Some(Node::Const(Value::Text(zone)))) if function::time_zone(&zone).is_err() => {
                let hint = Some("a name such as `Europe/Berlin`, or an offset such as `+02:00`".into());
                drop(of);
                return self.problem(format!("unknown time zone `{zone}`"), last, hint);
            }
            // What is known now is calculated now: `timestamp("2026-01-01T00:00:00Z")`.
            (function, Node::Const(of), None) => match function.call(of, None, &Budget::default()) {
                Ok(value) => Node::Const(value),
                Err(Fault::Error(message)) => return self.problem(message.into(), last, None),
                Err(Fault::Absent) => {
                    return self.problem("nothing is there".into(), last, None);
                }
            },
            (function, of, argument) => Node::Call(function, Box::new(of), argument.map(Box::new)),
        };
        Typed::kinds(node, row.result)
    }

    fn unknown_function(&mut self, call: &CallExpr, part: &IdedExpr) -> Typed {
        let span = self.span(part);
        let name = &call.func_name;
        if let Some((_, example)) = MACROS.iter().find(|(macro_name, _)| macro_name == name) {
            let hint = Some(format!("write it as `{example}`"));
            return self.problem(format!("`{name}` isn't called in this form"), span, hint);
        }
        let names = SIGNATURES.iter().map(|row| row.name).chain(MACROS.iter().map(|(name, _)| *name));
        let hint = hint::nearest(name, names);
        // What is wrong with the arguments is worth knowing too.
        for part in call.target.as_deref().into_iter().chain(&call.args) {
            self.part(part);
        }
        self.problem(format!("unknown function `{name}`"), span, hint)
    }
}

fn field_names() -> String {
    let names: Vec<&str> = FIELDS.iter().map(|(field, ..)| *field).chain([ATTRIBUTES]).collect();
    names.join(", ")
}

/// A function by example.
fn usage(row: &Signature) -> String {
    let arguments = vec!["…"; row.arguments.len() - 1].join(", ");
    match row.form {
        Form::Member => format!("….{}({arguments})", row.name),
        Form::Global | Form::Either if arguments.is_empty() => format!("{}(…)", row.name),
        Form::Global | Form::Either => format!("{}(…, {arguments})", row.name),
    }
}
