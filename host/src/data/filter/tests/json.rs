//! The index of JSON texts against `serde_json`.

use std::borrow::Cow;

use proptest::prelude::*;

use super::super::json::Index;
use super::super::value::Value;

/// What is indexed, read back whole.
fn read(value: &Value<'_>) -> serde_json::Value {
    match value {
        Value::Bool(truth) => (*truth).into(),
        Value::Int(number) => (*number).into(),
        Value::Double(number) => (*number).into(),
        Value::Text(text) => text.as_ref().into(),
        Value::Json(json) if json.is_object() => {
            json.members().map(|(key, value)| (Cow::into_owned(key), read(&value))).collect()
        }
        Value::Json(json) => json.elements().map(|element| read(&element)).collect(),
        _ => serde_json::Value::Null,
    }
}

fn check(text: &str) {
    let mut index = Index::default();
    let indexed = index.read(text).ok().map(|()| read(&index.root(text.as_bytes())));
    let parsed: Option<serde_json::Value> = serde_json::from_str(text).ok();
    assert_eq!(indexed, parsed, "{text}");
}

#[test]
fn takes_and_refuses_what_json_is_and_is_not() {
    for text in [
        "",
        " ",
        "1",
        " 1 ",
        "-1",
        "-",
        "01",
        "-01",
        "1.",
        ".5",
        "1.5",
        "1e5",
        "1e",
        "1e+",
        "1E-2",
        "+1",
        "0x1",
        "1 1",
        "nul",
        "null",
        "nullx",
        "true",
        "True",
        "[",
        "]",
        "[]",
        "[1",
        "[1,",
        "[1,]",
        "[,1]",
        "[1 2]",
        "[1}",
        "{",
        "}",
        "{}",
        "{]",
        "{1:2}",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{\"a\":1 \"b\":2}",
        "{\"a\":1}}",
        "{\"a\":[{}],\"b\":{\"c\":[]}}",
        "\"",
        "\"a",
        "\"\\\"",
        "\"\\x\"",
        "\"\\u12\"",
        "\"\\u00e9\"",
        "\"\\ud83d\\ude00\"",
        "\"\\ud83d\"",
        "\"\\ude00\"",
        "\"\\ud83d\\u0041\"",
        "\"\t\"",
        "\"\u{7f}\"",
        "\u{feff}1",
        "NaN",
        "Infinity",
        "[1]//",
        "\"\\/\\b\\f\\n\\r\\t\\\\\"",
        "'a'",
        "{\"a\":1,\"a\":2}",
    ] {
        check(text);
    }
}

#[test]
fn nesting_is_bounded() {
    let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    assert!(Index::default().read(&nested(128)).is_ok());
    assert!(Index::default().read(&nested(129)).is_err());
    assert!(Index::default().read(&"[".repeat(1_000_000)).is_err());
}

proptest! {
    #[test]
    fn reads_what_serde_json_reads(text in r#"[\[\]{}:,"\\ua1-9e.\-0 trfn😀é]{0,24}"#) {
        check(&text);
    }

    #[test]
    fn reads_what_serde_json_writes(text: String, number: i64, keys in prop::collection::vec(any::<String>(), 0..4)) {
        let members: serde_json::Map<_, _> = keys.into_iter().map(|key| (key, vec![number].into())).collect();
        check(&serde_json::json!([text, { "members": members }, number, null, true]).to_string());
    }
}
