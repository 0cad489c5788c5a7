//! Working out a tree.

use std::{borrow::Cow, cell::Cell, cmp::Ordering, ops::Range};

use serde_json::{Map, Value};

use crate::{
    ExprError, RESULT_LIMIT, functions,
    parse::{Kind, Node},
    values::{
        arithmetic, compare, contains, equal, forged, is_forged, is_secret, kind_of, near, negated,
        secret_looked_at, size, truthy,
    },
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
        // Comparing walks both, joining copies both.
        self.burn((size(&left, RESULT_LIMIT) + size(&right, RESULT_LIMIT)) / 16, range)?;
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
            _ => arithmetic(operator, &left, &right, range),
        };
        value.map(Cow::Owned)
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
