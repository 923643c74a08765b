//! What `compile` says of expressions that are wrong.

use std::fmt::Write;

use super::super::{Filter, Problem};

/// The problems of an expression, each under the part that it is about.
fn problems(source: &str) -> String {
    let problems = Filter::compile(source).err().unwrap_or_default();
    let mut text = String::new();
    for Problem { message, span, hint } in problems {
        let before = source[..span.start].chars().count();
        let width = source[span].chars().count().max(1);
        let _ = writeln!(text, "{source}\n{}{} {message}", " ".repeat(before), "^".repeat(width));
        if let Some(hint) = hint {
            let _ = writeln!(text, "hint: {hint}");
        }
    }
    text
}

#[test]
fn every_kind_of_problem() {
    const WRONG: &[&str] = &[
        "",
        "evnt.key == b'1'",
        "topic == 'a'",
        "amount > 5",
        "event",
        "event.tpic == 'a'",
        "event.amount > 5",
        "event['topic'] == 'a'",
        "event.ce == event.ce.type",
        "event.ce.Type == 'a'",
        "event.ce.data == 'a'",
        "event.key == 'card-1'",
        "event.value.amount > 5",
        "event.text.amount > 5",
        "event.topic == null",
        "event.topic == 5",
        "event.partition + 'a' == 'b'",
        "event.partition * 1.5 > 2.0",
        "1 + 'a'",
        "1 + 1",
        "event.topic",
        "event.json.amount + 1u > 2u",
        "event.json.created > timestamp('2026-01-01T00:00:00Z')",
        "event.timestamp > 1767225600",
        "event.timestamp > timestamp('soon')",
        "event.timestamp.getHours('Mars/Olympus') == 1",
        "nosuch(1)",
        "event.topic.startWith('a')",
        "startsWith(event.topic, 'a')",
        "event.topic.startsWith(1)",
        "event.topic.startsWith()",
        "size(event.partition) > 1",
        "event.topic.matches('a(')",
        "event.topic.matches('(a{1000}){1000}')",
        "event.json.items.exists(item.price > 100)",
        "event.json.items.exists(item, itm.price > 100)",
        "event.json.items.all(item, size(item))",
        "event.topic.exists(c, c == 'a')",
        "has(event.headers['x'])",
        "event.headers[1] == 'a'",
        "1 in event.headers",
        "'a' in event.topic",
        "event.partition in ['1', '2']",
        "event.json.items[-1] == 1",
        "event.topic[0] == 'a'",
        "{'a': 1, 'a': 2}.a == 1",
        "{1.5: 1}[1.5] == 1",
        "event.json.a && 'b'",
        "!event.topic",
        "-event.topic == 'a'",
        "event.topic ? true : false",
        "Message{a: 1}.a == 1",
        "event.json.amount >=",
        "event.json.amount >= = 5",
        "event.json.amount = 5",
        "event.topic == 'a",
        "event.topic == \"é\" && (event.offset",
        "event.json?.a",
        "été == 1",
        "event.nosuch == 1 && event.topic == 2 || evnt.key == b'' && size(1, 2) > event.offset",
    ];
    let all: Vec<String> = WRONG.iter().map(|source| problems(source)).collect();
    assert!(all.iter().all(|problems| !problems.is_empty()));
    insta::assert_snapshot!(all.join("\n"));
}

#[test]
fn expressions_are_bounded() {
    let nested = format!("{}true{}", "(".repeat(65), ")".repeat(65));
    let long = format!("event.topic == '{}'", "x".repeat(4096));
    for (source, expected) in [
        (nested, "brackets are nested deeper than 64"),
        (long, "an expression of 4113 bytes, of at most 4096"),
        ("true".to_owned() + &" ? true : true".repeat(280), "operations are nested too deep"),
        ("0".to_owned() + &" + 1".repeat(1000) + " == 1", "operations are nested deeper than 128"),
        ("event.json".to_owned() + &".a".repeat(2000), "operations are nested deeper than 128"),
    ] {
        let problems = Filter::compile(&source).unwrap_err();
        assert!(problems.iter().any(|problem| problem.message.contains(expected)), "{problems:#?}");
    }
    let brackets_in_strings = format!("event.topic != '{}' // {0}", "([{".repeat(100));
    assert!(Filter::compile(&brackets_in_strings).is_ok());
    assert!(Filter::compile(&("-".repeat(2000) + "1 == 1")).is_ok());
    assert!(Filter::compile(&("true".to_owned() + &" && event.offset > 1".repeat(190))).is_ok());
}
