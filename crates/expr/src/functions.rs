//! The functions: a fixed list, none of which repeats text or looks at the world.

use std::{borrow::Cow, ops::Range};

use serde_json::Value;

use crate::{
    ExprError,
    eval::Machine,
    parse::Node,
    values::{compare, contains, forged, is_forged, kind_of, near, number, truthy},
};

/// Functions that ask how things stand.
pub(crate) const STATUS: &[&str] = &["success", "failure", "always", "cancelled"];

/// Name, other spellings, fewest and most arguments.
const FUNCTIONS: &[(&str, &[&str], usize, usize)] = &[
    ("success", &[], 0, 0),
    ("failure", &[], 0, 0),
    ("always", &[], 0, 0),
    ("cancelled", &[], 0, 0),
    ("contains", &[], 2, 2),
    ("starts_with", &["startsWith"], 2, 2),
    ("ends_with", &["endsWith"], 2, 2),
    ("format", &[], 1, 20),
    ("join", &[], 1, 2),
    ("split", &[], 2, 2),
    ("to_json", &["toJSON", "toJson"], 1, 1),
    ("from_json", &["fromJSON", "fromJson"], 1, 1),
    ("length", &["len", "size"], 1, 1),
    ("lower", &[], 1, 1),
    ("upper", &[], 1, 1),
    ("trim", &[], 1, 1),
    ("replace", &[], 3, 3),
    ("default", &[], 2, 2),
    ("keys", &[], 1, 1),
    ("values", &[], 1, 1),
    ("first", &[], 1, 1),
    ("last", &[], 1, 1),
    ("min", &[], 1, 20),
    ("max", &[], 1, 20),
    ("sum", &[], 1, 1),
    ("range", &[], 1, 2),
    ("round", &[], 1, 2),
    ("int", &[], 1, 1),
    ("float", &[], 1, 1),
    ("string", &["str"], 1, 1),
    ("bool", &[], 1, 1),
];

/// The most numbers that `range` makes.
const RANGE_LIMIT: i64 = 10_000;

/// The function of a name, for so many arguments.
pub(crate) fn find(name: &str, count: usize) -> Result<&'static str, String> {
    let lower = name.to_lowercase();
    let found = FUNCTIONS
        .iter()
        .find(|(known, others, ..)| *known == lower || others.iter().any(|o| o.eq_ignore_ascii_case(name)));
    let Some((known, _, least, most)) = found else {
        if lower == "now" || lower == "hashfiles" {
            return Err(format!(
                "there is no function `{name}`: expressions do not look at the world; `run.due` is the moment a scheduled run was due"
            ));
        }
        let names: Vec<_> = FUNCTIONS.iter().map(|(n, ..)| *n).collect();
        return Err(format!("there is no function `{name}`{}", near(&lower, &names)));
    };
    if count < *least || count > *most {
        let wanted = if least == most { least.to_string() } else { format!("{least} to {most}") };
        return Err(format!("`{known}` takes {wanted} arguments, not {count}"));
    }
    Ok(known)
}

/// Calls a function.
pub(crate) fn call(
    machine: &Machine<'_>,
    function: &str,
    arguments: &[Node],
    range: &Range<usize>,
) -> Result<Value, ExprError> {
    match function {
        "success" => return Ok((!machine.scope.status().failed && !machine.scope.status().cancelled).into()),
        "failure" => return Ok(machine.scope.status().failed.into()),
        "cancelled" => return Ok(machine.scope.status().cancelled.into()),
        "always" => return Ok(true.into()),
        "default" => {
            return match machine.maybe(&arguments[0])? {
                Some(value) if !value.is_null() => Ok(value.into_owned()),
                _ => machine.eval(&arguments[1]),
            };
        }
        _ => {}
    }
    let values = machine.open_all(arguments)?;
    for value in &values {
        machine.burn(crate::values::size(value, crate::RESULT_LIMIT) / 16, range)?;
    }
    apply(function, &values, range)
}

