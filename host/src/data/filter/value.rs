//! The values of expressions: what they are, and when they are equal, ordered, or can be calculated with.
//!
//! Values borrow from the event, its index and the filter. What they can't do is a [`Fault`], which is a value too.

use std::borrow::Cow;
use std::cell::Cell;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::json::Json;
use super::kinds::{Arithmetic, Kinds};

/// The value of an expression.
#[derive(Debug, Clone)]
pub(super) enum Value<'v> {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    Text(Cow<'v, str>),
    Bytes(Cow<'v, [u8]>),
    Timestamp(Timestamp),
    /// Nanoseconds.
    Duration(i64),
    List(Arc<Vec<Value<'v>>>),
    Map(Arc<Vec<(Value<'v>, Value<'v>)>>),
    /// An array or an object.
    Json(Json<'v>),
}

/// Why an expression has no value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    /// What is read isn't there.
    Absent,
    /// Anything else.
    Error(Box<str>),
}

impl Fault {
    pub(super) fn error(message: impl Into<Box<str>>) -> Self {
        Self::Error(message.into())
    }

    /// The one that stands for two: an error says more than something that isn't there.
    pub(super) fn worse(self, other: Self) -> Self {
        if self == Self::Absent { other } else { self }
    }
}

/// What one evaluation may cost, so that no value makes a filter hold up its shard.
#[derive(Debug)]
pub(super) struct Budget(Cell<u32>);

/// Elements looked at, and blocks of 32 bytes searched or copied.
const STEPS_MAX: u32 = 1_000_000;

impl Default for Budget {
    fn default() -> Self {
        Self(Cell::new(STEPS_MAX))
    }
}

impl Budget {
    /// Takes steps from what is left.
    ///
    /// # Errors
    /// Where less is left.
    pub(super) fn spend(&self, steps: u32) -> Result<(), Fault> {
        let left = self.0.get().checked_sub(steps);
        self.0.set(left.unwrap_or(0));
        left.map(|_| ())
            .ok_or_else(|| Fault::error(format!("the filter took more than {STEPS_MAX} steps on this event")))
    }

    /// Takes what it costs to search or copy so many bytes.
    ///
    /// # Errors
    /// Where less is left.
    pub(super) fn spend_bytes(&self, bytes: usize) -> Result<(), Fault> {
        self.spend(u32::try_from(bytes / 32).unwrap_or(u32::MAX))
    }
}

impl<'v> Value<'v> {
    pub(super) fn kind(&self) -> Kinds {
        match self {
            Self::Null => Kinds::NULL,
            Self::Bool(_) => Kinds::BOOL,
            Self::Int(_) => Kinds::INT,
            Self::Uint(_) => Kinds::UINT,
            Self::Double(_) => Kinds::DOUBLE,
            Self::Text(_) => Kinds::STRING,
            Self::Bytes(_) => Kinds::BYTES,
            Self::Timestamp(_) => Kinds::TIMESTAMP,
            Self::Duration(_) => Kinds::DURATION,
            Self::List(_) => Kinds::LIST,
            Self::Map(_) => Kinds::MAP,
            Self::Json(json) if json.is_object() => Kinds::MAP,
            Self::Json(_) => Kinds::LIST,
        }
    }

    /// The elements, where it is a list.
    pub(super) fn elements(&self) -> Option<Vec<Value<'v>>> {
        match self {
            Self::List(list) => Some(list.to_vec()),
            Self::Json(json) if !json.is_object() => Some(json.elements().collect()),
            _ => None,
        }
    }

    /// The members, where it is a map: each key once, with its last value.
    pub(super) fn members(&self) -> Option<Vec<(Value<'v>, Value<'v>)>> {
        match self {
            Self::Map(map) => Some(map.to_vec()),
            Self::Json(json) if json.is_object() => {
                let unique: BTreeMap<_, _> = json.members().collect();
                Some(unique.into_iter().map(|(key, value)| (Value::Text(key), value)).collect())
            }
            _ => None,
        }
    }

    /// What `map[key]` stands for, if the key is there; nothing at all where this is no map.
    ///
    /// # Errors
    /// Where the key can't be equal to one that a map has, or looking costs more than is left.
    pub(super) fn member(&self, key: &Value<'_>, budget: &Budget) -> Result<Option<Value<'v>>, Fault> {
        if !key.kind().meets(Kinds::KEY.or(Kinds::DOUBLE)) {
            return Err(Fault::error(format!("no map has {} as key", key.kind())));
        }
        match (self, key) {
            (Self::Json(json), Value::Text(name)) if json.is_object() => {
                let (member, looked_at) = json.member(name);
                budget.spend(looked_at)?;
                Ok(member)
            }
            (Self::Map(map), _) => {
                budget.spend(map.len() as u32)?;
                for (candidate, value) in map.iter() {
                    if candidate.equals(key, budget)? {
                        return Ok(Some(value.clone()));
                    }
                }
                Ok(None)
            }
            _ => Ok(None),
        }
    }

    /// Values of different kinds are never equal, but numbers of different kinds may be.
    ///
    /// # Errors
    /// Where comparing lists and maps costs more than is left.
    pub(super) fn equals(&self, other: &Value<'_>, budget: &Budget) -> Result<bool, Fault> {
        Ok(match (self, other) {
            (Self::Null, Value::Null) => true,
            (Self::Json(_) | Self::List(_) | Self::Map(_), _) => {
                return self.equals_container(other, budget);
            }
            _ => self.order(other) == Some(Ordering::Equal),
        })
    }

    fn equals_container(&self, other: &Value<'_>, budget: &Budget) -> Result<bool, Fault> {
        if let (Some(ours), Some(theirs)) = (self.elements(), other.elements()) {
            budget.spend(ours.len() as u32)?;
            if ours.len() != theirs.len() {
                return Ok(false);
            }
            for (our, their) in ours.iter().zip(&theirs) {
                if !our.equals(their, budget)? {
                    return Ok(false);
                }
            }
            return Ok(true);
        }
        let (Some(ours), Some(theirs)) = (self.members(), other.members()) else {
            return Ok(false);
        };
        budget.spend(ours.len() as u32)?;
        if ours.len() != theirs.len() {
            return Ok(false);
        }
        for (key, our) in &ours {
            match other.member(key, budget)? {
                Some(their) if our.equals(&their, budget)? => {}
                _ => return Ok(false),
            }
        }
        Ok(true)
    }

    /// How two values are ordered, if they are. As in the reference implementation, an integer is compared with a double
    /// as a double.
    pub(super) fn order(&self, other: &Value<'_>) -> Option<Ordering> {
        match (self, other) {
            (Self::Bool(left), Value::Bool(right)) => Some(left.cmp(right)),
            (Self::Int(left), Value::Int(right)) => Some(left.cmp(right)),
            (Self::Uint(left), Value::Uint(right)) => Some(left.cmp(right)),
            (Self::Int(left), Value::Uint(right)) => Some(i128::from(*left).cmp(&i128::from(*right))),
            (Self::Uint(left), Value::Int(right)) => Some(i128::from(*left).cmp(&i128::from(*right))),
            (Self::Double(left), Value::Double(right)) => left.partial_cmp(right),
            (Self::Double(left), Value::Int(right)) => left.partial_cmp(&(*right as f64)),
            (Self::Int(left), Value::Double(right)) => (*left as f64).partial_cmp(right),
            (Self::Double(left), Value::Uint(right)) => left.partial_cmp(&(*right as f64)),
            (Self::Uint(left), Value::Double(right)) => (*left as f64).partial_cmp(right),
            (Self::Text(left), Value::Text(right)) => Some(left.as_ref().cmp(right.as_ref())),
            (Self::Bytes(left), Value::Bytes(right)) => Some(left.as_ref().cmp(right.as_ref())),
            (Self::Timestamp(left), Value::Timestamp(right)) => Some(left.cmp(right)),
            (Self::Duration(left), Value::Duration(right)) => Some(left.cmp(right)),
            _ => None,
        }
    }

    /// The result of an operator.
    ///
    /// # Errors
    /// Overflow, division by zero, operands that don't fit, and lists or texts that grow beyond the budget.
    pub(super) fn calculate(self, operator: Arithmetic, other: Value<'v>, budget: &Budget) -> Result<Value<'v>, Fault> {
        let kinds = (self.kind(), other.kind());
        let result = match (self, other) {
            (Self::Int(left), Value::Int(right)) => integer(operator, left, right)?.map(Value::Int),
            (Self::Uint(left), Value::Uint(right)) => natural(operator, left, right)?.map(Value::Uint),
            (Self::Double(left), Value::Double(right)) if operator != Arithmetic::Modulo => {
                Some(Value::Double(floating(operator, left, right)))
            }
            (Self::Text(left), Value::Text(right)) if operator == Arithmetic::Add => {
                budget.spend_bytes(left.len() + right.len())?;
                Some(Value::Text(left + right))
            }
            (Self::Bytes(left), Value::Bytes(right)) if operator == Arithmetic::Add => {
                budget.spend_bytes(left.len() + right.len())?;
                Some(Value::Bytes(Cow::Owned([left, right].concat())))
            }
            (left, right) if kinds == (Kinds::LIST, Kinds::LIST) && operator == Arithmetic::Add => {
                let mut all = left.elements().unwrap_or_default();
                all.extend(right.elements().unwrap_or_default());
                budget.spend(all.len() as u32)?;
                Some(Value::List(Arc::new(all)))
            }
            (left, right) => return calendar(operator, &left, &right, kinds),
        };
        result.ok_or_else(|| Fault::error(format!("`{}` overflows {}", operator.symbol(), kinds.0)))
    }
}

fn unfit(operator: Arithmetic, kinds: (Kinds, Kinds)) -> Fault {
    Fault::error(format!("`{}` doesn't take {} and {}", operator.symbol(), kinds.0, kinds.1))
}

/// The operators on timestamps (of the years 1 to 9999) and durations.
fn calendar<'v>(
    operator: Arithmetic,
    left: &Value<'_>,
    right: &Value<'_>,
    kinds: (Kinds, Kinds),
) -> Result<Value<'v>, Fault> {
    let overflow = || Fault::error(format!("`{}` leaves the range of {}", operator.symbol(), kinds.0));
    match (operator, left, right) {
        (Arithmetic::Add, Value::Timestamp(time), Value::Duration(nanoseconds))
        | (Arithmetic::Add, Value::Duration(nanoseconds), Value::Timestamp(time)) => {
            timestamp(time.as_nanosecond() + i128::from(*nanoseconds)).ok_or_else(overflow)
        }
        (Arithmetic::Subtract, Value::Timestamp(time), Value::Duration(nanoseconds)) => {
            timestamp(time.as_nanosecond() - i128::from(*nanoseconds)).ok_or_else(overflow)
        }
        (Arithmetic::Subtract, Value::Timestamp(left), Value::Timestamp(right)) => {
            i64::try_from(left.as_nanosecond() - right.as_nanosecond()).map(Value::Duration).map_err(|_| overflow())
        }
        (Arithmetic::Add, Value::Duration(left), Value::Duration(right)) => {
            left.checked_add(*right).map(Value::Duration).ok_or_else(overflow)
        }
        (Arithmetic::Subtract, Value::Duration(left), Value::Duration(right)) => {
            left.checked_sub(*right).map(Value::Duration).ok_or_else(overflow)
        }
        _ => Err(unfit(operator, kinds)),
    }
}

