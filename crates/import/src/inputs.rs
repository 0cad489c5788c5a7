//! Inputs of a task, made of parameters of other formats.

use serde_json::{Value, json};

use crate::document::{Entries, is_field};

/// Names at which a map of inputs would be read as a JSON Schema.
const KEYWORDS: &[&str] = &[
    "type",
    "properties",
    "required",
    "additionalProperties",
    "items",
    "enum",
    "const",
    "oneOf",
    "anyOf",
    "allOf",
    "not",
    "title",
    "description",
    "default",
    "examples",
    "format",
    "pattern",
    "minimum",
    "maximum",
    "definitions",
    "minLength",
    "maxLength",
    "patternProperties",
    "minProperties",
    "maxProperties",
    "protocol",
    "options",
];

/// The declared inputs.
#[derive(Debug, Default)]
pub(crate) struct Inputs {
    properties: Entries,
    required: Vec<String>,
}

impl Inputs {
    /// Declares one. A name that an expression cannot look up is refused.
    pub(crate) fn add(&mut self, name: &str, property: Entries) -> bool {
        let is_plain = is_field(name);
        if is_plain {
            if !property.contains_key("default") {
                self.required.push(name.to_owned());
            }
            self.properties.insert(name.to_owned(), Value::Object(property));
        }
        is_plain
    }

    /// Whether there is one of this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.properties.contains_key(name)
    }

    /// What stands in the file.
    pub(crate) fn value(&self) -> Value {
        if self.properties.is_empty() {
            return Value::Null;
        }
        if self.properties.keys().any(|name| KEYWORDS.contains(&name.as_str()) || name.starts_with('$')) {
            let mut schema =
                json!({ "type": "object", "properties": self.properties, "additionalProperties": false });
            if !self.required.is_empty() {
                schema["required"] = json!(self.required);
            }
            return schema;
        }
        Value::Object(self.properties.clone())
    }
}