/// A function of values; apart from `call`, so that nested calls do not pile its frame up.
#[inline(never)]
fn apply(function: &str, values: &[Cow<'_, Value>], range: &Range<usize>) -> Result<Value, ExprError> {
    let wrong = |wanted: &str, got: &Value| {
        ExprError::new(format!("`{function}` needs {wanted}, not {}", kind_of(got)), range.clone())
    };
    let text = |value: &Value| value.as_str().map(str::to_owned).ok_or_else(|| wrong("a text", value));
    let Some(first) = values.first().map(|v| &**v) else { return Ok(Value::Null) };
    match function {
        "contains" => contains(first, &values[1], range).map(Value::Bool),
        "starts_with" => Ok(text(first)?.starts_with(&text(&values[1])?).into()),
        "ends_with" => Ok(text(first)?.ends_with(&text(&values[1])?).into()),
        "format" => format(&text(first)?, &values[1..], range),
        "join" => {
            let Value::Array(items) = first else { return Err(wrong("a list", first)) };
            let between = values.get(1).map(|v| text(v)).transpose()?.unwrap_or_else(|| ",".to_owned());
            if items.len().saturating_mul(between.len()) > crate::RESULT_LIMIT {
                return Err(ExprError::new("the result is larger than 1 MB", range.clone()));
            }
            Ok(items.iter().map(shown).collect::<Vec<_>>().join(&between).into())
        }
        "split" => {
            let (whole, by) = (text(first)?, text(&values[1])?);
            if by.is_empty() {
                return Err(ExprError::new("`split` needs something to split by", range.clone()));
            }
            Ok(whole.split(&by).map(Value::from).collect())
        }
        "to_json" => Ok(first.to_string().into()),
        "from_json" => {
            let value = serde_json::from_str(&text(first)?)
                .map_err(|e| ExprError::new(format!("`from_json`: not JSON: {e}"), range.clone()))?;
            if is_forged(&value) { Err(forged(range)) } else { Ok(value) }
        }
        "length" => match first {
            Value::Array(items) => Ok(items.len().into()),
            Value::Object(map) => Ok(map.len().into()),
            Value::String(text) => Ok(text.chars().count().into()),
            other => Err(wrong("a text, list or map", other)),
        },
        "lower" => Ok(text(first)?.to_lowercase().into()),
        "upper" => Ok(text(first)?.to_uppercase().into()),
        "trim" => Ok(text(first)?.trim().into()),
        "replace" => {
            let (whole, from, to) = (text(first)?, text(&values[1])?, text(&values[2])?);
            if from.is_empty() || whole.len() / from.len() * to.len() > crate::RESULT_LIMIT {
                return Err(ExprError::new(
                    "`replace` would give more than 1 MB, or has nothing to replace",
                    range.clone(),
                ));
            }
            Ok(whole.replace(&from, &to).into())
        }
        "keys" => match first {
            Value::Object(map) => Ok(map.keys().cloned().map(Value::from).collect()),
            other => Err(wrong("a map", other)),
        },
        "values" => match first {
            Value::Object(map) => Ok(map.values().cloned().collect()),
            other => Err(wrong("a map", other)),
        },
        "first" | "last" => match first {
            Value::Array(items) => {
                let item = if function == "first" { items.first() } else { items.last() };
                item.cloned()
                    .ok_or_else(|| ExprError::new(format!("`{function}` of an empty list"), range.clone()))
            }
            other => Err(wrong("a list", other)),
        },
        "min" | "max" => extreme(function, values, range),
        "sum" => sum(first, range).ok_or_else(|| wrong("a list of numbers", first))?,
        "range" => {
            let whole = |v: &Value| v.as_i64().ok_or_else(|| wrong("whole numbers", v));
            let (from, to) = match values.get(1) {
                Some(to) => (whole(first)?, whole(to)?),
                None => (0, whole(first)?),
            };
            if to.saturating_sub(from) > RANGE_LIMIT {
                return Err(ExprError::new(
                    format!("`range` makes at most {RANGE_LIMIT} numbers"),
                    range.clone(),
                ));
            }
            Ok((from..to).map(Value::from).collect())
        }
        "round" => {
            let value = first.as_f64().ok_or_else(|| wrong("a number", first))?;
            let digits = values.get(1).and_then(|v| v.as_i64()).unwrap_or(0).clamp(0, 15) as i32;
            if digits == 0 {
                return Ok((value.round() as i64).into());
            }
            let scale = 10f64.powi(digits);
            number((value * scale).round() / scale, range)
        }
        "int" => {
            match first {
                Value::Number(n) => {
                    Ok(n.as_i64().unwrap_or_else(|| n.as_f64().unwrap_or_default() as i64).into())
                }
                Value::String(s) => s.trim().parse::<i64>().map(Value::from).map_err(|_| {
                    ExprError::new(format!("`int`: `{s}` is not a whole number"), range.clone())
                }),
                Value::Bool(b) => Ok(i64::from(*b).into()),
                other => Err(wrong("a number or text", other)),
            }
        }
        "float" => match first {
            Value::Number(n) => number(n.as_f64().unwrap_or_default(), range),
            Value::String(s) => match s.trim().parse::<f64>() {
                Ok(f) => number(f, range),
                Err(_) => Err(ExprError::new(format!("`float`: `{s}` is not a number"), range.clone())),
            },
            other => Err(wrong("a number or text", other)),
        },
        "string" => Ok(shown(first).into()),
        "bool" => Ok(truthy(first).into()),
        other => Err(ExprError::new(format!("there is no function `{other}`"), range.clone())),
    }
}

/// A value inside a text: texts as they are, everything else as JSON; nothing for null.
pub(crate) fn shown(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Object(map) if map.len() == 1 && map.contains_key("$secret") => {
            format!("\u{0}secret:{}\u{0}", map["$secret"].as_str().unwrap_or_default())
        }
        other => other.to_string(),
    }
}

