//! Working out a tree.

use std::{cell::Cell, cmp::Ordering, ops::Range};

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

impl Machine<'_> {
    pub(crate) fn burn(&self, cost: usize, range: &Range<usize>) -> Result<(), ExprError> {
        let left = self.fuel.get().checked_sub(cost as u64);
        self.fuel.set(left.unwrap_or(0));
        left.map(drop).ok_or_else(|| ExprError::new("the expression takes too many steps", range.clone()))
    }

    pub(crate) fn eval(&self, node: &Node) -> Result<Value, ExprError> {
        self.burn(1, &node.range)?;
        match &node.kind {
            Kind::Literal(value) => Ok(value.clone()),
            Kind::List(items) => items.iter().map(|n| self.eval(n)).collect(),
            Kind::Map(entries) => {
                let mut map = Map::new();
                for (key, n) in entries {
                    map.insert(key.clone(), self.eval(n)?);
                }
                Ok(Value::Object(map))
            }
            Kind::Name(_) | Kind::Field(..) | Kind::Index(..) | Kind::Slice(..) => self.look_up(node),
            Kind::Not(inner) => Ok(Value::Bool(!truthy(&self.open(inner)?))),
            Kind::Negate(inner) => match self.open(inner)? {
                Value::Number(n) => match n.as_i64() {
                    Some(i) => i.checked_neg().map(Value::from).ok_or_else(|| overflow(&node.range)),
                    None => number(-n.as_f64().unwrap_or_default(), &node.range),
                },
                other => Err(ExprError::new(
                    format!("`-` needs a number, not {}", kind_of(&other)),
                    node.range.clone(),
                )),
            },
            Kind::Binary(operator, a, b) => self.binary(operator, a, b, &node.range),
            Kind::Choose(condition, yes, no) => {
                if truthy(&self.open(condition)?) {
                    self.eval(yes)
                } else {
                    self.eval(no)
                }
            }
            Kind::Call(function, arguments) => functions::call(self, function, arguments, &node.range),
        }
    }

    /// A value that is looked into: a secret may be handed on, not looked at.
    pub(crate) fn open(&self, node: &Node) -> Result<Value, ExprError> {
        let value = self.eval(node)?;
        if is_secret(&value) {
            let message =
                "a secret can be handed on as a whole or inside a text, not looked at by an expression";
            return Err(ExprError::new(message, node.range.clone()));
        }
        Ok(value)
    }

    /// `None` where something on the way is missing: what `??` and `default` are for.
    pub(crate) fn maybe(&self, node: &Node) -> Result<Option<Value>, ExprError> {
        if let Kind::Field(base, name, _) = &node.kind {
            return Ok(match self.maybe(base)? {
                Some(Value::Object(map)) => map.get(name).cloned(),
                _ => None,
            });
        }
        match &node.kind {
            Kind::Name(name) if name != "secrets" => Ok(self.scope.names.get(name).cloned()),
            Kind::Index(base, index) => match self.maybe(base)? {
                Some(base) => Ok(self.index(&base, index, &node.range).ok()),
                None => Ok(None),
            },
            _ => self.eval(node).map(Some),
        }
    }

    fn look_up(&self, node: &Node) -> Result<Value, ExprError> {
        match &node.kind {
            Kind::Name(name) => self.scope.names.get(name).cloned().ok_or_else(|| {
                let known: Vec<_> = self.scope.names.keys().map(String::as_str).chain(["secrets"]).collect();
                ExprError::new(
                    format!("`{name}` is not known here{}", near(name, &known)),
                    node.range.clone(),
                )
            }),
            Kind::Field(base, name, optional) => {
                if matches!(&base.kind, Kind::Name(n) if n == "secrets") {
                    return Ok(serde_json::json!({ "$secret": name }));
                }
                if *optional {
                    return Ok(match self.maybe(base)? {
                        Some(Value::Object(map)) => map.get(name).cloned().unwrap_or(Value::Null),
                        _ => Value::Null,
                    });
                }
                let base_value = self.open(base)?;
                field(&base_value, name, &node.range)
            }
            Kind::Index(base, index) => {
                let base = self.open(base)?;
                self.index(&base, index, &node.range)
            }
            Kind::Slice(base, from, to) => {
                let value = self.open(base)?;
                let length = match &value {
                    Value::Array(items) => items.len(),
                    Value::String(text) => text.chars().count(),
                    other => {
                        return Err(ExprError::new(
                            format!("{} has no slices", kind_of(other)),
                            node.range.clone(),
                        ));
                    }
                };
                let from = from.as_ref().map_or(Ok(0), |n| self.bound(n, length))?;
                let to = to.as_ref().map_or(Ok(length), |n| self.bound(n, length))?.max(from);
                Ok(match value {
                    Value::Array(items) => items[from..to].to_vec().into(),
                    Value::String(text) => text.chars().skip(from).take(to - from).collect::<String>().into(),
                    _ => Value::Null,
                })
            }
            _ => Ok(Value::Null),
        }
    }

    fn bound(&self, node: &Node, length: usize) -> Result<usize, ExprError> {
        let n = self.open(node)?.as_i64();
        let n =
            n.ok_or_else(|| ExprError::new("a bound of a slice is a whole number", node.range.clone()))?;
        let n = if n < 0 { n + length as i64 } else { n };
        Ok(n.clamp(0, length as i64) as usize)
    }

    fn index(&self, base: &Value, index: &Node, range: &Range<usize>) -> Result<Value, ExprError> {
        match (base, self.open(index)?) {
            (Value::Array(items), Value::Number(n)) => {
                let n = n.as_i64().unwrap_or(i64::MAX);
                let at = if n < 0 { n + items.len() as i64 } else { n };
                usize::try_from(at).ok().and_then(|at| items.get(at)).cloned().ok_or_else(|| {
                    ExprError::new(
                        format!("there is no item {n} in a list of {}", items.len()),
                        range.clone(),
                    )
                })
            }
            (Value::Object(_), Value::String(key)) => field(base, &key, range),
            (base, index) => Err(ExprError::new(
                format!("{} cannot be indexed by {}", kind_of(base), kind_of(&index)),
                range.clone(),
            )),
        }
    }

    fn binary(&self, operator: &str, a: &Node, b: &Node, range: &Range<usize>) -> Result<Value, ExprError> {
        match operator {
            "??" => {
                return match self.maybe(a)? {
                    Some(value) if !value.is_null() => Ok(value),
                    _ => self.eval(b),
                };
            }
            "&&" => {
                let left = self.open(a)?;
                return if truthy(&left) { self.eval(b) } else { Ok(left) };
            }
            "||" => {
                let left = self.open(a)?;
                return if truthy(&left) { Ok(left) } else { self.eval(b) };
            }
            _ => {}
        }
        let (left, right) = (self.open(a)?, self.open(b)?);
        match operator {
            "==" => Ok(equal(&left, &right).into()),
            "!=" => Ok((!equal(&left, &right)).into()),
            "in" => contains(&right, &left, range).map(Value::Bool),
            "not in" => contains(&right, &left, range).map(|c| Value::Bool(!c)),
            "<" | "<=" | ">" | ">=" => {
                let order = compare(&left, &right).ok_or_else(|| {
                    let message = format!("{} and {} have no order", kind_of(&left), kind_of(&right));
                    ExprError::new(message, range.clone())
                })?;
                Ok(match operator {
                    "<" => order == Ordering::Less,
                    "<=" => order != Ordering::Greater,
                    ">" => order == Ordering::Greater,
                    _ => order != Ordering::Less,
                }
                .into())
            }
            _ => arithmetic(self, operator, left, right, range),
        }
    }
}

