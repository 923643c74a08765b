//! From syntax tree to predicate: every part is checked, and becomes a [`Node`], in one walk.
//!
//! A part that is wrong becomes a problem and a stand-in that fits anywhere, so that the walk goes on, finds what else is
//! wrong, and reports nothing that only follows from the first mistake.

use std::ops::Range;
use std::sync::Arc;

use cel::common::ast::{
    CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, ListExpr, LiteralValue, MapExpr, SelectExpr, SourceInfo,
    operators,
};

use super::Problem;
use super::hint;
use super::kinds::{Arithmetic, Kinds, Type, can_compare, can_equal};
use super::node::{Comparison, Fold, Node};
use super::value::{Budget, Value};

/// What is nested deeper is refused, so that walking the tree needs no more stack than a shard has.
const DEPTH_MAX: usize = 128;

/// A checked part: what evaluates it, and what it can give.
#[derive(Debug)]
pub(super) struct Typed {
    pub(super) node: Node,
    pub(super) of: Type,
}

impl Typed {
    pub(super) fn new(node: Node, of: Type) -> Self {
        Self { node, of }
    }

    pub(super) fn kinds(node: Node, kinds: Kinds) -> Self {
        Self { node, of: Type::of(kinds) }
    }

    pub(super) fn boxed(self) -> Box<Node> {
        Box::new(self.node)
    }
}

/// Checks a tree and compiles it.
///
/// # Errors
/// All that is wrong with it.
pub(super) fn compile(source: &str, tree: &IdedExpr, info: SourceInfo) -> Result<Node, Vec<Problem>> {
    let mut compiler = Compiler { source, info, problems: Vec::new(), locals: Vec::new(), depth: 0 };
    let filter = compiler.part(tree);
    if !filter.of.kinds.meets(Kinds::BOOL) {
        let span = compiler.span(tree);
        let message = format!("{} is {}, expected bool", compiler.quote(&span), filter.of.kinds);
        let hint = "a filter says of each event whether it is taken, as `event.json.amount >= 1000` does";
        compiler.problem(message, span, Some(hint.into()));
    }
    if compiler.problems.is_empty() {
        return Ok(filter.node);
    }
    compiler.problems.sort_by_key(|problem| (problem.span.start, problem.span.end));
    Err(compiler.problems)
}

pub(super) struct Compiler<'s> {
    source: &'s str,
    info: SourceInfo,
    problems: Vec<Problem>,
    /// The variables of the macros around the current part, by their place.
    pub(super) locals: Vec<(String, Type)>,
    depth: usize,
}

