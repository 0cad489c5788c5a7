//! Values: their truth, size, order, arithmetic, and what is not to be made of them.

use std::{cmp::Ordering, ops::Range};

use serde_json::{Number, Value};

use crate::ExprError;

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

pub(crate) fn is_secret(value: &Value) -> bool {
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

pub(crate) fn secret_looked_at(range: &Range<usize>) -> ExprError {
    let message = "a secret can be handed on as a whole or inside a text, not looked at by an expression";
    ExprError::new(message, range.clone())
}

pub(crate) fn forged(range: &Range<usize>) -> ExprError {
    let message = "the value holds `$secret` or the character U+0000, which are Ostler's own";
    ExprError::new(message, range.clone())
}

/// What is there instead of a name that is not.
pub(crate) fn near(name: &str, known: &[&str]) -> String {
    let close = known
        .iter()
        .map(|k| (strsim::osa_distance(name, k), *k))
        .filter(|(d, k)| *d <= 1 + k.len() / 4)
        .min();
    match close {
        Some((_, k)) => format!("; did you mean `{k}`?"),
        None if known.is_empty() => "; there is nothing".to_owned(),
        None => format!("; there is {}", known.iter().take(12).copied().collect::<Vec<_>>().join(", ")),
    }
}

/// `-x`.
pub(crate) fn negated(value: &Value, range: &Range<usize>) -> Result<Value, ExprError> {
    match value {
        Value::Number(n) => match n.as_i64() {
            Some(i) => i.checked_neg().map(Value::from).ok_or_else(|| overflow(range)),
            None => number(-n.as_f64().unwrap_or_default(), range),
        },
        other => Err(ExprError::new(format!("`-` needs a number, not {}", kind_of(other)), range.clone())),
    }
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

pub(crate) fn overflow(range: &Range<usize>) -> ExprError {
    ExprError::new("the number does not fit into 64 bits", range.clone())
}

pub(crate) fn number(value: f64, range: &Range<usize>) -> Result<Value, ExprError> {
    Number::from_f64(value)
        .map(Value::Number)
        .ok_or_else(|| ExprError::new("the result is not a number", range.clone()))
}

/// `+ - * / // %`.
pub(crate) fn arithmetic(
    operator: &str,
    left: &Value,
    right: &Value,
    range: &Range<usize>,
) -> Result<Value, ExprError> {
    if operator == "+" {
        match (left, right) {
            (Value::String(a), Value::String(b)) => {
                return Ok(format!("{a}{b}").into());
            }
            (Value::Array(a), Value::Array(b)) => {
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
