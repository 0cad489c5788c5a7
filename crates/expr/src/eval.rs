//! Working out a tree.

use std::{borrow::Cow, cell::Cell, cmp::Ordering, ops::Range};

use serde_json::{Map, Number, Value};

use crate::{
    ExprError, RESULT_LIMIT, functions,
    parse::{Kind, Node},
};

/// Steps of one evaluation: a tree has at most 512 nodes, functions over long lists pay for each item.
const FUEL: u64 = 1_000_000;

/// What an expression may see.
pub struct Scope<'a> {
    names: &'a Map<String, Value>,
    status: Status,
}

/// How things stand, for `success()`, `failure()` and `cancelled()`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Status {
    /// Something before has failed.
    pub failed: bool,
    /// Someone has cancelled it.
    pub cancelled: bool,
}

impl<'a> Scope<'a> {
    /// These names, and nothing has failed.
    #[must_use]
    pub fn new(names: &'a Map<String, Value>) -> Self {
        Self { names, status: Status::default() }
    }

    pub(crate) fn status(&self) -> Status {
        self.status
    }

    /// With how things stand.
    #[must_use]
    pub fn with_status(mut self, status: Status) -> Self {
        self.status = status;
        self
    }
}

pub(crate) struct Machine<'a> {
    pub(crate) scope: &'a Scope<'a>,
    fuel: Cell<u64>,
}

pub(crate) fn eval(node: &Node, scope: &Scope<'_>) -> Result<Value, ExprError> {
    let value = Machine { scope, fuel: Cell::new(FUEL) }.eval(node)?;
    if size(&value, RESULT_LIMIT) > RESULT_LIMIT {
        return Err(ExprError::new("the result is larger than 1 MB", node.range.clone()));
    }
    Ok(value)
}

/// `null`, `false`, 0, and what is empty are false.
pub(crate) fn truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(b) => *b,
        Value::Number(n) => n.as_f64() != Some(0.0),
        Value::String(s) => !s.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

/// About the length of a value as JSON; stops counting beyond `enough`.
pub(crate) fn size(value: &Value, enough: usize) -> usize {
    match value {
        Value::String(s) => s.len() + 2,
        Value::Array(items) => {
            let mut total = 2;
            for item in items {
                total += 1 + size(item, enough);
                if total > enough {
                    break;
                }
            }
            total
        }
        Value::Object(map) => {
            let mut total = 2;
            for (key, item) in map {
                total += 4 + key.len() + size(item, enough);
                if total > enough {
                    break;
                }
            }
            total
        }
        _ => 8,
    }
}

/// The word for a value's type.
pub(crate) fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(map) if map.contains_key("$secret") => "a secret",
        Value::Object(_) => "a map",
    }
}

fn is_secret(value: &Value) -> bool {
    value.as_object().is_some_and(|m| m.len() == 1 && m.contains_key("$secret"))
}

/// Whether data looks like a secret's handle. Handles are made by `secrets.NAME` in a definition only: whoever may
/// give inputs must not be able to name a secret in them.
pub(crate) fn is_forged(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(is_forged),
        Value::Object(map) => {
            map.iter().any(|(key, item)| key == "$secret" || key.contains('\0') || is_forged(item))
        }
        _ => false,
    }
}

fn secret_looked_at(range: &Range<usize>) -> ExprError {
    let message = "a secret can be handed on as a whole or inside a text, not looked at by an expression";
    ExprError::new(message, range.clone())
}

pub(crate) fn forged(range: &Range<usize>) -> ExprError {
    let message = "the value holds `$secret` or the character U+0000, which are Ostler's own";
    ExprError::new(message, range.clone())
}

impl<'a> Machine<'a> {
    pub(crate) fn burn(&self, cost: usize, range: &Range<usize>) -> Result<(), ExprError> {
        let left = self.fuel.get().checked_sub(cost as u64);
        self.fuel.set(left.unwrap_or(0));
        left.map(drop).ok_or_else(|| ExprError::new("the expression takes too many steps", range.clone()))
    }

    /// What a node comes to, as a value of its own.
    pub(crate) fn eval(&self, node: &Node) -> Result<Value, ExprError> {
        self.keep(self.find(node)?, node)
    }

    /// Makes a value one of its own; a copy of a large one takes fuel, so that no list of copies fills the memory.
    fn keep(&self, value: Cow<'_, Value>, node: &Node) -> Result<Value, ExprError> {
        if let Cow::Borrowed(value) = &value {
            self.burn(size(value, RESULT_LIMIT) / 16, &node.range)?;
        }
        Ok(value.into_owned())
    }

