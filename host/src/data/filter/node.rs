//! A compiled expression: a tree that is evaluated over the borrowed event.
//!
//! It reads what it names and nothing else, and allocates only where a value is made (texts joined, lists built, escapes
//! in a JSON string). Which tree an expression becomes is decided by [`super::compile`].

use std::cmp::Ordering;
use std::sync::Arc;

use regex::Regex;

use super::function::Function;
use super::kinds::{Arithmetic, Kinds};
use super::run::Run;
use super::value::{Fault, Value};

/// A part of a compiled expression.
#[derive(Debug)]
pub(super) enum Node {
    Const(Value<'static>),
    /// A variable of a macro, by its place.
    Local(usize),
    Variable(Variable),
    Header(Box<Node>),
    HasHeader(Box<Node>),
    Attribute(Box<Node>),
    HasAttribute(Box<Node>),
    /// `a[b]`, and `a.b`, which is `a["b"]`.
    Index(Box<Node>, Box<Node>),
    Has(Box<Node>, Box<Node>),
    Not(Box<Node>),
    Negate(Box<Node>),
    And(Box<Node>, Box<Node>),
    Or(Box<Node>, Box<Node>),
    If(Box<Node>, Box<Node>, Box<Node>),
    Equal(Box<Node>, Box<Node>),
    Compare(Comparison, Box<Node>, Box<Node>),
    Calculate(Arithmetic, Box<Node>, Box<Node>),
    In(Box<Node>, Box<Node>),
    List(Vec<Node>),
    Map(Vec<(Node, Node)>),
    Call(Function, Box<Node>, Option<Box<Node>>),
    Matches(Box<Node>, Regex),
    Fold(Box<Fold>),
    /// Adds an element to the list that a macro builds in a variable.
    Append(usize, Box<Node>),
    /// Whether an expression isn't false: the condition under which a macro goes on.
    NotFalse(Box<Node>),
}

/// What an event has that takes no name to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Variable {
    Topic,
    Partition,
    Offset,
    Timestamp,
    Key,
    Value,
    Text,
    Json,
    Headers,
}

/// An operator that orders two values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Comparison {
    pub(super) fn symbol(self) -> &'static str {
        match self {
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
        }
    }

    fn holds(self, order: Ordering) -> bool {
        match self {
            Self::Less => order.is_lt(),
            Self::LessOrEqual => order.is_le(),
            Self::Greater => order.is_gt(),
            Self::GreaterOrEqual => order.is_ge(),
        }
    }
}

/// A macro over the elements of a list or the keys of a map. Its two variables are the places after those in use.
#[derive(Debug)]
pub(super) struct Fold {
    pub(super) range: Node,
    pub(super) start: Node,
    pub(super) condition: Node,
    pub(super) step: Node,
    pub(super) result: Node,
}

/// The variables of the macros around an expression. A failed one stays a fault until it is known whether that matters.
pub(super) type Locals<'v> = Vec<Result<Value<'v>, Fault>>;

impl Node {
    /// The value of the expression for an event.
    ///
    /// # Errors
    /// Where something isn't there, or can't be done with the values at hand.
    pub(super) fn evaluate<'v>(&'v self, run: &Run<'v>, locals: &mut Locals<'v>) -> Result<Value<'v>, Fault> {
        match self {
            Self::Const(value) => Ok(value.clone()),
            Self::Local(place) => locals[*place].clone(),
            Self::Variable(variable) => run.variable(*variable),
            Self::Header(name) => run.header(&name.evaluate(run, locals)?)?.ok_or(Fault::Absent),
            Self::HasHeader(name) => Ok(Value::Bool(run.header(&name.evaluate(run, locals)?)?.is_some())),
            Self::Attribute(name) => run.attribute(&name.evaluate(run, locals)?)?.ok_or(Fault::Absent),
            Self::HasAttribute(name) => Ok(Value::Bool(run.attribute(&name.evaluate(run, locals)?)?.is_some())),
            Self::Index(of, at) => index(&of.evaluate(run, locals)?, &at.evaluate(run, locals)?, run),
            Self::Has(of, name) => has(&of.evaluate(run, locals)?, &name.evaluate(run, locals)?, run),
            Self::Not(of) => of.truth(run, locals, "!").map(|truth| Value::Bool(!truth)),
            Self::Negate(of) => negate(&of.evaluate(run, locals)?),
            Self::And(left, right) => both(left, right, false, run, locals),
            Self::Or(left, right) => both(left, right, true, run, locals),
            Self::If(condition, yes, no) => {
                let branch = if condition.truth(run, locals, "?:")? { yes } else { no };
                branch.evaluate(run, locals)
            }
            Self::Equal(left, right) => {
                let (left, right) = (left.evaluate(run, locals)?, right.evaluate(run, locals)?);
                left.equals(&right, &run.budget).map(Value::Bool)
            }
            Self::Compare(comparison, left, right) => {
                compare(*comparison, &left.evaluate(run, locals)?, &right.evaluate(run, locals)?)
            }
            Self::Calculate(operator, left, right) => {
                let left = left.evaluate(run, locals)?;
                left.calculate(*operator, right.evaluate(run, locals)?, &run.budget)
            }
            Self::In(element, of) => contains(&element.evaluate(run, locals)?, of, run, locals).map(Value::Bool),
            Self::List(elements) => list(elements, run, locals),
            Self::Map(members) => map(members, run, locals),
            Self::Call(function, of, argument) => {
                let of = of.evaluate(run, locals)?;
                let argument = argument.as_ref().map(|argument| argument.evaluate(run, locals)).transpose()?;
                function.call(of, argument, &run.budget)
            }
            Self::Matches(of, regex) => matches(&of.evaluate(run, locals)?, regex, run),
            Self::Fold(fold) => fold.evaluate(run, locals),
            Self::Append(place, element) => append(*place, element.evaluate(run, locals)?, locals),
            Self::NotFalse(of) => Ok(Value::Bool(!matches!(of.evaluate(run, locals), Ok(Value::Bool(false))))),
        }
    }

    fn truth<'v>(&'v self, run: &Run<'v>, locals: &mut Locals<'v>, operator: &str) -> Result<bool, Fault> {
        match self.evaluate(run, locals)? {
            Value::Bool(truth) => Ok(truth),
            other => Err(Fault::error(format!("`{operator}` doesn't take {}", other.kind()))),
        }
    }
}

