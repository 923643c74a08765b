//! A JSON Schema of the file, for completion in editors: made of the same description that the reader goes by.

use serde_json::{Map, Value, json};

use super::keys::{self, Key, Kind, Section};

/// The JSON Schema (draft 7, which editors know) of a config.
pub fn schema() -> Value {
    let mut schema = section(&keys::ROOT);
    schema["$schema"] = "http://json-schema.org/draft-07/schema#".into();
    schema["title"] = "midplane.toml".into();
    schema
}

fn section(section: &Section) -> Value {
    let properties: Map<String, Value> = section.keys.iter().map(|key| (key.name.to_owned(), property(key))).collect();
    let required: Vec<&str> =
        section.keys.iter().map(|key| key.name).filter(|name| is_required(section, name)).collect();
    let mut schema = json!({
        "description": section.doc,
        "type": "object",
        "properties": properties,
        "additionalProperties": false,
    });
    if !required.is_empty() {
        schema["required"] = required.into();
    }
    schema
}

fn is_required(section: &Section, name: &str) -> bool {
    let of = |other: &Section| std::ptr::eq(section, other);
    (of(&keys::ROUTE) && name == "from")
        || (of(&keys::BROKER) && name == "bootstrap_servers")
        || (of(&keys::STAGE) && name == "plugin")
}

fn property(key: &Key) -> Value {
    let mut schema = kind(&key.kind);
    schema["description"] = key.doc.into();
    if let Some(default) = key.default {
        schema["default"] = match key.kind {
            Kind::Integer { .. } | Kind::Number { .. } | Kind::Flag => {
                serde_json::from_str(default).unwrap_or_else(|_| default.into())
            }
            _ => default.into(),
        };
    }
    schema
}

fn kind(kind: &Kind) -> Value {
    match kind {
        Kind::Text | Kind::Path | Kind::Address => json!({ "type": "string" }),
        Kind::Topic => pattern("[A-Za-z0-9._-]{1,249}"),
        Kind::Name => pattern("[A-Za-z0-9][A-Za-z0-9._-]{0,199}"),
        Kind::Duration => pattern("[0-9]+(ms|s|m|h|d)"),
        Kind::Size => pattern("[0-9]+(B|KiB|MiB|GiB|TiB|kB|MB|GB|TB)"),
        Kind::Sha256 => pattern("[0-9A-Fa-f]{64}"),
        Kind::Share => pattern("[0-9]+(\\.[0-9]+)?%"),
        Kind::Integer { min, max } => json!({ "type": "integer", "minimum": min, "maximum": max }),
        Kind::Number { min, max } => json!({ "type": "number", "minimum": min, "maximum": max }),
        Kind::Flag => json!({ "type": "boolean" }),
        Kind::Choice(words) => json!({ "type": "string", "enum": words }),
        Kind::Texts => json!({ "type": "array", "items": { "type": "string" } }),
        Kind::Settings => json!({
            "type": "object",
            "additionalProperties": { "type": ["string", "number", "boolean"] },
        }),
        Kind::Object => json!({ "type": "object" }),
        Kind::One(inner) => section(inner),
        Kind::Switch(inner) => json!({ "anyOf": [{ "const": false }, section(inner)] }),
        Kind::Many(inner) => json!({ "type": "object", "additionalProperties": section(inner) }),
        Kind::From => one_or_many(&json!({ "type": "string" }), 1),
        Kind::Through => one_or_many(&json!({ "anyOf": [{ "type": "string" }, section(&keys::STAGE)] }), 0),
        Kind::To => json!({
            "anyOf": [{ "type": "string" }, { "type": "object", "additionalProperties": { "type": "string" } }],
        }),
        Kind::Start => json!({ "type": "string" }),
    }
}

/// A string of a form, or one with something to put in, whose form nobody knows yet.
fn pattern(form: &str) -> Value {
    json!({ "type": "string", "pattern": format!("^({form}|.*\\$\\{{.*)$") })
}

fn one_or_many(one: &Value, min: usize) -> Value {
    json!({ "anyOf": [one, { "type": "array", "items": one, "minItems": min }] })
}

#[cfg(test)]
mod tests {
    use super::super::json_schema::violations;
    use super::*;

    fn check(toml: &str, expected: &[&str]) {
        let value: Value = toml::from_str(toml).expect("valid TOML");
        let found: Vec<String> = violations(&schema(), &value).into_iter().map(|v| v.path.join(".")).collect();
        assert_eq!(found, expected, "{toml}");
    }

    #[test]
    fn the_schema_takes_what_is_right_and_refuses_what_is_wrong() {
        check("[routes.a]\nfrom = 'x'\nthrough = ['p', { plugin = 'q' }]\nto = { default = 'y' }", &[]);
        check("[routes.a]\nto = 'y'", &["routes.a"]);
        check("[host]\ndrain_timeout = '30'", &["host.drain_timeout"]);
        check("[host]\ndrain_timeout = '${DRAIN}'", &[]);
        check("[hots]", &[""]);
        check("[groups.a]\nguarantee = 'none'", &["groups.a.guarantee"]);
    }

    #[test]
    fn every_key_says_what_it_is_for() {
        fn walk(section: &Section) {
            assert!(!section.doc.is_empty());
            for key in section.keys {
                assert!(key.doc.len() > 10 && key.doc.ends_with('.'), "`{}`", key.name);
                if let Kind::One(inner) | Kind::Switch(inner) | Kind::Many(inner) = key.kind {
                    walk(inner);
                }
            }
        }
        walk(&keys::ROOT);
    }

    #[test]
    fn the_defaults_are_valid() {
        fn walk(section: &Section) {
            for key in section.keys {
                let property = property(key);
                if let Some(default) = property.get("default") {
                    assert_eq!(violations(&property, default), [], "`{}`", key.name);
                }
                if let Kind::One(inner) | Kind::Switch(inner) | Kind::Many(inner) = key.kind {
                    walk(inner);
                }
            }
        }
        walk(&keys::ROOT);
    }
}