    /// What a node comes to; what is looked up is borrowed from the scope. Each kind has a function of its own, so that
    /// nesting does not pile up the frames of all of them.
    pub(crate) fn find(&self, node: &Node) -> Result<Cow<'a, Value>, ExprError> {
        self.burn(1, &node.range)?;
        match &node.kind {
            Kind::Literal(value) => Ok(Cow::Owned(value.clone())),
            Kind::List(items) => self.list(items),
            Kind::Map(entries) => self.map(entries),
            Kind::Name(_) | Kind::Field(..) | Kind::Index(..) | Kind::Slice(..) => self.looked_up(node),
            Kind::Not(inner) => self.not(inner),
            Kind::Negate(inner) => self.negate(inner, &node.range),
            Kind::Binary(..) => self.chain(node),
            Kind::Choose(condition, yes, no) => self.choose(condition, yes, no),
            Kind::Call(function, arguments) => self.call(function, arguments, &node.range),
        }
    }

    #[inline(never)]
    fn list(&self, items: &[Node]) -> Result<Cow<'a, Value>, ExprError> {
        items.iter().map(|n| self.eval(n)).collect::<Result<Value, _>>().map(Cow::Owned)
    }

    #[inline(never)]
    fn map(&self, entries: &[(String, Node)]) -> Result<Cow<'a, Value>, ExprError> {
        let mut map = Map::new();
        for (key, n) in entries {
            map.insert(key.clone(), self.eval(n)?);
        }
        Ok(Cow::Owned(Value::Object(map)))
    }

    #[inline(never)]
    fn looked_up(&self, node: &Node) -> Result<Cow<'a, Value>, ExprError> {
        let value = self.look_up(node)?;
        let is_own = matches!(root(node), Some("env" | "secrets"));
        if !is_own && is_forged(&value) { Err(forged(&node.range)) } else { Ok(value) }
    }

    #[inline(never)]
    fn not(&self, inner: &Node) -> Result<Cow<'a, Value>, ExprError> {
        Ok(Cow::Owned(Value::Bool(!truthy(&*self.open(inner)?))))
    }

    #[inline(never)]
    fn negate(&self, inner: &Node, range: &Range<usize>) -> Result<Cow<'a, Value>, ExprError> {
        negated(&*self.open(inner)?, range).map(Cow::Owned)
    }

    #[inline(never)]
    fn choose(&self, condition: &Node, yes: &Node, no: &Node) -> Result<Cow<'a, Value>, ExprError> {
        let holds = truthy(&*self.open(condition)?);
        self.find(if holds { yes } else { no })
    }

    #[inline(never)]
    fn call(
        &self,
        function: &str,
        arguments: &[Node],
        range: &Range<usize>,
    ) -> Result<Cow<'a, Value>, ExprError> {
        functions::call(self, function, arguments, range).map(Cow::Owned)
    }

    pub(crate) fn open_all(&self, nodes: &[Node]) -> Result<Vec<Cow<'a, Value>>, ExprError> {
        nodes.iter().map(|n| self.open(n)).collect()
    }

    /// A value that is looked into: a secret may be handed on, not looked at.
    pub(crate) fn open(&self, node: &Node) -> Result<Cow<'a, Value>, ExprError> {
        let value = self.find(node)?;
        if is_secret(&value) {
            let message =
                "a secret can be handed on as a whole or inside a text, not looked at by an expression";
            return Err(ExprError::new(message, node.range.clone()));
        }
        Ok(value)
    }

    /// `None` where something on the way is missing: what `??` and `default` are for.
    pub(crate) fn maybe(&self, node: &Node) -> Result<Option<Cow<'a, Value>>, ExprError> {
        let found = self.maybe_inside(node)?;
        match &found {
            Some(value) if !matches!(root(node), Some("env" | "secrets")) && is_forged(value) => {
                Err(forged(&node.range))
            }
            _ => Ok(found),
        }
    }

    fn maybe_inside(&self, node: &Node) -> Result<Option<Cow<'a, Value>>, ExprError> {
        self.burn(1, &node.range)?;
        match &node.kind {
            Kind::Name(name) if name != "secrets" => Ok(self.scope.names.get(name).map(Cow::Borrowed)),
            Kind::Field(base, ..) if matches!(&base.kind, Kind::Name(n) if n == "secrets") => {
                self.look_up(node).map(Some)
            }
            Kind::Field(base, name, _) => {
                let Some(base) = self.maybe_inside(base)? else { return Ok(None) };
                Ok(into_field(base, name))
            }
            Kind::Index(base, index) => match self.maybe_inside(base)? {
                Some(base) => Ok(self.index(base, index, &node.range).ok()),
                None => Ok(None),
            },
            _ => self.find(node).map(Some),
        }
    }

    fn look_up(&self, node: &Node) -> Result<Cow<'a, Value>, ExprError> {
        match &node.kind {
            Kind::Name(name) => self.scope.names.get(name).map(Cow::Borrowed).ok_or_else(|| {
                let known: Vec<_> = self.scope.names.keys().map(String::as_str).chain(["secrets"]).collect();
                ExprError::new(
                    format!("`{name}` is not known here{}", near(name, &known)),
                    node.range.clone(),
                )
            }),
            Kind::Field(base, name, optional) => {
                if matches!(&base.kind, Kind::Name(n) if n == "secrets") {
                    return Ok(Cow::Owned(serde_json::json!({ "$secret": name })));
                }
                if *optional {
                    let base = self.maybe_inside(base)?;
                    return Ok(base.and_then(|b| into_field(b, name)).unwrap_or(Cow::Owned(Value::Null)));
                }
                field(self.part(base)?, name, &node.range)
            }
            Kind::Index(base, index) => self.index(self.part(base)?, index, &node.range),
            Kind::Slice(base, from, to) => {
                let base = self.part(base)?;
                self.slice(&base, from.as_deref(), to.as_deref(), node)
            }
            _ => self.find(node),
        }
    }

    /// The inside of a chain of look-ups.
    fn part(&self, node: &Node) -> Result<Cow<'a, Value>, ExprError> {
        match &node.kind {
            Kind::Name(_) | Kind::Field(..) | Kind::Index(..) | Kind::Slice(..) => {
                self.burn(1, &node.range)?;
                let value = self.look_up(node)?;
                if is_secret(&value) && root(node) == Some("secrets") { self.open(node) } else { Ok(value) }
            }
            _ => self.open(node),
        }
    }

    fn slice(
        &self,
        base: &Value,
        from: Option<&Node>,
        to: Option<&Node>,
        node: &Node,
    ) -> Result<Cow<'a, Value>, ExprError> {
        self.burn(size(base, RESULT_LIMIT) / 16, &node.range)?;
        let length = match base {
            Value::Array(items) => items.len(),
            Value::String(text) => text.chars().count(),
            other => {
                return Err(ExprError::new(format!("{} has no slices", kind_of(other)), node.range.clone()));
            }
        };
        let from = from.map_or(Ok(0), |n| self.bound(n, length))?;
        let to = to.map_or(Ok(length), |n| self.bound(n, length))?.max(from);
        Ok(Cow::Owned(match base {
            Value::Array(items) => items[from..to].to_vec().into(),
            Value::String(text) => text.chars().skip(from).take(to - from).collect::<String>().into(),
            _ => Value::Null,
        }))
    }

    fn bound(&self, node: &Node, length: usize) -> Result<usize, ExprError> {
        let n = self.open(node)?.as_i64();
        let n =
            n.ok_or_else(|| ExprError::new("a bound of a slice is a whole number", node.range.clone()))?;
        let n = if n < 0 { n.saturating_add(length as i64) } else { n };
        Ok(n.clamp(0, length as i64) as usize)
    }

    fn index(
        &self,
        base: Cow<'a, Value>,
        index: &Node,
        range: &Range<usize>,
    ) -> Result<Cow<'a, Value>, ExprError> {
        match (&*base, &*self.open(index)?) {
            (Value::Array(items), Value::Number(n)) => {
                let n = n.as_i64().unwrap_or(i64::MAX);
                let at = if n < 0 { n.saturating_add(items.len() as i64) } else { n };
                let at = usize::try_from(at).ok().filter(|at| *at < items.len()).ok_or_else(|| {
                    ExprError::new(
                        format!("there is no item {n} in a list of {}", items.len()),
                        range.clone(),
                    )
                })?;
                Ok(match base {
                    Cow::Borrowed(base) => Cow::Borrowed(&base[at]),
                    Cow::Owned(mut base) => Cow::Owned(base[at].take()),
                })
            }
            (Value::Object(_), Value::String(key)) => field(base, key, range),
            (of, index) => Err(ExprError::new(
                format!("{} cannot be indexed by {}", kind_of(of), kind_of(index)),
                range.clone(),
            )),
        }
    }

    /// A chain of operators, from its innermost left side outwards: as long as it may be, the stack does not grow.
    fn chain(&self, node: &Node) -> Result<Cow<'a, Value>, ExprError> {
        let mut links = Vec::new();
        let mut first = node;
        while let Kind::Binary(operator, a, b) = &first.kind {
            links.push((*operator, &**b, &first.range));
            first = a;
        }
        let missing_is_null = matches!(links.last(), Some(("??", ..)));
        let mut left = match missing_is_null {
            true => self.maybe(first)?.unwrap_or(Cow::Owned(Value::Null)),
            false => self.find(first)?,
        };
        for (operator, right, range) in links.into_iter().rev() {
            self.burn(1, range)?;
            left = self.binary(operator, left, right, range)?;
        }
        Ok(left)
    }

    fn binary(
        &self,
        operator: &str,
        left: Cow<'a, Value>,
        b: &Node,
        range: &Range<usize>,
    ) -> Result<Cow<'a, Value>, ExprError> {
        if operator == "??" {
            return if left.is_null() { self.find(b) } else { Ok(left) };
        }
        if is_secret(&left) {
            return Err(secret_looked_at(&(range.start..b.range.start)));
        }
        match operator {
            "&&" => return if truthy(&left) { self.find(b) } else { Ok(left) },
            "||" => return if truthy(&left) { Ok(left) } else { self.find(b) },
            _ => {}
        }
        let right = self.open(b)?;
        // Comparing walks both.
        self.burn((size(&left, RESULT_LIMIT) + size(&right, RESULT_LIMIT)) / 64, range)?;
        let value = match operator {
            "==" => Ok(Value::Bool(equal(&left, &right))),
            "!=" => Ok(Value::Bool(!equal(&left, &right))),
            "in" => contains(&right, &left, range).map(Value::Bool),
            "not in" => contains(&right, &left, range).map(|c| Value::Bool(!c)),
            "<" | "<=" | ">" | ">=" => {
                let order = compare(&left, &right).ok_or_else(|| {
                    let message = format!("{} and {} have no order", kind_of(&left), kind_of(&right));
                    ExprError::new(message, range.clone())
                })?;
                Ok(Value::Bool(match operator {
                    "<" => order == Ordering::Less,
                    "<=" => order != Ordering::Greater,
                    ">" => order == Ordering::Greater,
                    _ => order != Ordering::Less,
                }))
            }
            _ => arithmetic(self, operator, &left, &right, range),
        };
        value.map(Cow::Owned)
    }
}