/// `&&` and `||`: one operand that decides does so whatever the other is, a fault too; and of two faults an error counts.
fn both<'v>(
    left: &'v Node,
    right: &'v Node,
    deciding: bool,
    run: &Run<'v>,
    locals: &mut Locals<'v>,
) -> Result<Value<'v>, Fault> {
    let operator = if deciding { "||" } else { "&&" };
    let left = left.truth(run, locals, operator);
    if left == Ok(deciding) {
        return Ok(Value::Bool(deciding));
    }
    match (left, right.truth(run, locals, operator)) {
        (_, Ok(right)) if right == deciding => Ok(Value::Bool(deciding)),
        (Ok(_), Ok(_)) => Ok(Value::Bool(!deciding)),
        (Err(left), Err(right)) => Err(left.worse(right)),
        (Err(fault), Ok(_)) | (Ok(_), Err(fault)) => Err(fault),
    }
}

/// `of[at]`. Nothing is in null, and reading past the end of a list is like reading a field that isn't there.
fn index<'v>(of: &Value<'v>, at: &Value<'_>, run: &Run<'v>) -> Result<Value<'v>, Fault> {
    let position = match *at {
        Value::Int(position) => usize::try_from(position).ok(),
        Value::Uint(position) => usize::try_from(position).ok(),
        Value::Double(position) if position.fract() == 0.0 && position >= 0.0 => Some(position as usize),
        _ => None,
    };
    match (of, position) {
        (Value::Null, _) => Err(Fault::Absent),
        (Value::Map(_), _) => of.member(at, &run.budget)?.ok_or(Fault::Absent),
        (Value::Json(json), _) if json.is_object() => of.member(at, &run.budget)?.ok_or(Fault::Absent),
        (Value::List(list), Some(position)) => list.get(position).cloned().ok_or(Fault::Absent),
        (Value::Json(json), Some(position)) => {
            run.budget.spend(u32::try_from(position).unwrap_or(u32::MAX))?;
            json.elements().nth(position).ok_or(Fault::Absent)
        }
        (Value::List(_) | Value::Json(_), None) if matches!(at, Value::Int(_)) => Err(Fault::Absent),
        _ => Err(match at {
            Value::Text(name) => Fault::error(format!("no field `{name}` in {}: it isn't a map", of.kind())),
            _ => Fault::error(format!("no element of {} by {}", of.kind(), at.kind())),
        }),
    }
}

/// `has(of.name)`.
fn has<'v>(of: &Value<'v>, name: &Value<'_>, run: &Run<'v>) -> Result<Value<'v>, Fault> {
    match index(of, name, run) {
        Ok(_) => Ok(Value::Bool(true)),
        Err(Fault::Absent) => Ok(Value::Bool(false)),
        Err(fault) => Err(fault),
    }
}

fn negate<'v>(value: &Value<'v>) -> Result<Value<'v>, Fault> {
    match value {
        Value::Int(number) => number.checked_neg().map(Value::Int).ok_or_else(|| Fault::error("`-` overflows int")),
        Value::Double(number) => Ok(Value::Double(-number)),
        other => Err(Fault::error(format!("`-` doesn't take {}", other.kind()))),
    }
}

fn compare<'v>(comparison: Comparison, left: &Value<'v>, right: &Value<'v>) -> Result<Value<'v>, Fault> {
    match left.order(right) {
        Some(order) => Ok(Value::Bool(comparison.holds(order))),
        None => {
            Err(Fault::error(format!("`{}` doesn't order {} and {}", comparison.symbol(), left.kind(), right.kind())))
        }
    }
}

