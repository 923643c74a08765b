//! Compiled filters against the interpreter of the crate `cel`, on random expressions and events.
//!
//! Filters are drawn by type, so that most compile and have a result; one part in some is drawn from anywhere, so that what
//! fails at one event fails in both. Four differences are meant:
//! - A filter tells what is absent from what fails. The interpreter fails at both, and so they are one outcome here.
//! - What `compile` refuses would fail at every event, or say the same of each. The interpreter finds that out at an event,
//!   so there is nothing to compare.
//! - Nothing is in null, so `has` of a field of null is false, where the interpreter fails. So no member that has members
//!   is ever null here.
//! - The interpreter knows one sum that CEL doesn't, of a list and a map. So a sum has one side that is no list.

use std::cell::Cell;
use std::collections::HashMap;

use cel::{Context, Program, Value};
use proptest::prelude::*;
use proptest::test_runner::{TestError, TestRunner};

use super::super::{Filter, Outcome, Scratch};
use super::payment;
use crate::data::event::{Header, Headers};

const FILTERS: u32 = 800;

const HEADERS: &[Header<'static>] =
    &[Header { name: b"h", value: Some(b"first") }, Header { name: b"h", value: Some(b"x") }];

/// JSON as the contract wants it: integers that fit are int, other numbers double.
fn bound(json: &serde_json::Value) -> Value {
    match json {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(truth) => Value::Bool(*truth),
        serde_json::Value::Number(number) => match number.as_i64() {
            Some(integer) => Value::Int(integer),
            None => Value::Float(number.as_f64().unwrap()),
        },
        serde_json::Value::String(text) => Value::from(text.as_str()),
        serde_json::Value::Array(elements) => Value::from(elements.iter().map(bound).collect::<Vec<_>>()),
        serde_json::Value::Object(members) => {
            let map: HashMap<String, Value> = members.iter().map(|(key, value)| (key.clone(), bound(value))).collect();
            Value::from(map)
        }
    }
}

/// What the interpreter says; nothing where it fails.
fn interpreted(program: &Program, value: &[u8]) -> Option<bool> {
    let mut event = HashMap::from([
        ("topic", Value::from("payments")),
        ("offset", Value::Int(42)),
        ("partition", Value::Int(3)),
        ("headers", Value::from(HashMap::from([("h", "x")]))),
    ]);
    // What isn't wholly JSON has no field `json`, which is an error as good as any.
    if let Ok(json) = serde_json::from_slice(value) {
        event.insert("json", bound(&json));
    }
    let mut context = Context::default();
    context.add_variable_from_value("event", event);
    match program.execute(&context) {
        Ok(Value::Bool(truth)) => Some(truth),
        _ => None,
    }
}

fn compiled(filter: &Filter, value: &[u8], scratch: &mut Scratch) -> Option<bool> {
    scratch.next_event();
    let mut event = payment(Some(value));
    event.headers = Headers::Slice(HEADERS);
    match filter.evaluate(&event, scratch) {
        Outcome::Match => Some(true),
        Outcome::NoMatch => Some(false),
        Outcome::Absent | Outcome::Error(_) => None,
    }
}

type Text = BoxedStrategy<String>;

fn one_of(texts: &'static [&'static str]) -> Text {
    prop::sample::select(texts).prop_map(str::to_owned).boxed()
}

/// A part of the JSON, which can be of any kind.
fn anything() -> Text {
    one_of(&[
        "event.json.i",
        "event.json.s",
        "event.json.b",
        "event.json.l",
        "event.json.l[1]",
        "event.json.o",
        "event.json.o.s.s",
        "event.json.nosuch",
        "event.json",
        "dyn(1)",
        "dyn('x')",
    ])
}

fn leaf(typed: Text) -> Text {
    prop_oneof![14 => typed, 1 => anything()].boxed()
}

fn binary(operand: Text, operators: &'static [&'static str]) -> Text {
    (operand.clone(), one_of(operators), operand).prop_map(|(left, by, right)| format!("({left} {by} {right})")).boxed()
}

fn sum(operand: Text, kind: &'static str) -> Text {
    (operand.clone(), operand).prop_map(move |(left, right)| format!("({left} + {kind}({right}))")).boxed()
}

fn call(name: &'static str, argument: Text) -> Text {
    argument.prop_map(move |argument| format!("{name}({argument})")).boxed()
}

fn choice(depth: u32, of: Text) -> Text {
    (truth(depth), of.clone(), of).prop_map(|(on, yes, no)| format!("({on} ? {yes} : {no})")).boxed()
}

