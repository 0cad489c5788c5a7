//! What a child hands on by the file named in `$OSTLER_OUTPUT`.
//!
//! The file holds one JSON object, or lines: `name=value`, or for several lines
//!
//! ```text
//! name<<END
//! first line
//! second line
//! END
//! ```
//!
//! Values of lines are texts, unless the step's `outputs` declares another type for that name.

use std::{fs::File, io::Read, path::Path};

use ostler_execution::OUTPUT_LIMIT;
use ostler_model::TypedError;
use serde_json::{Map, Value};

/// Reads the file; a missing one is no outputs.
pub(super) fn read(path: &Path, schema: Option<&Value>) -> Result<Map<String, Value>, TypedError> {
    let Ok(file) = File::open(path) else { return Ok(Map::new()) };
    let fault = |text: String| TypedError::new("output", format!("$OSTLER_OUTPUT: {text}"));
    let mut bytes = Vec::new();
    // Twice the limit: escapes of JSON may be longer than what they stand for.
    file.take(2 * OUTPUT_LIMIT as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| fault(error.to_string()))?;
    if bytes.len() > 2 * OUTPUT_LIMIT {
        return Err(fault(format!(
            "it has more than {} bytes; hand on the path of a file instead",
            2 * OUTPUT_LIMIT
        )));
    }
    let text = String::from_utf8(bytes).map_err(|_| fault("it is not UTF-8".into()))?;
    parse(&text, schema).map_err(fault)
}

fn parse(text: &str, schema: Option<&Value>) -> Result<Map<String, Value>, String> {
    if text.trim_start().starts_with('{') {
        return serde_json::from_str(text)
            .map_err(|error| format!("it begins like a JSON object, but {error}"));
    }
    let mut outputs = Map::new();
    let mut lines = text.lines().enumerate();
    while let Some((at, line)) = lines.next() {
        if line.trim().is_empty() {
            continue;
        }
        // `a=b<<c` is a value that holds `<<`; `a<<c=d` is a block that ends with `c=d`.
        let (equals, heredoc) = (line.find('='), line.find("<<"));
        match (equals, heredoc) {
            (equals, Some(block)) if equals.is_none_or(|equals| block < equals) => {
                let (name, end) = (&line[..block], &line[block + 2..]);
                let mut value = Vec::new();
                loop {
                    match lines.next() {
                        Some((_, line)) if line == end => break,
                        Some((_, line)) => value.push(line),
                        None => {
                            return Err(format!(
                                "line {}: the block of `{name}` never ends with `{end}`",
                                at + 1
                            ));
                        }
                    }
                }
                put(&mut outputs, name, &value.join("\n"), schema);
            }
            (Some(equals), _) => put(&mut outputs, &line[..equals], &line[equals + 1..], schema),
            (None, _) => {
                let text = format!("line {}: `{line}` is neither `name=value` nor `name<<END`", at + 1);
                return Err(text);
            }
        }
    }
    Ok(outputs)
}

/// Adds an output, of the type that is declared for it.
pub(super) fn put(outputs: &mut Map<String, Value>, name: &str, text: &str, schema: Option<&Value>) {
    let name = name.trim();
    let declared = schema.and_then(|schema| schema.pointer(&format!("/properties/{name}/type"))?.as_str());
    let value = match declared {
        Some("string") | None => None,
        Some(_) => serde_json::from_str(text.trim()).ok(),
    };
    outputs.insert(name.into(), value.unwrap_or_else(|| Value::String(text.into())));
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lines_blocks_and_objects_are_read() {
        let schema = json!({"properties": {"n": {"type": "integer"}, "s": {"type": "string"}}});
        let outputs = parse("n=3\ns=4\nx=5\n\nlong<<E=1\na=b\n\nc\nE=1\nq=a<<b\n", Some(&schema)).unwrap();
        let expected = json!({"n": 3, "s": "4", "x": "5", "long": "a=b\n\nc", "q": "a<<b"});
        assert_eq!(Value::Object(outputs), expected);
        assert_eq!(Value::Object(parse(" {\"a\": [1]}\n", None).unwrap()), json!({"a": [1]}));
    }

    #[test]
    fn faults_name_the_line() {
        assert_eq!(
            parse("a=1\nwhat", None).unwrap_err(),
            "line 2: `what` is neither `name=value` nor `name<<END`"
        );
        assert_eq!(parse("a<<X\nb", None).unwrap_err(), "line 1: the block of `a` never ends with `X`");
        assert!(parse("{oops", None).unwrap_err().starts_with("it begins like a JSON object, but "));
    }
}