/// `element in of`. A list that is written out is not built.
fn contains<'v>(element: &Value<'v>, of: &'v Node, run: &Run<'v>, locals: &mut Locals<'v>) -> Result<bool, Fault> {
    let budget = &run.budget;
    let mut found = false;
    if let Node::List(nodes) = of {
        for node in nodes {
            found = match node {
                Node::Const(_) if found => true,
                Node::Const(value) => value.equals(element, budget)?,
                node => node.evaluate(run, locals)?.equals(element, budget)? || found,
            };
        }
        return Ok(found);
    }
    let of = of.evaluate(run, locals)?;
    match &of {
        Value::List(list) => {
            budget.spend(list.len() as u32)?;
            for candidate in list.iter() {
                found = found || candidate.equals(element, budget)?;
            }
        }
        Value::Json(json) if !json.is_object() => {
            for candidate in json.elements() {
                budget.spend(1)?;
                found = found || candidate.equals(element, budget)?;
            }
        }
        Value::Map(_) | Value::Json(_) => found = of.member(element, budget)?.is_some(),
        other => {
            return Err(Fault::error(format!("`in` needs a list or a map, not {}", other.kind())));
        }
    }
    Ok(found)
}

fn list<'v>(elements: &'v [Node], run: &Run<'v>, locals: &mut Locals<'v>) -> Result<Value<'v>, Fault> {
    let list: Result<Vec<_>, _> = elements.iter().map(|element| element.evaluate(run, locals)).collect();
    Ok(Value::List(Arc::new(list?)))
}

fn map<'v>(members: &'v [(Node, Node)], run: &Run<'v>, locals: &mut Locals<'v>) -> Result<Value<'v>, Fault> {
    let mut map: Vec<(Value<'v>, Value<'v>)> = Vec::with_capacity(members.len());
    for (key, value) in members {
        let key = key.evaluate(run, locals)?;
        if !key.kind().meets(Kinds::KEY) {
            return Err(Fault::error(format!("a map can't have {} as key", key.kind())));
        }
        for (other, _) in &map {
            if other.equals(&key, &run.budget)? {
                return Err(Fault::error("a map can't have the same key twice"));
            }
        }
        map.push((key, value.evaluate(run, locals)?));
    }
    Ok(Value::Map(Arc::new(map)))
}

/// `of.matches(…)`, the pattern being a literal.
fn matches<'v>(of: &Value<'v>, regex: &Regex, run: &Run<'v>) -> Result<Value<'v>, Fault> {
    let Value::Text(text) = of else {
        return Err(Fault::error(format!("`matches` doesn't take {}", of.kind())));
    };
    run.budget.spend_bytes(text.len())?;
    Ok(Value::Bool(regex.is_match(text)))
}

/// The list that a macro builds, with one more element. It is taken out of its variable, so that it isn't copied.
fn append<'v>(place: usize, element: Value<'v>, locals: &mut Locals<'v>) -> Result<Value<'v>, Fault> {
    let mut list = std::mem::replace(&mut locals[place], Err(Fault::Absent))?;
    if let Value::List(list) = &mut list {
        Arc::make_mut(list).push(element);
    }
    Ok(list)
}

impl Fold {
    fn evaluate<'v>(&'v self, run: &Run<'v>, locals: &mut Locals<'v>) -> Result<Value<'v>, Fault> {
        let range = self.range.evaluate(run, locals)?;
        let start = self.start.evaluate(run, locals)?;
        let place = locals.len();
        locals.push(Ok(start));
        locals.push(Ok(Value::Null));
        let result = match &range {
            Value::List(list) => self.run_over(list.iter().cloned(), place, run, locals),
            Value::Json(json) if !json.is_object() => self.run_over(json.elements(), place, run, locals),
            range => match range.members() {
                Some(members) => self.run_over(members.into_iter().map(|(key, _)| key), place, run, locals),
                None => Err(Fault::error(format!("a macro needs a list or a map, not {}", range.kind()))),
            },
        };
        locals.truncate(place);
        result
    }

    fn run_over<'v>(
        &'v self,
        items: impl Iterator<Item = Value<'v>>,
        place: usize,
        run: &Run<'v>,
        locals: &mut Locals<'v>,
    ) -> Result<Value<'v>, Fault> {
        // `map`, `filter` and `exists_one` fail at once; `all` and `exists` may still be decided by a later element.
        let strict = matches!(self.condition, Node::Const(_));
        for item in items {
            run.budget.spend(1)?;
            if !strict && !self.condition.truth(run, locals, "macro")? {
                break;
            }
            locals[place + 1] = Ok(item);
            let next = self.step.evaluate(run, locals);
            if strict && next.is_err() {
                return next;
            }
            locals[place] = next;
        }
        self.result.evaluate(run, locals)
    }
}
