//! The part of JSON Schema that describes a plugin's config: types, bounds, words, patterns, properties, references and
//! alternatives. A keyword beyond that is left to the plugin's `configure`, which has the last word anyway. Never shows a
//! value: it may be a secret.

use serde_json::Value;

/// References may go round.
const DEPTH_MAX: usize = 64;

/// Where a value is not what its schema says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Violation {
    /// Keys and indexes, from the top.
    pub(super) path: Vec<String>,
    /// Which kind of problem.
    pub(super) fault: Fault,
}

/// What a value isn't.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    /// Something else, as a noun.
    Expected(String),
    /// A property that is not there.
    Missing(String),
    /// A property that may not be there, and those that may.
    Unknown(String, Vec<String>),
}

/// All violations of a value.
pub(super) fn violations(schema: &Value, value: &Value) -> Vec<Violation> {
    let mut check = Check { root: schema, path: Vec::new(), found: Vec::new() };
    check.value(schema, value, 0);
    check.found
}

struct Check<'s> {
    root: &'s Value,
    path: Vec<String>,
    found: Vec<Violation>,
}

impl<'s> Check<'s> {
    fn fault(&mut self, fault: Fault) {
        self.found.push(Violation { path: self.path.clone(), fault });
    }

    fn expect(&mut self, holds: bool, expected: impl FnOnce() -> String) {
        if !holds {
            self.fault(Fault::Expected(expected()));
        }
    }

    fn value(&mut self, schema: &'s Value, value: &Value, depth: usize) {
        let schema = match schema {
            Value::Bool(allowed) => return self.expect(*allowed, || "nothing at all".to_owned()),
            Value::Object(schema) if depth < DEPTH_MAX => schema,
            _ => return,
        };
        if let Some(target) = schema.get("$ref").and_then(Value::as_str).and_then(|name| self.resolve(name)) {
            self.value(target, value, depth + 1);
        }
        if let Some(types) = schema.get("type") {
            let names: Vec<&str> = one_or_many(types).filter_map(Value::as_str).collect();
            if !names.iter().any(|name| is_of_type(value, name)) {
                // What holds for another type says nothing of this value.
                return self
                    .fault(Fault::Expected(names.iter().map(|name| noun(name)).collect::<Vec<_>>().join(" or ")));
            }
        }
        if let Some(words) = schema.get("enum").and_then(Value::as_array) {
            self.expect(words.contains(value), || format!("one of {}", listed(words)));
        }
        if let Some(word) = schema.get("const") {
            self.expect(word == value, || format!("`{word}`"));
        }
        self.number(schema, value);
        self.text(schema, value);
        self.list(schema, value, depth);
        self.object(schema, value, depth);
        self.alternatives(schema, value, depth);
    }

    fn resolve(&self, name: &str) -> Option<&'s Value> {
        name.strip_prefix('#').and_then(|pointer| self.root.pointer(pointer))
    }

    fn number(&mut self, schema: &'s serde_json::Map<String, Value>, value: &Value) {
        let Some(number) = value.as_f64() else { return };
        let bound = |key: &str| schema.get(key).and_then(|bound| Some((bound.as_f64()?, bound)));
        if let Some((min, shown)) = bound("minimum") {
            self.expect(number >= min, || format!("a number not below {shown}"));
        }
        if let Some((max, shown)) = bound("maximum") {
            self.expect(number <= max, || format!("a number not above {shown}"));
        }
        if let Some((min, shown)) = bound("exclusiveMinimum") {
            self.expect(number > min, || format!("a number above {shown}"));
        }
        if let Some((max, shown)) = bound("exclusiveMaximum") {
            self.expect(number < max, || format!("a number below {shown}"));
        }
    }

    fn text(&mut self, schema: &'s serde_json::Map<String, Value>, value: &Value) {
        let Some(text) = value.as_str() else { return };
        let length = text.chars().count() as u64;
        let bound = |key: &str| schema.get(key).and_then(Value::as_u64);
        if let Some(min) = bound("minLength") {
            self.expect(length >= min, || format!("a string of at least {min} characters"));
        }
        if let Some(max) = bound("maxLength") {
            self.expect(length <= max, || format!("a string of at most {max} characters"));
        }
        let pattern = schema.get("pattern").and_then(Value::as_str);
        if let Some(regex) = pattern.and_then(|pattern| regex::Regex::new(pattern).ok()) {
            self.expect(regex.is_match(text), || format!("a string that matches `{regex}`"));
        }
    }

    fn list(&mut self, schema: &'s serde_json::Map<String, Value>, value: &Value, depth: usize) {
        let Some(values) = value.as_array() else { return };
        let length = values.len() as u64;
        let bound = |key: &str| schema.get(key).and_then(Value::as_u64);
        if let Some(min) = bound("minItems") {
            self.expect(length >= min, || format!("a list of at least {min}"));
        }
        if let Some(max) = bound("maxItems") {
            self.expect(length <= max, || format!("a list of at most {max}"));
        }
        if let Some(items) = schema.get("items") {
            for (index, value) in values.iter().enumerate() {
                self.below(index.to_string(), items, value, depth);
            }
        }
    }

    fn object(&mut self, schema: &'s serde_json::Map<String, Value>, value: &Value, depth: usize) {
        let Some(object) = value.as_object() else { return };
        let properties = schema.get("properties").and_then(Value::as_object);
        let required = schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
        for key in required.filter(|key| !object.contains_key(*key)) {
            self.fault(Fault::Missing(key.to_owned()));
        }
        for (key, value) in object {
            if let Some(property) = properties.and_then(|properties| properties.get(key)) {
                self.below(key.clone(), property, value, depth);
                continue;
            }
            match schema.get("additionalProperties") {
                // Which of them a key matches decides what it may be.
                _ if schema.contains_key("patternProperties") => {}
                Some(Value::Bool(false)) => {
                    let known = properties.map(|properties| properties.keys().cloned().collect());
                    self.fault(Fault::Unknown(key.clone(), known.unwrap_or_default()));
                }
                Some(additional) => self.below(key.clone(), additional, value, depth),
                None => {}
            }
        }
    }

    fn alternatives(&mut self, schema: &'s serde_json::Map<String, Value>, value: &Value, depth: usize) {
        for all in schema.get("allOf").and_then(Value::as_array).into_iter().flatten() {
            self.value(all, value, depth + 1);
        }
        for key in ["anyOf", "oneOf"] {
            let Some(branches) = schema.get(key).and_then(Value::as_array) else { continue };
            let mut nearest: Option<Vec<Violation>> = None;
            for branch in branches {
                let mut check = Check { root: self.root, path: self.path.clone(), found: Vec::new() };
                check.value(branch, value, depth + 1);
                // Of several branches that don't fit, the one that fits deepest was probably meant.
                let depth = |found: &[Violation]| found.iter().map(|violation| violation.path.len()).max();
                if nearest.as_ref().is_none_or(|nearest| {
                    check.found.is_empty() || (!nearest.is_empty() && depth(&check.found) > depth(nearest))
                }) {
                    nearest = Some(check.found);
                }
            }
            self.found.extend(nearest.unwrap_or_default());
        }
    }

    fn below(&mut self, step: String, schema: &'s Value, value: &Value, depth: usize) {
        self.path.push(step);
        self.value(schema, value, depth + 1);
        self.path.pop();
    }
}

