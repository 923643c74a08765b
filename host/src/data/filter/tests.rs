//! What filters say of events, and what `compile` says of filters.

mod interpreter;
mod json;
mod problems;

use super::{Filter, Outcome, Scratch};
use crate::data::event::{Event, Header, Headers};
use Outcome::{Absent, Match, NoMatch};

const HEADERS: &[Header<'static>] = &[
    Header { name: b"content-type", value: Some(b"application/json") },
    Header { name: b"ce_type", value: Some(b"payment.refused") },
    Header { name: b"ce_type", value: Some(b"payment.captured") },
    Header { name: b"ce_retries", value: Some(b"3") },
    Header { name: b"empty", value: None },
    Header { name: b"latin-1", value: Some(b"\xe9") },
];

fn payment<'a>(value: Option<&'a [u8]>) -> Event<'a> {
    Event {
        topic: "payments",
        partition: 3,
        offset: 42,
        timestamp: 1_767_225_600_000,
        key: Some(b"card-1"),
        value,
        headers: Headers::Slice(HEADERS),
    }
}

#[track_caller]
fn outcome(filter: &str, event: &Event<'_>) -> Outcome {
    match Filter::compile(filter) {
        Ok(filter) => filter.evaluate(event, &mut Scratch::default()),
        Err(problems) => panic!("`{filter}` doesn't compile: {problems:#?}"),
    }
}

/// What a filter says of a payment with this value.
#[track_caller]
fn check(filter: &str, value: &str, expected: Outcome) {
    assert_eq!(outcome(filter, &payment(Some(value.as_bytes()))), expected, "{filter} on {value}");
}

/// A filter that holds of a payment, whatever its value.
#[track_caller]
fn holds(filter: &str) {
    check(filter, "{}", Match);
}

#[track_caller]
fn fails(filter: &str, value: &str, message: &str) {
    check(filter, value, Outcome::Error(message.into()));
}

