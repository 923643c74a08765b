//! One event under evaluation: what its variables stand for, read when they are asked for.
//!
//! The value is parsed as JSON at most once for an event, whatever number of filters look at it: the index is kept in the
//! [`Scratch`] that they share.

use std::borrow::Cow;
use std::cell::{OnceCell, RefCell};
use std::sync::Arc;

use super::json::Index;
use super::node::Variable;
use super::value::{Budget, Fault, Value, timestamp};
use crate::data::event::{Event, Header};

/// What evaluations share: buffers, and what was already read of the current event.
#[derive(Debug, Default)]
pub struct Scratch {
    json: OnceCell<Result<Index, Box<str>>>,
    spare: RefCell<Index>,
}

impl Scratch {
    /// Forgets the current event. To be called before the first filter sees the next one.
    pub fn next_event(&mut self) {
        if let Some(Ok(index)) = self.json.take() {
            *self.spare.get_mut() = index;
        }
    }

    /// The index of the event's value. The first call checks that the value is UTF-8 and JSON; what it finds, a mistake
    /// too, serves all further ones.
    fn index(&self, value: &[u8]) -> Result<&Index, Fault> {
        let read = || {
            let mut index = self.spare.take();
            let text = std::str::from_utf8(value).map_err(|error| not_utf8("value", error))?;
            index.read(text).map_err(|error| format!("the value isn't valid JSON: {error}"))?;
            Ok(index)
        };
        self.json.get_or_init(read).as_ref().map_err(|message| Fault::Error(message.clone()))
    }
}

fn not_utf8(what: &str, error: std::str::Utf8Error) -> Box<str> {
    format!("the {what} isn't UTF-8 from byte {} on", error.valid_up_to()).into()
}

/// An event, and what its evaluation may still cost.
#[derive(Debug)]
pub(super) struct Run<'v> {
    pub(super) event: &'v Event<'v>,
    pub(super) scratch: &'v Scratch,
    pub(super) budget: Budget,
}

impl<'v> Run<'v> {
    pub(super) fn variable(&self, variable: Variable) -> Result<Value<'v>, Fault> {
        let event = self.event;
        let bytes = |bytes: Option<&'v [u8]>| bytes.map_or(Value::Null, |bytes| Value::Bytes(Cow::Borrowed(bytes)));
        match variable {
            Variable::Topic => Ok(Value::Text(Cow::Borrowed(event.topic))),
            Variable::Partition => Ok(Value::Int(i64::from(event.partition))),
            Variable::Offset => Ok(Value::Int(event.offset)),
            Variable::Timestamp if event.timestamp == -1 => Ok(Value::Null),
            Variable::Timestamp => timestamp(i128::from(event.timestamp) * 1_000_000)
                .ok_or_else(|| Fault::error("the timestamp isn't in the years 1 to 9999")),
            Variable::Key => Ok(bytes(event.key)),
            Variable::Value => Ok(bytes(event.value)),
            Variable::Text => match event.value.map(std::str::from_utf8) {
                None => Ok(Value::Null),
                Some(Ok(text)) => Ok(Value::Text(Cow::Borrowed(text))),
                Some(Err(error)) => Err(Fault::Error(not_utf8("value", error))),
            },
            Variable::Json => self.json(),
            Variable::Headers => self.headers(),
        }
    }

    /// The value as JSON; null where there is none.
    fn json(&self) -> Result<Value<'v>, Fault> {
        let Some(value) = self.event.value else {
            return Ok(Value::Null);
        };
        Ok(self.scratch.index(value)?.root(value))
    }

    /// The text of the last header of a name, if there is one.
    pub(super) fn header(&self, name: &Value<'_>) -> Result<Option<Value<'v>>, Fault> {
        let Value::Text(name) = name else {
            return Err(Fault::error(format!("a header's name is string, not {}", name.kind())));
        };
        self.event.headers.last(name.as_bytes()).map(header_text).transpose()
    }

    /// All headers as a map. One whose name isn't UTF-8 can't be named, and isn't in it; a value that isn't stays bytes.
    fn headers(&self) -> Result<Value<'v>, Fault> {
        let mut map: Vec<(Value<'v>, Value<'v>)> = Vec::new();
        for header in self.event.headers.iter().rev() {
            let Ok(name) = std::str::from_utf8(header.name) else {
                continue;
            };
            let known = map.iter().any(|(key, _)| matches!(key, Value::Text(key) if key == name));
            self.budget.spend(map.len() as u32)?;
            if !known {
                let bytes = || Value::Bytes(Cow::Borrowed(header.value.unwrap_or_default()));
                let value = header_text(header).unwrap_or_else(|_| bytes());
                map.push((Value::Text(Cow::Borrowed(name)), value));
            }
        }
        map.reverse();
        Ok(Value::Map(Arc::new(map)))
    }

    /// A CloudEvents attribute, in either content mode of the Kafka binding.
    pub(super) fn attribute(&self, name: &Value<'_>) -> Result<Option<Value<'v>>, Fault> {
        let Value::Text(name) = name else {
            return Err(Fault::error(format!("an attribute's name is string, not {}", name.kind())));
        };
        let content_type = self.event.headers.last(b"content-type");
        if content_type.is_some_and(is_structured) {
            let attribute = match self.json()? {
                Value::Json(json) if json.is_object() => json.member(name).0,
                other => {
                    return Err(Fault::error(format!("a structured CloudEvent is a map, not {}", other.kind())));
                }
            };
            return Ok(attribute.filter(|attribute| !matches!(attribute, Value::Null)));
        }
        let header = if name == "datacontenttype" {
            content_type
        } else {
            let named = |header: &Header<'_>| header.name.strip_prefix(b"ce_") == Some(name.as_bytes());
            self.event.headers.iter().rev().find(named)
        };
        header.filter(|header| header.value.is_some()).map(header_text).transpose()
    }
}

/// Whether the whole event is in the value, as JSON.
fn is_structured(content_type: Header<'_>) -> bool {
    let media_type = content_type.value.unwrap_or_default().split(|&byte| byte == b';').next().unwrap_or_default();
    media_type.trim_ascii().eq_ignore_ascii_case(b"application/cloudevents+json")
}

fn header_text<'v>(header: Header<'v>) -> Result<Value<'v>, Fault> {
    let Some(value) = header.value else {
        return Ok(Value::Null);
    };
    std::str::from_utf8(value)
        .map(|text| Value::Text(Cow::Borrowed(text)))
        .map_err(|error| Fault::Error(not_utf8(&format!("header `{}`", String::from_utf8_lossy(header.name)), error)))
}