fn one_or_many(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice).iter()
}

fn is_of_type(value: &Value, name: &str) -> bool {
    match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|number| number.fract() == 0.0),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => true,
    }
}

fn noun(name: &str) -> &str {
    match name {
        "boolean" => "`true` or `false`",
        "integer" => "a whole number",
        "number" => "a number",
        "string" => "a string",
        "array" => "a list",
        "object" => "a table",
        "null" => "nothing",
        other => other,
    }
}

fn listed(words: &[Value]) -> String {
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(schema: &Value, value: &Value, expected: &[(&str, Fault)]) {
        let found: Vec<_> = violations(schema, value).into_iter().map(|v| (v.path.join("/"), v.fault)).collect();
        let expected: Vec<_> = expected.iter().map(|(path, fault)| ((*path).to_owned(), fault.clone())).collect();
        assert_eq!(found, expected, "{schema} of {value}");
    }

    fn expected(text: &str) -> Fault {
        Fault::Expected(text.to_owned())
    }

    #[test]
    fn single_values() {
        check(&json!(true), &json!(1), &[]);
        check(&json!(false), &json!(1), &[("", expected("nothing at all"))]);
        check(&json!({"type": "integer"}), &json!(2.0), &[]);
        check(&json!({"type": "integer"}), &json!(2.5), &[("", expected("a whole number"))]);
        check(&json!({"type": ["string", "null"]}), &json!(2), &[("", expected("a string or nothing"))]);
        check(&json!({"maximum": 1, "minimum": 0}), &json!(1.5), &[("", expected("a number not above 1"))]);
        check(&json!({"exclusiveMinimum": 0}), &json!(0), &[("", expected("a number above 0"))]);
        check(&json!({"enum": ["a", "b"]}), &json!("c"), &[("", expected("one of `\"a\"`, `\"b\"`"))]);
        check(&json!({"pattern": "^a"}), &json!("b"), &[("", expected("a string that matches `^a`"))]);
        check(&json!({"minLength": 2}), &json!("é"), &[("", expected("a string of at least 2 characters"))]);
    }

    #[test]
    fn what_is_below() {
        let schema = json!({
            "type": "object",
            "properties": {"list": {"items": {"$ref": "#/$defs/word"}}, "threshold": {"type": "number"}},
            "required": ["threshold"],
            "additionalProperties": false,
            "$defs": {"word": {"type": "string"}},
        });
        check(&schema, &json!({"threshold": 1, "list": ["a"]}), &[]);
        check(&schema, &json!({"threshold": 1, "list": ["a", 1]}), &[("list/1", expected("a string"))]);
        check(
            &schema,
            &json!({"treshold": 1}),
            &[
                ("", Fault::Missing("threshold".to_owned())),
                ("", Fault::Unknown("treshold".to_owned(), vec!["list".to_owned(), "threshold".to_owned()])),
            ],
        );
    }

    #[test]
    fn alternatives() {
        let schema = json!({"anyOf": [{"type": "null"}, {"properties": {"x": {"type": "string"}}}]});
        check(&schema, &json!(null), &[]);
        check(&schema, &json!({"x": 1}), &[("x", expected("a string"))]);
        check(&json!({"allOf": [{"type": "string"}, {"minLength": 1}]}), &json!("x"), &[]);
    }

    #[test]
    fn a_reference_to_itself_ends() {
        check(&json!({"$ref": "#"}), &json!(1), &[]);
    }
}