fn negated(value: &Value, range: &Range<usize>) -> Result<Value, ExprError> {
    match value {
        Value::Number(n) => match n.as_i64() {
            Some(i) => i.checked_neg().map(Value::from).ok_or_else(|| overflow(range)),
            None => number(-n.as_f64().unwrap_or_default(), range),
        },
        other => Err(ExprError::new(format!("`-` needs a number, not {}", kind_of(other)), range.clone())),
    }
}

/// The name that a chain of look-ups begins with.
fn root(node: &Node) -> Option<&str> {
    match &node.kind {
        Kind::Name(name) => Some(name),
        Kind::Field(base, ..) | Kind::Index(base, _) | Kind::Slice(base, ..) => root(base),
        _ => None,
    }
}

/// A field, when it is there.
fn into_field<'a>(base: Cow<'a, Value>, name: &str) -> Option<Cow<'a, Value>> {
    match base {
        Cow::Borrowed(base) => base.as_object()?.get(name).map(Cow::Borrowed),
        Cow::Owned(Value::Object(mut map)) => map.get_mut(name).map(|v| Cow::Owned(v.take())),
        Cow::Owned(_) => None,
    }
}

fn field<'a>(base: Cow<'a, Value>, name: &str, range: &Range<usize>) -> Result<Cow<'a, Value>, ExprError> {
    let error = match &*base {
        Value::Object(map) if map.contains_key(name) => None,
        Value::Object(map) => {
            let known: Vec<_> = map.keys().map(String::as_str).collect();
            Some(format!("there is no `{name}`{}", near(name, &known)))
        }
        other => Some(format!("{} has no field `{name}`", kind_of(other))),
    };
    match (error, into_field(base, name)) {
        (None, Some(value)) => Ok(value),
        (error, _) => Err(ExprError::new(error.unwrap_or_default(), range.clone())),
    }
}

