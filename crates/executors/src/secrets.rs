//! Putting the values of secrets where their handles stand.

use ostler_execution::ExecContext;
use ostler_model::TypedError;
use serde_json::Value;

/// A value with every secret handle opened: `{"$secret": "NAME"}` as a whole, `\0secret:NAME\0` inside texts. What is
/// opened is masked in the log from then on.
///
/// # Errors
/// Of class `secret`, naming one that nobody gives.
pub(crate) fn open_json(value: &Value, context: &ExecContext) -> Result<Value, TypedError> {
    match value {
        Value::Object(map) => {
            if let (1, Some(Value::String(name))) = (map.len(), map.get("$secret")) {
                return look_up(name, context).map(Value::String);
            }
            map.iter().map(|(k, v)| Ok((k.clone(), open_json(v, context)?))).collect::<Result<_, _>>().map(Value::Object)
        }
        Value::Array(items) => items.iter().map(|v| open_json(v, context)).collect::<Result<_, _>>().map(Value::Array),
        Value::String(text) => open_text(text, context).map(Value::String),
        other => Ok(other.clone()),
    }
}

/// A text with every secret handle opened.
///
/// # Errors
/// Of class `secret`, naming one that nobody gives.
pub(crate) fn open_text(text: &str, context: &ExecContext) -> Result<String, TypedError> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("\u{0}secret:") {
        let Some((name, tail)) = after.split_once('\u{0}') else { break };
        out.push_str(before);
        out.push_str(&look_up(name, context)?);
        rest = tail;
    }
    out.push_str(rest);
    Ok(out)
}

fn look_up(name: &str, context: &ExecContext) -> Result<String, TypedError> {
    let value = context.secrets.get(name).ok_or_else(|| {
        let message = format!("secret `{name}` is not there; set OSTLER_SECRET_{name}, or add it to the file of secrets");
        TypedError::new("secret", message)
    })?;
    context.log.mask(&value);
    Ok(value)
}