fn integer(depth: u32) -> Text {
    let leaf = leaf(one_of(&[
        "event.json.i",
        "event.json['i']",
        "event.json.o.i",
        "event.json.l[0]",
        "event.json.l[1]",
        "event.offset",
        "event.partition",
        "0",
        "1",
        "-3",
        "9007199254740993",
        "9223372036854775807",
    ]));
    let Some(depth) = depth.checked_sub(1) else {
        return leaf;
    };
    let inner = integer(depth);
    prop_oneof![
        3 => leaf,
        2 => binary(inner.clone(), &["-", "*", "/", "%"]),
        1 => sum(inner.clone(), "int"),
        1 => call("int", number(depth)),
        1 => call("int", text(depth)),
        1 => call("size", text(depth)),
        1 => call("size", list()),
        1 => call("-", inner.clone()),
        1 => choice(depth, inner),
    ]
    .boxed()
}

fn double(depth: u32) -> Text {
    let leaf = leaf(one_of(&["event.json.d", "event.json.o.d", "2.5", "1.0", "0.0", "9007199254740992.0"]));
    let Some(depth) = depth.checked_sub(1) else {
        return leaf;
    };
    let inner = double(depth);
    prop_oneof![
        3 => leaf,
        2 => binary(inner.clone(), &["-", "*", "/"]),
        1 => sum(inner.clone(), "double"),
        1 => call("double", integer(depth)),
        1 => call("double", text(depth)),
        1 => call("-", inner.clone()),
        1 => choice(depth, inner),
    ]
    .boxed()
}

/// Of a kind that isn't known, for what takes them all.
fn number(depth: u32) -> Text {
    prop_oneof![3 => integer(depth), 2 => double(depth), 1 => call("uint", integer(depth)), 1 => Just("2u".to_owned())]
        .boxed()
}

fn text(depth: u32) -> Text {
    let leaf = leaf(one_of(&[
        "event.json.s",
        "event.json.s",
        "event.json.o.s",
        "event.topic",
        "event.headers['h']",
        "event.headers.nosuch",
        "'x'",
        "'1'",
        "''",
        "'a+'",
    ]));
    let Some(depth) = depth.checked_sub(1) else {
        return leaf;
    };
    prop_oneof![
        4 => leaf,
        1 => sum(text(depth), "string"),
        1 => call("string", number(depth)),
        1 => call("string", truth(depth)),
    ]
    .boxed()
}

fn list() -> Text {
    let pair = (integer(0), number(0)).prop_map(|(first, second)| format!("[{first}, {second}]"));
    leaf(prop_oneof![Just("event.json.l".to_owned()), pair].boxed())
}

const COMPARISONS: &[&str] = &["<", "<=", ">", ">=", "==", "!="];

fn truth(depth: u32) -> Text {
    let leaf = leaf(one_of(&[
        "event.json.b",
        "event.json.o.b",
        "true",
        "false",
        "has(event.json.i)",
        "has(event.json.o.i)",
        "has(event.json.nosuch)",
        "'h' in event.headers",
        "'d' in event.json",
    ]));
    let Some(depth) = depth.checked_sub(1) else {
        return leaf;
    };
    let inner = truth(depth);
    let member = one_of(&["startsWith", "endsWith", "contains", "matches"]);
    let fold = one_of(&["exists", "all", "exists_one"]);
    prop_oneof![
        1 => leaf,
        4 => binary(number(depth), COMPARISONS),
        3 => binary(text(depth), COMPARISONS),
        4 => binary(inner.clone(), &["&&", "||"]),
        1 => call("!", inner.clone()),
        1 => choice(depth, inner),
        2 => (text(depth), member, text(depth)).prop_map(|(of, name, to)| format!("({of}).{name}({to})")),
        1 => (number(0), list()).prop_map(|(element, of)| format!("({element} in {of})")),
        2 => (list(), fold, one_of(COMPARISONS), number(0))
            .prop_map(|(of, name, by, to)| format!("{of}.{name}(x, x {by} {to})")),
        1 => (list(), one_of(COMPARISONS), number(0), list())
            .prop_map(|(of, by, to, like)| format!("({of}.filter(x, x {by} {to}) == {like})")),
        1 => (list(), list()).prop_map(|(of, like)| format!("({of}.map(x, x * 2) != {like})")),
        1 => (anything(), anything()).prop_map(|(left, right)| format!("({left} == {right})")),
        1 => (anything(), one_of(&["null", "[1, 'x']", "{'s': 'x'}", "[]", "{'i': null}"]))
            .prop_map(|(left, right)| format!("({left} != {right})")),
    ]
    .boxed()
}

const INTEGERS: &[&str] = &["0", "1", "2", "42", "-3", "9007199254740993", "9223372036854775807"];
const DOUBLES: &[&str] = &["2.5", "1.0", "1e3", "9223372036854775808", "-9223372036854775809", "1e-7"];
const TEXTS: &[&str] =
    &[r#""""#, r#""x""#, r#""1""#, r#""\u0078""#, r#""pay""#, r#""a\n\ud83d\ude00""#, r#""true""#, "\"\u{e9}\""];
const TRUTHS: &[&str] = &["true", "false"];

/// A value of any kind but null.
fn stray() -> Text {
    let scalar = prop_oneof![one_of(INTEGERS), one_of(DOUBLES), one_of(TEXTS), one_of(TRUTHS)];
    prop_oneof![4 => scalar, 1 => Just("[]".to_owned()), 1 => Just("[1, \"x\"]".to_owned()), 1 => Just("{\"s\": \"x\"}".to_owned())]
        .boxed()
}

fn or_null(values: &'static [&'static str]) -> Text {
    prop_oneof![20 => one_of(values), 1 => Just("null".to_owned())].boxed()
}