impl Compiler<'_> {
    pub(super) fn problem(&mut self, message: String, span: Range<usize>, hint: Option<String>) -> Typed {
        self.problems.push(Problem { message, span, hint });
        Typed::new(Node::Const(Value::Null), Type::ANY)
    }

    /// A part as it was written, for messages.
    pub(super) fn quote(&self, span: &Range<usize>) -> String {
        const SHOWN: usize = 60;
        let text = self.source.get(span.clone()).unwrap_or_default();
        match text.char_indices().nth(SHOWN) {
            Some((at, _)) => format!("`{}…`", &text[..at]),
            None => format!("`{text}`"),
        }
    }

    /// Where a part was written, from its first token to its last.
    pub(super) fn span(&self, part: &IdedExpr) -> Range<usize> {
        let own = self.info.offset_for(part.id).map(|(start, stop)| start as usize..stop as usize + 1);
        let mut span = own.map(|own| self.with_prefix(own, &part.expr));
        let children: Vec<&IdedExpr> = match &part.expr {
            Expr::Call(call) => call.target.as_deref().into_iter().chain(&call.args).collect(),
            Expr::Select(select) => vec![&*select.operand],
            Expr::List(list) => list.elements.iter().collect(),
            Expr::Map(map) => map.entries.iter().flat_map(entry).collect(),
            Expr::Comprehension(fold) => vec![&fold.iter_range, &fold.loop_step],
            _ => Vec::new(),
        };
        for child in children {
            let child = self.span(child);
            span = Some(span.map_or(child.clone(), |span| span.start.min(child.start)..span.end.max(child.end)));
        }
        let span = span.unwrap_or(0..self.source.len());
        let close = match &part.expr {
            Expr::Select(select) => return self.with_field(span, &select.field),
            Expr::Call(call) if call.func_name == operators::INDEX => "]",
            Expr::Call(call) if is_name(&call.func_name) => ")",
            Expr::Comprehension(_) => ")",
            Expr::List(_) => "]",
            Expr::Map(_) => "}",
            _ => "",
        };
        self.extended(span, close)
    }

    /// With what belongs to a token but stands before it: the name of a function, the sign of a number.
    fn with_prefix(&self, span: Range<usize>, expression: &Expr) -> Range<usize> {
        let prefix = match expression {
            Expr::Call(call) if call.target.is_none() && is_name(&call.func_name) => call.func_name.as_str(),
            Expr::Struct(of) => of.type_name.as_str(),
            Expr::Literal(LiteralValue::Int(_) | LiteralValue::Double(_)) => "-",
            _ => return span,
        };
        let before = self.source.get(..span.start).unwrap_or_default().strip_suffix(prefix);
        // A minus between two numbers is an operator, with a place of its own.
        let is_sign = |before: &str| {
            prefix != "-" || !before.trim_end().ends_with(|last: char| last.is_alphanumeric() || ")]'\"".contains(last))
        };
        let start = before.filter(|before| is_sign(before)).map_or(span.start, str::len);
        start..span.end
    }

    /// With the closing bracket after it.
    fn extended(&self, span: Range<usize>, close: &str) -> Range<usize> {
        let end = self.source.len().min(span.end);
        let start = span.start.min(end);
        let rest = self.source.get(end..).unwrap_or_default();
        let after = rest.trim_start().strip_prefix(close).filter(|_| !close.is_empty());
        start..after.map_or(end, |after| self.source.len() - after.len())
    }

    fn with_field(&self, span: Range<usize>, field: &str) -> Range<usize> {
        let rest = self.source.get(span.end..).unwrap_or_default();
        let after = rest.trim_start_matches(|next: char| next == '.' || next.is_whitespace()).strip_prefix(field);
        span.start..after.map_or(span.end, |after| self.source.len() - after.len())
    }

    /// Checks and compiles one part.
    pub(super) fn part(&mut self, part: &IdedExpr) -> Typed {
        if self.depth == DEPTH_MAX {
            let span = self.span(part);
            return self.problem(format!("operations are nested deeper than {DEPTH_MAX}"), span, None);
        }
        self.depth += 1;
        let typed = match &part.expr {
            Expr::Literal(literal) => constant(literal),
            Expr::Ident(name) => self.identifier(name, part),
            Expr::Select(select) => self.select(select, part),
            Expr::Call(call) => self.call(call, part),
            Expr::List(list) => self.list(list),
            Expr::Map(map) => self.map(map, part),
            Expr::Comprehension(fold) => self.fold(fold, part),
            Expr::Struct(of) => {
                let span = self.span(part);
                let hint = Some("there are lists `[…]` and maps `{…: …}`".into());
                self.problem(format!("no message type `{}`: there are none", of.type_name), span, hint)
            }
            Expr::Unspecified => {
                let span = self.span(part);
                self.problem("expected an expression".into(), span, None)
            }
        };
        self.depth -= 1;
        typed
    }

    /// A part that must be true or false.
    fn condition(&mut self, part: &IdedExpr) -> Box<Node> {
        let typed = self.part(part);
        if !typed.of.kinds.meets(Kinds::BOOL) {
            let span = self.span(part);
            let message = format!("{} is {}, expected bool", self.quote(&span), typed.of.kinds);
            self.problem(message, span, None);
        }
        typed.boxed()
    }

    fn select(&mut self, select: &SelectExpr, part: &IdedExpr) -> Typed {
        if let Some(typed) = self.event_select(select, part) {
            return typed;
        }
        let of = self.part(&select.operand);
        let name = Box::new(text(&select.field));
        if !of.of.kinds.meets(Kinds::MAP) {
            let span = self.span(part);
            let operand = self.quote(&self.span(&select.operand));
            let message = format!("no field `{}` in {operand}: it is {}", select.field, of.of.kinds);
            let hint = hint::fields(&operand, &select.field);
            return self.problem(message, span, hint);
        }
        if select.test {
            return Typed::kinds(Node::Has(of.boxed(), name), Kinds::BOOL);
        }
        let element = of.of.element();
        Typed::new(Node::Index(of.boxed(), name), element)
    }

    fn call(&mut self, call: &CallExpr, part: &IdedExpr) -> Typed {
        let binary = || Some((call.args.first()?, call.args.get(1)?));
        match (call.func_name.as_str(), call.args.as_slice()) {
            (operators::CONDITIONAL, [condition, yes, no]) => {
                let condition = self.condition(condition);
                let (yes, no) = (self.part(yes), self.part(no));
                let of = yes.of.or(no.of);
                Typed::new(Node::If(condition, yes.boxed(), no.boxed()), of)
            }
            (operators::LOGICAL_AND, [left, right]) => {
                Typed::kinds(Node::And(self.condition(left), self.condition(right)), Kinds::BOOL)
            }
            (operators::LOGICAL_OR, [left, right]) => {
                Typed::kinds(Node::Or(self.condition(left), self.condition(right)), Kinds::BOOL)
            }
            (operators::LOGICAL_NOT, [of]) => Typed::kinds(Node::Not(self.condition(of)), Kinds::BOOL),
            (operators::NOT_STRICTLY_FALSE, [of]) => Typed::kinds(Node::NotFalse(self.condition(of)), Kinds::BOOL),
            (operators::NEGATE, [of]) => self.negate(of, part),
            (operators::INDEX, [of, at]) => self.index(of, at, part),
            (operators::IN, [element, of]) => self.contains(element, of, part),
            (operators::EQUALS, [left, right]) => self.equal(left, right, part),
            (operators::NOT_EQUALS, [left, right]) => {
                Typed::kinds(Node::Not(self.equal(left, right, part).boxed()), Kinds::BOOL)
            }
            (name, _) => match (comparison(name), arithmetic(name), binary()) {
                (Some(comparison), _, Some((left, right))) => self.compare(comparison, left, right, part),
                (_, Some(operator), Some((left, right))) => self.calculate(operator, left, right, part),
                _ => self.function(call, part),
            },
        }
    }

    fn negate(&mut self, of: &IdedExpr, part: &IdedExpr) -> Typed {
        let typed = self.part(of);
        let kinds = typed.of.kinds.and(Kinds::INT.or(Kinds::DOUBLE));
        if kinds.is_none() {
            let span = self.span(part);
            return self.problem(format!("`-` doesn't take {}", typed.of.kinds), span, None);
        }
        let node = match typed.node {
            Node::Const(Value::Int(number)) if number != i64::MIN => Node::Const(Value::Int(-number)),
            Node::Const(Value::Double(number)) => Node::Const(Value::Double(-number)),
            node => Node::Negate(Box::new(node)),
        };
        Typed::kinds(node, kinds)
    }

    fn index(&mut self, of: &IdedExpr, at: &IdedExpr, part: &IdedExpr) -> Typed {
        if let Some(typed) = self.event_index(of, at) {
            return typed;
        }
        let (container, position) = (self.part(of), self.part(at));
        let (kinds, by) = (container.of.kinds, position.of.kinds);
        if !kinds.meets(Kinds::LIST.or(Kinds::MAP)) {
            let (span, operand) = (self.span(part), self.quote(&self.span(of)));
            let hint = hint::fields(&operand, "name");
            return self.problem(format!("no elements in {operand}: it is {kinds}"), span, hint);
        }
        let fits = kinds.meets(Kinds::LIST) && by.meets(Kinds::NUMBER)
            || kinds.meets(Kinds::MAP) && by.meets(Kinds::KEY.or(Kinds::DOUBLE));
        if !fits {
            let span = self.span(at);
            return self.problem(format!("no element of {kinds} by {by}"), span, None);
        }
        if kinds.meets(Kinds::LIST) && matches!(position.node, Node::Const(Value::Int(..0))) {
            let span = self.span(at);
            let message = format!("no element {}: they are counted from 0, from the start", self.quote(&span));
            return self.problem(message, span, None);
        }
        let element = container.of.element();
        Typed::new(Node::Index(container.boxed(), position.boxed()), element)
    }

    fn contains(&mut self, element: &IdedExpr, of: &IdedExpr, part: &IdedExpr) -> Typed {
        let element_typed = self.part(element);
        if let Some(typed) = self.event_contains(&element_typed, of, element) {
            return Typed::kinds(typed(element_typed.boxed()), Kinds::BOOL);
        }
        let container = self.part(of);
        let (kinds, elements) = (container.of.kinds, container.of.elements);
        if !kinds.meets(Kinds::LIST.or(Kinds::MAP)) {
            let (span, operand) = (self.span(of), self.quote(&self.span(of)));
            let hint = kinds
                .meets(Kinds::STRING)
                .then(|| format!("for a text there is `{}.contains(…)`", operand.trim_matches('`')));
            return self.problem(format!("`in` needs a list or a map, and {operand} is {kinds}"), span, hint);
        }
        if kinds == Kinds::LIST && !elements.is_none() && !can_equal(element_typed.of.kinds, elements) {
            let span = self.span(part);
            let left = element_typed.of.kinds;
            let message = format!("{} is never true: it looks for {left} in a list of {elements}", self.quote(&span));
            return self.problem(message, span, hint::mixed(left, elements));
        }
        Typed::kinds(Node::In(element_typed.boxed(), container.boxed()), Kinds::BOOL)
    }

    fn equal(&mut self, left: &IdedExpr, right: &IdedExpr, part: &IdedExpr) -> Typed {
        let (left, right) = (self.part(left), self.part(right));
        let kinds = (left.of.kinds, right.of.kinds);
        if !can_equal(kinds.0, kinds.1) {
            let span = self.span(part);
            let message = format!("{} compares {} with {}, which are never equal", self.quote(&span), kinds.0, kinds.1);
            return self.problem(message, span, hint::mixed(kinds.0, kinds.1));
        }
        Typed::kinds(Node::Equal(left.boxed(), right.boxed()), Kinds::BOOL)
    }

    fn compare(&mut self, by: Comparison, left: &IdedExpr, right: &IdedExpr, part: &IdedExpr) -> Typed {
        let (left, right) = (self.part(left), self.part(right));
        let kinds = (left.of.kinds, right.of.kinds);
        if !can_compare(kinds.0, kinds.1) {
            let span = self.span(part);
            let message = format!("`{}` doesn't order {} and {}", by.symbol(), kinds.0, kinds.1);
            return self.problem(message, span, hint::mixed(kinds.0, kinds.1));
        }
        Typed::kinds(Node::Compare(by, left.boxed(), right.boxed()), Kinds::BOOL)
    }

    fn calculate(&mut self, by: Arithmetic, left: &IdedExpr, right: &IdedExpr, part: &IdedExpr) -> Typed {
        if let (Arithmetic::Add, Expr::Ident(name), Expr::List(list)) = (by, &left.expr, &right.expr)
            && let [element] = list.elements.as_slice()
            && name.starts_with('@')
            && let Some(place) = self.locals.iter().rposition(|(local, _)| local == name)
        {
            let element = self.part(element);
            let of = Type { kinds: Kinds::LIST, elements: element.of.kinds };
            return Typed::new(Node::Append(place, element.boxed()), of);
        }
        let (left, right) = (self.part(left), self.part(right));
        let kinds = (left.of.kinds, right.of.kinds);
        let result = by.result(kinds.0, kinds.1);
        if result.is_none() {
            let span = self.span(part);
            let message = format!("`{}` doesn't take {} and {}", by.symbol(), kinds.0, kinds.1);
            return self.problem(message, span, hint::mixed(kinds.0, kinds.1));
        }
        let of = Type { kinds: result, elements: left.of.or(right.of).elements };
        Typed::new(Node::Calculate(by, left.boxed(), right.boxed()), of)
    }

    fn list(&mut self, list: &ListExpr) -> Typed {
        let elements: Vec<Typed> = list.elements.iter().map(|element| self.part(element)).collect();
        let kinds = elements.iter().fold(Kinds::NONE, |kinds, element| kinds.or(element.of.kinds));
        let node = match elements.len() {
            0 => Node::Const(Value::List(Arc::default())),
            _ => Node::List(elements.into_iter().map(|element| element.node).collect()),
        };
        Typed::new(node, Type { kinds: Kinds::LIST, elements: kinds })
    }

    fn map(&mut self, map: &MapExpr, part: &IdedExpr) -> Typed {
        let mut members: Vec<(Node, Node)> = Vec::new();
        let mut kinds = Kinds::NONE;
        for member in &map.entries {
            let EntryExpr::MapEntry(member) = &member.expr else {
                continue;
            };
            let (key, value) = (&member.key, &member.value);
            let (key, value) = (self.part(key), self.part(value));
            let unfit = !key.of.kinds.meets(Kinds::KEY);
            let repeated = members.iter().any(|(other, _)| match (other, &key.node) {
                (Node::Const(other), Node::Const(key)) => other.equals(key, &Budget::default()) == Ok(true),
                _ => false,
            });
            if unfit || repeated {
                let span = self.span(part);
                let what =
                    if unfit { format!("have {} as key", key.of.kinds) } else { "have the same key twice".into() };
                return self.problem(format!("a map can't {what}"), span, None);
            }
            kinds = kinds.or(value.of.kinds);
            members.push((key.node, value.node));
        }
        Typed::new(Node::Map(members), Type { kinds: Kinds::MAP, elements: kinds })
    }

    fn fold(&mut self, fold: &ComprehensionExpr, part: &IdedExpr) -> Typed {
        let range = self.part(&fold.iter_range);
        if !range.of.kinds.meets(Kinds::LIST.or(Kinds::MAP)) {
            let (span, operand) = (self.span(part), self.quote(&self.span(&fold.iter_range)));
            let message = format!("a macro needs a list or a map, and {operand} is {}", range.of.kinds);
            return self.problem(message, span, None);
        }
        let keys = match range.of.elements {
            _ if !range.of.kinds.meets(Kinds::MAP) => Kinds::NONE,
            Kinds::JSON => Kinds::STRING,
            _ => Kinds::KEY,
        };
        let elements = if range.of.kinds.meets(Kinds::LIST) { range.of.elements } else { Kinds::NONE };
        let mut item = range.of.element();
        // An empty list has elements of no kind: whatever is said of them fits.
        item.kinds = if keys.or(elements).is_none() { Kinds::ANY } else { keys.or(elements) };
        let start = self.part(&fold.accu_init);
        let place = self.locals.len();
        self.locals.push((fold.accu_var.clone(), start.of));
        self.locals.push((fold.iter_var.clone(), item));
        let condition = self.part(&fold.loop_cond).node;
        let step = self.part(&fold.loop_step);
        self.locals[place].1 = start.of.or(step.of);
        let result = self.part(&fold.result);
        self.locals.truncate(place);
        let fold = Fold { range: range.node, start: start.node, condition, step: step.node, result: result.node };
        Typed::new(Node::Fold(Box::new(fold)), result.of)
    }
}