/// What is there instead of a name that is not.
pub(crate) fn near(name: &str, known: &[&str]) -> String {
    let close = known.iter().map(|k| (distance(name, k), *k)).filter(|(d, k)| *d <= 1 + k.len() / 4).min();
    match close {
        Some((_, k)) => format!("; did you mean `{k}`?"),
        None if known.is_empty() => "; there is nothing".to_owned(),
        None => format!("; there is {}", known.iter().take(12).copied().collect::<Vec<_>>().join(", ")),
    }
}

/// Optimal string alignment distance, for names of a few dozen letters.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(64).collect(), b.chars().take(64).collect());
    let mut rows = vec![vec![0usize; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    for j in 0..=b.len() {
        rows[0][j] = j;
    }
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let cost = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (rows[i - 1][j] + 1).min(rows[i][j - 1] + 1).min(rows[i - 1][j - 1] + cost);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
}

pub(crate) fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(x), Value::Number(y)) => compare_numbers(x, y) == Some(Ordering::Equal),
        (Value::Array(x), Value::Array(y)) => x.len() == y.len() && x.iter().zip(y).all(|(x, y)| equal(x, y)),
        _ => a == b,
    }
}

pub(crate) fn compare(a: &Value, b: &Value) -> Option<Ordering> {
    match (a, b) {
        (Value::Number(x), Value::Number(y)) => compare_numbers(x, y),
        (Value::String(x), Value::String(y)) => Some(x.cmp(y)),
        (Value::Bool(x), Value::Bool(y)) => Some(x.cmp(y)),
        _ => None,
    }
}