#[test]
fn reads_the_fields_of_a_json_value() {
    check("event.json.amount >= 1000", r#"{"amount": 1000}"#, Match);
    check("event.json.amount >= 1000", r#"{"amount": 999.5}"#, NoMatch);
    check("event.json.card.country == 'DE'", r#"{"card": {"country": "DE"}}"#, Match);
    check(r#"event.json["field with space"]"#, r#"{"field with space": true}"#, Match);
    check("event.json.items[1].price == 5", r#"{"items": [{"price": 3}, {"price": 5}]}"#, Match);
    check("event.json['items'][0u] == 'a'", r#"{"items": ["a"]}"#, Match);
    check(r#"event.json.name == "é\"\n😀""#, r#"{"name": "\u00e9\"\n\ud83d\ude00"}"#, Match);
    check("event.json['été'] == 1", r#"{"\u00e9t\u00e9": 1}"#, Match);
    check("event.json == 5", " 5\n", Match);
    check("event.json == null", "null", Match);
    check("event.json == {'a': [1, 2.0, {}]}", r#"{"a": [1.0, 2, {}]}"#, Match);
    check("event.json == {'a': 1}", r#"{"a": 1, "b": 1}"#, NoMatch);
}

#[test]
fn of_repeated_keys_the_last_counts() {
    check("event.json.a == 2", r#"{"a": 1, "b": 1, "a": 2}"#, Match);
    check("event.json.a == 2", r#"{"a": 1, "\u0061": 2}"#, Match);
    check("size(event.json) == 1", r#"{"a": 1, "a": 2}"#, Match);
    check("event.json == {'a': 2}", r#"{"a": 1, "a": 2}"#, Match);
    check("event.json.a.b == 1", r#"{"a": {"b": 1}, "a": {}}"#, Absent);
}

#[test]
fn integers_that_fit_are_int_and_other_numbers_double() {
    check("event.json.n + 1 > 10", r#"{"n": 10}"#, Match);
    check("event.json.n == 9223372036854775807", r#"{"n": 9223372036854775807}"#, Match);
    check("event.json.n / 2 == 1", r#"{"n": 3}"#, Match);
    check("event.json.n / 2.0 == 1.5", r#"{"n": 3.0}"#, Match);
    check("event.json.n > 9223372036854775807", r#"{"n": 18446744073709551616}"#, Match);
    check("event.json.n == 9007199254740993", r#"{"n": 9007199254740992}"#, NoMatch);
    check("event.json.n == 9007199254740992.0", r#"{"n": 9007199254740993}"#, Match);
    check("event.json.n == 0", r#"{"n": -0}"#, Match);
    check("event.json.n == 1000.0", r#"{"n": 1e3}"#, Match);
    check("event.json.n == 0.1", r#"{"n": 0.1}"#, Match);
    fails("event.json.n + 1 > 1", r#"{"n": 1.5}"#, "`+` doesn't take double and int");
    fails("event.json.n + 1 > 1", r#"{"n": 9223372036854775807}"#, "`+` overflows int");
    fails("event.json.n % 0 == 1", r#"{"n": 1}"#, "division by zero");
}

#[test]
fn what_is_not_wholly_json_has_no_json() {
    fails("event.json.a == 1", r#"{"a": 1}}"#, "the value isn't valid JSON: expected the end at byte 8");
    fails("event.json.a == 1", r#"{"a": 1, "b": tru}"#, "the value isn't valid JSON: expected a value at byte 14");
    fails("event.json.a == 1", "", "the value isn't valid JSON: expected a value at byte 0");
    fails("!has(event.json.a)", "{'a': 1}", "the value isn't valid JSON: expected a key or `}` at byte 1");
    let event = payment(Some(b"{\"a\": 1, \"b\": \"\xff\"}"));
    let message = "the value isn't UTF-8 from byte 15 on".to_owned();
    assert_eq!(outcome("event.json.a == 1", &event), Outcome::Error(message.clone()));
    assert_eq!(outcome("event.text == ''", &event), Outcome::Error(message));
    check("event.topic == 'payments' || event.json.a == 1", "not JSON", Match);
    check("event.json.a == 1 || event.topic == 'payments'", "not JSON", Match);
    check("event.json.a == 1 && event.topic == 'orders'", "not JSON", NoMatch);
}

#[test]
fn what_is_absent_is_no_error() {
    check("event.json.a == 1", "{}", Absent);
    check("event.json.a.b == 1", r#"{"a": null}"#, Absent);
    check("event.json.a[0] == 1", r#"{"a": []}"#, Absent);
    check("event.headers['nosuch'] == 'x'", "{}", Absent);
    check("event.ce.subject == 'x'", "{}", Absent);
    check("!event.json.a", "{}", Absent);
    check("event.json.a == 1 || event.json.b == 1", r#"{"b": 1}"#, Match);
    check("event.json.a == 1 || event.json.b == 1", r#"{"b": 2}"#, Absent);
    check("event.json.a == 1 && event.json.b == 1", r#"{"b": 2}"#, NoMatch);
    check("event.json.b == 1 && event.json.a == 1", r#"{"b": 1}"#, Absent);
    check("event.json.a ? true : false", "{}", Absent);
}

#[test]
fn an_error_beside_something_absent_is_an_error() {
    let message = "`<` doesn't order string and int";
    fails("event.json.a == 1 && event.json.s < 1", r#"{"s": "x"}"#, message);
    fails("event.json.s < 1 && event.json.a == 1", r#"{"s": "x"}"#, message);
    fails("event.json.s < 1 || event.json.a == 1", r#"{"s": "x"}"#, message);
    check("event.json.s < 1 || event.json.a == 1", r#"{"s": "x", "a": 1}"#, Match);
}

#[test]
fn a_field_of_what_has_none_is_an_error() {
    fails("event.json.a.b == 1", r#"{"a": 1}"#, "no field `b` in int: it isn't a map");
    fails("event.json.a.b == 1", r#"{"a": []}"#, "no field `b` in list: it isn't a map");
    fails("event.json.a", r#"{"a": 1}"#, "the filter gives int, expected bool");
    fails("!event.json.a", r#"{"a": 1}"#, "`!` doesn't take int");
}

#[test]
fn has_tests_for_a_field() {
    check("has(event.json.a)", r#"{"a": null}"#, Match);
    check("has(event.json.a.b)", r#"{"a": {}}"#, NoMatch);
    check("has(event.json.a.b)", "{}", Absent);
    check("has(event.json.a) && event.json.a > 1", "{}", NoMatch);
    holds("has(event.headers.ce_type) && !has(event.headers.nosuch)");
    holds("has(event.ce.type) && !has(event.ce.subject)");
    holds("'ce_type' in event.headers && !('nosuch' in event.headers) && 'type' in event.ce");
    check("'a' in event.json && !('b' in event.json)", r#"{"a": 1}"#, Match);
}

#[test]
fn reads_the_event() {
    holds("event.topic == 'payments' && event.partition == 3 && event.offset == 42");
    holds("event.timestamp == timestamp('2026-01-01T00:00:00Z')");
    holds("event.timestamp - duration('1h') < timestamp('2026-01-01T00:00:00+00:30')");
    holds("event.timestamp.getFullYear() == 2026 && event.timestamp.getHours('+05:30') == 5");
    holds("string(event.key) == 'card-1' && event.key == b'card-1' && string(event.key).startsWith('card')");
    holds("event.text == '{}' && event.value == b'{}' && size(event.value) == 2");
    holds("event.headers['ce_type'] == 'payment.captured'");
    holds("event.headers.ce_type == 'payment.captured'");
    holds("event.headers['empty'] == null");
    holds("size(event.headers) == 5");
    holds("event.headers.exists(name, name.startsWith('ce_'))");
    fails("event.headers['latin-1'] == ''", "{}", "the header `latin-1` isn't UTF-8 from byte 0 on");
}

#[test]
fn a_tombstone_is_null_and_has_no_fields() {
    let mut event = payment(None);
    event.key = None;
    event.timestamp = -1;
    let nothing = "event.value == null && event.text == null && event.json == null && event.key == null";
    assert_eq!(outcome(nothing, &event), Match);
    assert_eq!(outcome("event.timestamp == null", &event), Match);
    assert_eq!(outcome("has(event.value) || has(event.json) || has(event.key)", &event), NoMatch);
    assert_eq!(outcome("event.json.amount > 1", &event), Absent);
    assert_eq!(outcome("string(event.key) == 'a'", &event), Outcome::Error("`string` doesn't take null".into()));
}

#[test]
fn reads_cloudevents_in_binary_mode() {
    holds("event.ce.type == 'payment.captured' && event.ce['type'] == 'payment.captured'");
    holds("event.ce.datacontenttype == 'application/json' && event.ce.retries == '3'");
    check("event.ce.source == 'x'", r#"{"source": "x"}"#, Absent);
}

#[test]
fn reads_cloudevents_in_structured_mode() {
    let headers = [Header { name: b"content-type", value: Some(b"Application/CloudEvents+JSON ; charset=utf-8") }];
    let value = br#"{"type": "t", "retries": 3, "subject": null, "data": {"amount": 5}}"#;
    let mut event = payment(Some(value));
    event.headers = Headers::Slice(&headers);
    assert_eq!(outcome("event.ce.type == 't' && event.ce.retries == 3", &event), Match);
    assert_eq!(outcome("event.json.data.amount == 5 && !has(event.ce.subject)", &event), Match);
    assert_eq!(outcome("event.ce.source == 'x'", &event), Absent);
    event.value = Some(b"[]");
    let message = "a structured CloudEvent is a map, not list".into();
    assert_eq!(outcome("event.ce.source == 'x'", &event), Outcome::Error(message));
}

#[test]
fn calls_functions() {
    holds("'abc'.contains('b') && 'abc'.startsWith('a') && 'abc'.endsWith('c') && 'abc'.matches('^a.c$')");
    holds("matches(event.topic, 'pay') && size('été') == 3 && 'été'.size() == 3 && size(b'\\xff') == 1");
    holds("int('12') == 12 && int(1.9) == 1 && uint(3) == 3u && double('1.5') == 1.5 && bool('true')");
    holds(
        "string(1) == '1' && string(1.0) == '1' && string(true) == 'true' && string(b'x') == 'x' && bytes('x') == b'x'",
    );
    holds("string(event.timestamp) == '2026-01-01T00:00:00Z' && int(event.timestamp) == 1767225600");
    holds(
        "duration('1h30m') == duration('90m') && string(duration('-1.5s')) == '-1.5s' && duration('90m').getHours() == 1",
    );
    check("event.json.s.matches(event.json.re)", r#"{"s": "abc", "re": "^a"}"#, Match);
    fails("int(event.json.s) == 1", r#"{"s": "x"}"#, "`int` makes nothing of `x`");
    fails("event.json.s.contains('a')", r#"{"s": 1}"#, "`contains` doesn't take int and string");
    fails("timestamp(event.json.s) == event.timestamp", r#"{"s": "soon"}"#, "`timestamp` makes nothing of `soon`");
}

#[test]
fn operators_and_literals() {
    holds("1 + 2 * 3 == 7 && -7 / 2 == -3 && -7 % 2 == -1 && 1 < 1.5 && 2u > 1 && 1 == 1.0");
    holds("'a' + 'b' == 'ab' && [1] + [2] == [1, 2] && 'a' < 'b' && false < true && b'a' < b'b'");
    holds("event.partition in [1, 2, 3] && !('x' in ['a', 'b']) && 'k' in {'k': 1} && !(1 in [])");
    holds("{'a': 1}.a == 1 && {1: 'x'}[1] == 'x' && [1, 2][1] == 2 && (event.offset > 1 ? 'big' : 'small') == 'big'");
    check("event.json.tag in ['a', 'b']", r#"{"tag": "b"}"#, Match);
    check("'a' in event.json.tags", r#"{"tags": ["b", "a"]}"#, Match);
}

#[test]
fn macros_over_json() {
    let items = r#"{"items": [{"price": 5, "tags": ["x"]}, {"price": 20, "tags": []}, {}]}"#;
    check("event.json.items.exists(item, item.price > 10)", items, Match);
    check("event.json.items.exists(item, item.price > 100)", items, Absent);
    check("event.json.items.all(item, item.price < 10)", items, NoMatch);
    check("event.json.items.all(item, item.price < 100)", items, Absent);
    check("event.json.items.exists_one(item, has(item.price) && item.price == 5)", items, Match);
    check("event.json.items.filter(item, has(item.price)).map(item, item.price) == [5, 20]", items, Match);
    check("event.json.items.map(item, has(item.price), item.price * 2) == [10, 40]", items, Match);
    check("event.json.items.exists(i, has(i.tags) && i.tags.exists(t, t == 'x' && i.price == 5))", items, Match);
    check("event.json.exists(key, key == 'items') && size(event.json.items) == 3", items, Match);
    check("[1, 2].map(event, event * 2) == [2, 4]", "{}", Match);
}

#[test]
fn no_value_holds_a_filter_up() {
    let numbers = vec!["0"; 5000].join(",");
    let value = format!("[{numbers}]");
    let filter = "event.json.exists(a, event.json.exists(b, a + b == 1))";
    fails(filter, &value, "the filter took more than 1000000 steps on this event");
    let doubled = format!("['{}'].map(s, s + s)", "x".repeat(1000)) + &".map(s, s + s)".repeat(40) + " == []";
    fails(&doubled, "", "the filter took more than 1000000 steps on this event");
}

#[test]
fn one_index_serves_all_filters_of_an_event_and_is_forgotten_after() {
    let filter = Filter::compile("event.json.a == 1").unwrap();
    let mut scratch = Scratch::default();
    for (value, expected) in [("{\"a\": 1}", Match), ("[", Absent), ("{\"a\": 2}", NoMatch), ("{}", Absent)] {
        scratch.next_event();
        let event = payment(Some(value.as_bytes()));
        let outcome = filter.evaluate(&event, &mut scratch);
        assert_eq!(outcome, filter.evaluate(&event, &mut scratch));
        match outcome {
            Outcome::Error(_) => assert_eq!(value, "["),
            outcome => assert_eq!(outcome, expected),
        }
    }
}

#[test]
fn filters_are_shared_between_threads() {
    fn shared<T: std::fmt::Debug + Send + Sync + 'static>(_: &T) {}
    shared(&Filter::compile("event.json.a.matches('a+')").unwrap());
}