fn field(base: &Value, name: &str, range: &Range<usize>) -> Result<Value, ExprError> {
    match base {
        Value::Object(map) => map.get(name).cloned().ok_or_else(|| {
            let known: Vec<_> = map.keys().map(String::as_str).collect();
            ExprError::new(format!("there is no `{name}`{}", near(name, &known)), range.clone())
        }),
        other => Err(ExprError::new(format!("{} has no field `{name}`", kind_of(other)), range.clone())),
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
    left: Value,
    right: Value,
    range: &Range<usize>,
) -> Result<Value, ExprError> {
    if operator == "+" {
        match (&left, &right) {
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
    let (Value::Number(a), Value::Number(b)) = (&left, &right) else {
        let message = format!("`{operator}` does not go with {} and {}", kind_of(&left), kind_of(&right));
        return Err(ExprError::new(message, range.clone()));
    };
    let by_zero = || ExprError::new("division by zero", range.clone());
    if let (Some(a), Some(b)) = (a.as_i64(), b.as_i64()) {
        let result = match operator {
            "+" => a.checked_add(b),
            "-" => a.checked_sub(b),
            "*" => a.checked_mul(b),
            "%" if b == 0 => return Err(by_zero()),
            "%" => a.checked_rem_euclid(b),
            "//" if b == 0 => return Err(by_zero()),
            "//" => a.checked_div_euclid(b),
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
            "%" => a.rem_euclid(b),
            "//" => a.div_euclid(b),
            _ => a / b,
        },
        range,
    )
}
