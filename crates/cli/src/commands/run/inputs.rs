//! Inputs from the command line: `k=v`, `k:=JSON`, `k=@file`.

use serde_json::{Map, Value};

use crate::error::CliError;

/// Reads inputs; `schema` decides what a plain text means.
pub fn read_inputs(given: &[String], schema: Option<&Value>) -> Result<Map<String, Value>, CliError> {
    let mut inputs = Map::new();
    for text in given {
        let (name, value) = read(text, schema)?;
        if inputs.insert(name.clone(), value).is_some() {
            return Err(CliError::usage(format!("input `{name}` is given twice")));
        }
    }
    Ok(inputs)
}

fn read(text: &str, schema: Option<&Value>) -> Result<(String, Value), CliError> {
    let (head, value) = text
        .split_once('=')
        .ok_or_else(|| CliError::usage(format!("`--input {text}` is not `k=v`, `k:=JSON` or `k=@file`")))?;
    if let Some(name) = head.strip_suffix(':') {
        let value = serde_json::from_str(value)
            .map_err(|e| CliError::usage(format!("input `{name}`: `{value}` is not JSON: {e}")))?;
        return Ok((name.to_owned(), value));
    }
    let property = schema.and_then(|s| s.get("properties")).and_then(|p| p.get(head));
    let content;
    let value = match value.strip_prefix('@') {
        None => value,
        Some(path) => {
            content = std::fs::read_to_string(path)
                .map_err(|e| CliError::usage(format!("input `{head}`: `{path}` cannot be read: {e}")))?;
            content.as_str()
        }
    };
    Ok((head.to_owned(), by_schema(head, value, property)?))
}

/// A text as the type that its property has. What the type cannot be is told here; the rest is the schema's to check.
fn by_schema(name: &str, text: &str, property: Option<&Value>) -> Result<Value, CliError> {
    let types: Vec<&str> = match property.and_then(|p| p.get("type")) {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).collect(),
        _ => vec!["string"],
    };
    for kind in &types {
        let value = match *kind {
            "string" => return Ok(Value::String(text.to_owned())),
            "integer" => text.trim().parse::<i64>().ok().map(Value::from),
            "number" => text.trim().parse::<f64>().ok().filter(|n| n.is_finite()).map(Value::from),
            "boolean" => match text.trim() {
                "true" | "yes" | "on" | "1" => Some(Value::Bool(true)),
                "false" | "no" | "off" | "0" => Some(Value::Bool(false)),
                _ => None,
            },
            "null" => (text.trim() == "null").then_some(Value::Null),
            _ => serde_json::from_str(text).ok(),
        };
        if let Some(value) = value {
            return Ok(value);
        }
    }
    Err(CliError::usage(format!(
        "input `{name}`: `{text}` is not of type {}; JSON is given as `{name}:=…`",
        types.join(" or ")
    )))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_schema_says_what_a_text_means() {
        let schema = json!({ "properties": {
            "n": { "type": "integer" }, "x": { "type": "number" }, "b": { "type": "boolean" },
            "s": { "type": "string" }, "l": { "type": "array" } } });
        let given =
            ["n=3", "x=2.5", "b=yes", "s=12", "l=[1,2]", "j:={\"a\":null}", "free=7"].map(str::to_owned);
        let inputs = read_inputs(&given, Some(&schema)).unwrap();
        let expected =
            json!({ "n": 3, "x": 2.5, "b": true, "s": "12", "l": [1, 2], "j": { "a": null }, "free": "7" });
        assert_eq!(Value::Object(inputs), expected);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let schema = json!({ "properties": { "n": { "type": "integer" } } });
        for bad in ["n=three", "n:=three", "n", "n=@/does/not/exist"] {
            assert!(read_inputs(&[bad.to_owned()], Some(&schema)).is_err(), "{bad}");
        }
        assert!(read_inputs(&["n=1".to_owned(), "n=2".to_owned()], Some(&schema)).is_err());
    }
}