/// The time so many nanoseconds after 1970, if it is in the years 1 to 9999.
pub(super) fn timestamp<'v>(nanoseconds: i128) -> Option<Value<'v>> {
    const SECOND: i128 = 1_000_000_000;
    let range = -62_135_596_800 * SECOND..253_402_300_800 * SECOND;
    let time = range.contains(&nanoseconds).then(|| Timestamp::from_nanosecond(nanoseconds).ok())??;
    Some(Value::Timestamp(time))
}

fn integer(operator: Arithmetic, left: i64, right: i64) -> Result<Option<i64>, Fault> {
    Ok(match operator {
        Arithmetic::Add => left.checked_add(right),
        Arithmetic::Subtract => left.checked_sub(right),
        Arithmetic::Multiply => left.checked_mul(right),
        Arithmetic::Divide | Arithmetic::Modulo if right == 0 => {
            return Err(Fault::error("division by zero"));
        }
        Arithmetic::Divide => left.checked_div(right),
        Arithmetic::Modulo => left.checked_rem(right),
    })
}

fn natural(operator: Arithmetic, left: u64, right: u64) -> Result<Option<u64>, Fault> {
    Ok(match operator {
        Arithmetic::Add => left.checked_add(right),
        Arithmetic::Subtract => left.checked_sub(right),
        Arithmetic::Multiply => left.checked_mul(right),
        Arithmetic::Divide | Arithmetic::Modulo if right == 0 => {
            return Err(Fault::error("division by zero"));
        }
        Arithmetic::Divide => left.checked_div(right),
        Arithmetic::Modulo => left.checked_rem(right),
    })
}

fn floating(operator: Arithmetic, left: f64, right: f64) -> f64 {
    match operator {
        Arithmetic::Add => left + right,
        Arithmetic::Subtract => left - right,
        Arithmetic::Multiply => left * right,
        Arithmetic::Divide => left / right,
        Arithmetic::Modulo => left % right,
    }
}