/// A constant text.
pub(super) fn text(text: &str) -> Node {
    Node::Const(Value::Text(text.to_owned().into()))
}

fn constant(literal: &LiteralValue) -> Typed {
    let value = match literal {
        LiteralValue::Boolean(truth) => Value::Bool(*truth.inner()),
        LiteralValue::Bytes(bytes) => Value::Bytes(bytes.inner().to_vec().into()),
        LiteralValue::Double(number) => Value::Double(*number.inner()),
        LiteralValue::Int(number) => Value::Int(*number.inner()),
        LiteralValue::Null => Value::Null,
        LiteralValue::String(text) => Value::Text(text.inner().to_owned().into()),
        LiteralValue::UInt(number) => Value::Uint(*number.inner()),
    };
    let kinds = value.kind();
    Typed::kinds(Node::Const(value), kinds)
}

/// The key and the value of a map's entry.
fn entry(entry: &cel::common::ast::IdedEntryExpr) -> Vec<&IdedExpr> {
    match &entry.expr {
        EntryExpr::MapEntry(member) => vec![&member.key, &member.value],
        EntryExpr::StructField(field) => vec![&field.value],
    }
}

/// Whether a function is called by a name, and not by an operator.
fn is_name(function: &str) -> bool {
    function.starts_with(|first: char| first.is_ascii_alphabetic())
}

fn comparison(operator: &str) -> Option<Comparison> {
    Some(match operator {
        operators::LESS => Comparison::Less,
        operators::LESS_EQUALS => Comparison::LessOrEqual,
        operators::GREATER => Comparison::Greater,
        operators::GREATER_EQUALS => Comparison::GreaterOrEqual,
        _ => return None,
    })
}

fn arithmetic(operator: &str) -> Option<Arithmetic> {
    Some(match operator {
        operators::ADD => Arithmetic::Add,
        operators::SUBSTRACT => Arithmetic::Subtract,
        operators::MULTIPLY => Arithmetic::Multiply,
        operators::DIVIDE => Arithmetic::Divide,
        operators::MODULO => Arithmetic::Modulo,
        _ => return None,
    })
}