fn compare_numbers(a: &Number, b: &Number) -> Option<Ordering> {
    match (a.as_i64(), b.as_i64()) {
        (Some(x), Some(y)) => Some(x.cmp(&y)),
        _ => a.as_f64()?.partial_cmp(&b.as_f64()?),
    }
}

pub(crate) fn contains(whole: &Value, part: &Value, range: &Range<usize>) -> Result<bool, ExprError> {
    match (whole, part) {
        (Value::Array(items), part) => Ok(items.iter().any(|i| equal(i, part))),
        (Value::Object(map), Value::String(key)) => Ok(map.contains_key(key)),
        (Value::String(text), Value::String(part)) => Ok(text.contains(part.as_str())),
        (whole, part) => Err(ExprError::new(
            format!("{} cannot be looked for in {}", kind_of(part), kind_of(whole)),
            range.clone(),
        )),
    }
}

fn overflow(range: &Range<usize>) -> ExprError {
    ExprError::new("the number does not fit into 64 bits", range.clone())
}

pub(crate) fn number(value: f64, range: &Range<usize>) -> Result<Value, ExprError> {
    Number::from_f64(value)
        .map(Value::Number)
        .ok_or_else(|| ExprError::new("the result is not a number", range.clone()))
}

fn arithmetic(
    machine: &Machine<'_>,
    operator: &str,
    left: &Value,
    right: &Value,
    range: &Range<usize>,
) -> Result<Value, ExprError> {
    if operator == "+" {
        match (left, right) {
            (Value::String(a), Value::String(b)) => {
                machine.burn((a.len() + b.len()) / 16, range)?;
                return Ok(format!("{a}{b}").into());
            }
            (Value::Array(a), Value::Array(b)) => {
                machine.burn(a.len() + b.len(), range)?;
                return Ok(a.iter().chain(b).cloned().collect());
            }
            _ => {}
        }
    }
    let (Value::Number(a), Value::Number(b)) = (left, right) else {
        let message = format!("`{operator}` does not go with {} and {}", kind_of(left), kind_of(right));
        return Err(ExprError::new(message, range.clone()));
    };
    let by_zero = || ExprError::new("division by zero", range.clone());
    if let (Some(a), Some(b)) = (a.as_i64(), b.as_i64()) {
        let result = match operator {
            "+" => a.checked_add(b),
            "-" => a.checked_sub(b),
            "*" => a.checked_mul(b),
            "%" if b == 0 => return Err(by_zero()),
            "%" => a.checked_rem(b).map(|r| if r != 0 && (r < 0) != (b < 0) { r + b } else { r }),
            "//" if b == 0 => return Err(by_zero()),
            // Towards minus infinity, as in Python; `%` goes with it.
            "//" => a.checked_div(b).map(|q| if a % b != 0 && (a < 0) != (b < 0) { q - 1 } else { q }),
            _ if b == 0 => return Err(by_zero()),
            // A whole quotient stays whole.
            _ if a.checked_rem(b) == Some(0) => a.checked_div(b),
            _ => return number(a as f64 / b as f64, range),
        };
        return result.map(Value::from).ok_or_else(|| overflow(range));
    }
    let (a, b) = (a.as_f64().unwrap_or_default(), b.as_f64().unwrap_or_default());
    if b == 0.0 && matches!(operator, "/" | "//" | "%") {
        return Err(by_zero());
    }
    number(
        match operator {
            "+" => a + b,
            "-" => a - b,
            "*" => a * b,
            "%" => a - b * (a / b).floor(),
            "//" => (a / b).floor(),
            _ => a / b,
        },
        range,
    )
}
