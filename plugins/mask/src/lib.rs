//! Masks personal data in JSON events, at the fields that the route's config names: `cardholder.email`, or
//! `contacts.*.phone` for every element of a list or object. Fields that an event doesn't have are passed over.
//!
//! What is masked keeps its shape, so that people still recognise the kind of value and systems its length.

use std::collections::BTreeMap;

use midplane_plugin::{Event, Failure, Outputs, Plugin, Ports, plugin};
use serde::Deserialize;
use serde_json::Value;

/// The plugin.
pub struct Mask {
    fields: Vec<(Vec<String>, Kind)>,
}

/// What routes set.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Paths with dots between their steps (`*`: every one), and what is found there.
    fields: BTreeMap<String, Kind>,
}

/// How a value is masked.
#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// All digits but the last four: `************1486`.
    Card,
    /// All of the local part but its first letter: `a**@example.org`.
    Email,
    /// All digits but the last two: `+** *** ****67`.
    Phone,
    /// All of each word but its first letter: `A** E******`.
    Name,
    /// All of it: null.
    Remove,
}

impl Plugin for Mask {
    type Config = Config;

    fn config_schema() -> Option<&'static str> {
        Some(include_str!("config.schema.json"))
    }

    fn configure(config: Config, _ports: &Ports) -> Result<Self, String> {
        if let Some(path) = config.fields.keys().find(|path| path.split('.').any(str::is_empty)) {
            return Err(format!("the path `{path}` has an empty step"));
        }
        let steps = |path: String| path.split('.').map(str::to_owned).collect();
        Ok(Self { fields: config.fields.into_iter().map(|(path, kind)| (steps(path), kind)).collect() })
    }

    fn process(&mut self, event: Event<'_>, out: &mut Outputs<'_>) -> Result<(), Failure> {
        if event.value().is_none() {
            out.forward();
            return Ok(());
        }
        let mut document: Value = event.json()?;
        for (path, kind) in &self.fields {
            visit(&mut document, path, &mut |value| mask(value, *kind));
        }
        out.emit("default").json(&document)?.send();
        Ok(())
    }
}

/// Calls `change` with every value that a path leads to.
fn visit(value: &mut Value, path: &[String], change: &mut impl FnMut(&mut Value)) {
    let Some((step, rest)) = path.split_first() else { return change(value) };
    match value {
        Value::Object(fields) if step == "*" => fields.values_mut().for_each(|value| visit(value, rest, change)),
        Value::Array(items) if step == "*" => items.iter_mut().for_each(|value| visit(value, rest, change)),
        Value::Object(fields) => fields.get_mut(step).into_iter().for_each(|value| visit(value, rest, change)),
        _ => (),
    }
}

/// Masks one value. What isn't text or a number is removed: better nothing than a guess.
fn mask(value: &mut Value, kind: Kind) {
    let text = match &*value {
        Value::Null => return,
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => String::new(),
    };
    *value = match kind {
        _ if text.is_empty() => Value::Null,
        Kind::Card => keep_last_digits(&text, 4).into(),
        Kind::Phone => keep_last_digits(&text, 2).into(),
        Kind::Name => keep_initials(&text).into(),
        Kind::Email => match text.rsplit_once('@') {
            Some((local, domain)) => format!("{}@{domain}", keep_initials(local)).into(),
            None => Value::Null,
        },
        Kind::Remove => Value::Null,
    };
}

/// What has no more digits than are kept loses them all.
fn keep_last_digits(text: &str, kept: usize) -> String {
    let digits = text.chars().filter(char::is_ascii_digit).count();
    let mut masked = if digits > kept { digits - kept } else { digits };
    let mut mask = |character: char| match character {
        _ if !character.is_ascii_digit() || masked == 0 => character,
        _ => {
            masked -= 1;
            '*'
        }
    };
    text.chars().map(&mut mask).collect()
}

fn keep_initials(text: &str) -> String {
    let mut initial = true;
    let mut mask = |character: char| {
        let kept = initial || character.is_whitespace();
        initial = character.is_whitespace();
        if kept { character } else { '*' }
    };
    text.chars().map(&mut mask).collect()
}

plugin!(Mask);

#[cfg(test)]
mod tests {
    use midplane_plugin::test::{Harness, Record, Value, json};

    use super::Mask;

    fn check(fields: Value, event: Value, expected: Value) {
        let mut mask = Harness::<Mask>::new(json!({ "fields": fields })).unwrap();
        assert_eq!(mask.one(Record::json(&event)).json::<Value>(), expected);
    }

    #[test]
    fn each_kind_keeps_its_shape() {
        check(json!({"c": "card"}), json!({"c": "4539578763621486"}), json!({"c": "************1486"}));
        check(json!({"c": "card"}), json!({"c": 4539578763621486_u64}), json!({"c": "************1486"}));
        check(json!({"c": "card"}), json!({"c": "1234"}), json!({"c": "****"}));
        check(json!({"e": "email"}), json!({"e": "ada@example.org"}), json!({"e": "a**@example.org"}));
        check(json!({"e": "email"}), json!({"e": "not an address"}), json!({"e": null}));
        check(json!({"p": "phone"}), json!({"p": "+49 30 1234567"}), json!({"p": "+** ** *****67"}));
        check(json!({"n": "name"}), json!({"n": "Ädä Example"}), json!({"n": "Ä** E******"}));
        check(json!({"x": "remove"}), json!({"x": {"deep": 1}}), json!({"x": null}));
    }

    #[test]
    fn paths_lead_into_objects_and_lists() {
        check(json!({"a.b.c": "name"}), json!({"a": {"b": {"c": "Ada"}}}), json!({"a": {"b": {"c": "A**"}}}));
        check(json!({"a.*.n": "name"}), json!({"a": [{"n": "Ada"}, {"m": 1}]}), json!({"a": [{"n": "A**"}, {"m": 1}]}));
        check(json!({"*": "name"}), json!({"a": "Ada", "b": "Bob"}), json!({"a": "A**", "b": "B**"}));
    }

    #[test]
    fn what_an_event_does_not_have_is_passed_over() {
        check(json!({"a.b": "name"}), json!({"a": "text", "b": 1}), json!({"a": "text", "b": 1}));
        check(json!({"a": "name"}), json!({"a": null}), json!({"a": null}));
    }

    #[test]
    fn the_order_of_fields_is_kept() {
        let mut mask = Harness::<Mask>::new(json!({"fields": {"z": "name"}})).unwrap();
        assert_eq!(mask.one(Record::new().value(r#"{"z":"Zoe","a":1}"#)).text(), r#"{"z":"Z**","a":1}"#);
    }

    #[test]
    fn a_tombstone_goes_on_and_other_values_fail() {
        let mut mask = Harness::<Mask>::new(json!({"fields": {}})).unwrap();
        assert_eq!(mask.one(Record::new().key("k")).value, None);
        assert!(mask.failure(Record::new().value("plain")).message().starts_with("the value is not the JSON expected"));
    }

    #[test]
    fn a_path_without_steps_is_refused() {
        let error = Harness::<Mask>::new(json!({"fields": {"a..b": "name"}})).map(drop).unwrap_err();
        assert_eq!(error, "the path `a..b` has an empty step");
    }
}