/// A member of an object, now and then missing, or of a kind that isn't its own.
fn member(key: &'static str, value: Text) -> impl Strategy<Value = Option<String>> {
    let value = prop_oneof![20 => value, 1 => stray()];
    prop::option::weighted(0.9, value.prop_map(move |value| format!("\"{key}\": {value}")))
}

fn object(members: impl Strategy<Value = Vec<Option<String>>>) -> impl Strategy<Value = String> {
    members.prop_map(|members| format!("{{{}}}", members.into_iter().flatten().collect::<Vec<_>>().join(",")))
}

fn scalars() -> impl Strategy<Value = Vec<Option<String>>> {
    let members = (
        member("i", or_null(INTEGERS)),
        member("d", or_null(DOUBLES)),
        member("s", or_null(TEXTS)),
        member("b", or_null(TRUTHS)),
    );
    members.prop_map(|(i, d, s, b)| vec![i, d, s, b])
}

fn json() -> impl Strategy<Value = String> {
    let element = prop_oneof![8 => or_null(INTEGERS), 1 => one_of(DOUBLES), 1 => stray()];
    let list = prop::collection::vec(element, 0..4).prop_map(|elements| format!("[{}]", elements.join(", ")));
    // A key once more, written with an escape.
    let again = prop::option::weighted(0.2, one_of(INTEGERS).prop_map(|value| format!(r#""\u0069": {value}"#)));
    let members = (scalars(), member("l", list.boxed()), member("o", object(scalars()).boxed()), again);
    object(members.prop_map(|(mut members, l, o, again)| {
        members.extend([l, o, again]);
        members
    }))
}

/// `serde_json` doesn't tell the integer `-0` from `-0.0`, and refuses what no double can hold, which here is infinite.
fn reads_otherwise(value: &[u8]) -> bool {
    let parsed: Result<serde_json::Value, _> = serde_json::from_slice(value);
    value.windows(2).any(|bytes| bytes == b"-0")
        || parsed.is_err_and(|error| error.to_string().contains("number out of range"))
}

/// Mostly valid JSON; some with a byte too many, too few, or of no text.
fn value() -> impl Strategy<Value = Vec<u8>> {
    let damaged = (json(), any::<prop::sample::Index>(), any::<Option<u8>>()).prop_map(|(json, at, byte)| {
        let mut bytes = json.into_bytes();
        let at = at.index(bytes.len());
        match byte {
            Some(byte) => bytes[at] = byte,
            None => drop(bytes.remove(at)),
        }
        bytes
    });
    prop_oneof![9 => json().prop_map(String::into_bytes), 1 => damaged]
        .prop_filter("serde_json reads it otherwise", |value| !reads_otherwise(value))
}

/// How often something was seen.
#[derive(Debug, Default)]
struct Seen {
    filters: Cell<u32>,
    yes: Cell<u32>,
    no: Cell<u32>,
    neither: Cell<u32>,
}

fn count(cell: &Cell<u32>) {
    cell.set(cell.get() + 1);
}

#[test]
fn agrees_with_the_interpreter() {
    let seen = Seen::default();
    let compare = |(source, values): (String, Vec<Vec<u8>>)| {
        let Ok(filter) = Filter::compile(&source) else { return Ok(()) };
        count(&seen.filters);
        let program = Program::compile(&source).unwrap();
        let mut scratch = Scratch::default();
        for value in values {
            let says = compiled(&filter, &value, &mut scratch);
            count(match says {
                Some(true) => &seen.yes,
                Some(false) => &seen.no,
                None => &seen.neither,
            });
            let text = String::from_utf8_lossy(&value);
            prop_assert_eq!(says, interpreted(&program, &value), "{} on {}", source, text);
        }
        Ok(())
    };
    let config = ProptestConfig { cases: FILTERS, failure_persistence: None, ..ProptestConfig::default() };
    match TestRunner::new(config).run(&(truth(3), prop::collection::vec(value(), 1..6)), compare) {
        Ok(()) => {}
        Err(TestError::Fail(reason, _) | TestError::Abort(reason)) => panic!("{reason}"),
    }
    // Two things that never say yes and no agree as well, which would show nothing.
    let said = seen.yes.get() + seen.no.get();
    assert!(seen.filters.get() > FILTERS / 2, "{seen:?}");
    assert!(said > seen.neither.get() / 2, "{seen:?}");
    assert!(seen.yes.get().min(seen.no.get()) > said / 5, "{seen:?}");
}
