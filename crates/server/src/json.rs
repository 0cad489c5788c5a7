//! Bodies of JSON: what they may say, and that they say it as the document does.

use axum::http::{HeaderMap, header};
use ostler_api::{ApiError, ErrorKind};
use schemars::JsonSchema;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

/// Values, keys and brackets of a body together. What is read takes up to some hundred bytes for each, however short it
/// is written: a limit of size alone would let a body of a few megabytes take gigabytes.
const MARKS: usize = 1_000_000;

/// What a body may be.
pub(crate) trait FromBody: Sized + Send + 'static {
    /// How it is described; `None`: there is none.
    fn describe(generator: &mut schemars::SchemaGenerator) -> Option<Map<String, Value>>;

    /// Reads it.
    fn read(bytes: &[u8], headers: &HeaderMap) -> Result<Self, ApiError>;
}

impl FromBody for () {
    fn describe(_: &mut schemars::SchemaGenerator) -> Option<Map<String, Value>> {
        None
    }

    fn read(_: &[u8], _: &HeaderMap) -> Result<Self, ApiError> {
        Ok(())
    }
}

/// A body of JSON.
pub(crate) struct Json<T>(pub(crate) T);

impl<T: DeserializeOwned + Serialize + JsonSchema + Send + 'static> FromBody for Json<T> {
    fn describe(generator: &mut schemars::SchemaGenerator) -> Option<Map<String, Value>> {
        let schema = generator.subschema_for::<T>();
        let content = serde_json::json!({ "application/json": { "schema": schema } });
        content.as_object().cloned()
    }

    fn read(bytes: &[u8], headers: &HeaderMap) -> Result<Self, ApiError> {
        let kind = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
        if kind.split(';').next().unwrap_or_default().trim() != "application/json" {
            // A page of another origin can send a form without being asked; it cannot send JSON.
            let message = format!("the body is to be sent as `Content-Type: application/json`, not `{kind}`");
            return Err(ApiError::new(ErrorKind::UnsupportedType, message));
        }
        let marks = marks(bytes);
        if marks > MARKS {
            let message =
                format!("the body has {marks} values, keys and brackets; at most {MARKS} are taken");
            return Err(ApiError::new(ErrorKind::TooLarge, message));
        }
        let wrong = |e: serde_json::Error| ApiError::bad_input(format!("the body does not read: {e}"));
        // Read once more as what it is: serde takes a list of the fields' values for an object, which nobody means and
        // the document does not say.
        let body: T = serde_json::from_slice(bytes).map_err(wrong)?;
        let value: Value = serde_json::from_slice(bytes).map_err(wrong)?;
        let understood = serde_json::to_value(&body).map_err(wrong)?;
        match list_for_object("", &value, &understood) {
            None => Ok(Self(body)),
            Some(path) => {
                let place = if path.is_empty() { "the body".to_owned() } else { format!("`{}`", &path[1..]) };
                Err(ApiError::bad_input(format!("the body does not read: {place} is a list, not an object")))
            }
        }
    }
}

/// Where a list was taken for an object.
fn list_for_object(path: &str, sent: &Value, understood: &Value) -> Option<String> {
    match (sent, understood) {
        (Value::Array(_), Value::Object(_)) => Some(path.to_owned()),
        (Value::Array(sent), Value::Array(understood)) => sent
            .iter()
            .zip(understood)
            .enumerate()
            .find_map(|(i, (a, b))| list_for_object(&format!("{path}.{i}"), a, b)),
        (Value::Object(sent), Value::Object(understood)) => sent.iter().find_map(|(key, a)| {
            let path = format!("{path}.{key}");
            match understood.get(key) {
                Some(b) => list_for_object(&path, a, b),
                // A list with something in it is written back; what is not was an object at rest.
                None => a.as_array().is_some_and(|list| !list.is_empty()).then_some(path),
            }
        }),
        _ => None,
    }
}

/// How many values, keys and brackets a text of JSON has, about.
pub(crate) fn marks(bytes: &[u8]) -> usize {
    let (mut marks, mut in_string, mut escaped) = (0, false, false);
    for byte in bytes {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = in_string,
            b'"' => in_string = !in_string,
            b',' | b':' | b'[' | b'{' if !in_string => marks += 1,
            _ => {}
        }
    }
    marks
}

/// Reads a body that may say anything.
pub(crate) fn any(bytes: &[u8]) -> Option<Value> {
    (marks(bytes) <= MARKS).then(|| serde_json::from_slice(bytes).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_counted_outside_of_strings() {
        for (text, expected) in
            [("", 0), ("[1,2,3]", 3), (r#"{"a":[{}]}"#, 4), (r#"{"a,b\",[":"{{"}"#, 2), (r#""\\",1"#, 1)]
        {
            assert_eq!(marks(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn a_body_with_too_many_values_is_refused_before_it_is_read() {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
        let text = format!("[{}0]", "0,".repeat(MARKS));
        let error = <Json<Vec<u8>> as FromBody>::read(text.as_bytes(), &headers).err().unwrap();
        assert_eq!(error.kind, ErrorKind::TooLarge);
        assert!(any(text.as_bytes()).is_none());
    }
}