/// `{0}`, `{1}`; `{{` and `}}` are braces.
fn format(pattern: &str, values: &[Cow<'_, Value>], range: &Range<usize>) -> Result<Value, ExprError> {
    let mut out = String::new();
    let mut rest = pattern;
    while let Some(at) = rest.find(['{', '}']) {
        out.push_str(&rest[..at]);
        let here = &rest[at..];
        if let Some(after) = here.strip_prefix("{{").or_else(|| here.strip_prefix("}}")) {
            out.push_str(&here[..1]);
            rest = after;
            continue;
        }
        let close = here.find('}').filter(|_| here.starts_with('{'));
        let index = close.and_then(|c| here[1..c].parse::<usize>().ok());
        let value = index.and_then(|i| values.get(i)).ok_or_else(|| {
            ExprError::new(
                "`format`: a brace stands for `{0}`, `{1}`, …; a doubled one for itself",
                range.clone(),
            )
        })?;
        out.push_str(&shown(value));
        if out.len() > crate::RESULT_LIMIT {
            return Err(ExprError::new("the result is larger than 1 MB", range.clone()));
        }
        rest = &here[close.unwrap_or(0) + 1..];
    }
    out.push_str(rest);
    Ok(out.into())
}

fn extreme(function: &str, values: &[Cow<'_, Value>], range: &Range<usize>) -> Result<Value, ExprError> {
    let items: Vec<&Value> = match values {
        [only] if only.is_array() => only.as_array().into_iter().flatten().collect(),
        several => several.iter().map(|v| &**v).collect(),
    };
    let mut best: Option<&Value> = None;
    for item in items {
        best = match best {
            None => Some(item),
            Some(other) => {
                let order = compare(item, other).ok_or_else(|| {
                    ExprError::new(
                        format!("`{function}`: {} and {} have no order", kind_of(item), kind_of(other)),
                        range.clone(),
                    )
                })?;
                let better = if function == "min" { order.is_lt() } else { order.is_gt() };
                Some(if better { item } else { other })
            }
        };
    }
    best.cloned().ok_or_else(|| ExprError::new(format!("`{function}` of nothing"), range.clone()))
}

fn sum(list: &Value, range: &Range<usize>) -> Option<Result<Value, ExprError>> {
    let items = list.as_array()?;
    let mut whole: Option<i64> = Some(0);
    let mut real = 0.0;
    for item in items {
        let n = item.as_number()?;
        whole = whole.and_then(|w| w.checked_add(n.as_i64()?));
        real += n.as_f64()?;
    }
    Some(match whole {
        Some(w) => Ok(w.into()),
        None => number(real, range),
    })
}
