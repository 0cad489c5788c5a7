//! JSON Schema (draft 2020-12 unless `$schema` says another): compiling a schema, checking values against it, and the
//! words for what is wrong. The one room that knows the validator.
//!
//! ```
//! use ostler_schema::{Fault, Schema};
//! use serde_json::json;
//!
//! let schema = Schema::compile(&json!({ "type": "object", "properties": { "n": { "type": "integer" } } })).unwrap();
//! assert!(schema.faults(&json!({ "n": 5 })).is_empty());
//! let faults = schema.faults(&json!({ "n": "five" }));
//! assert_eq!(faults[0].pointer, "/n");
//! assert_eq!(faults[0].to_string(), "\"five\" is not of type \"integer\"");
//! ```
//!
//! References may lead into the schema itself and nowhere else: nothing is ever fetched or read from a disk.

mod words;

use std::{error::Error, fmt};

use boon::{CompileError, Compiler, ErrorKind, SchemaIndex, Schemas, UrlLoader, ValidationError};
use serde_json::Value;

/// The name under which the validator knows the schema.
const PLACE: &str = "schema:this";

/// A compiled schema.
pub struct Schema {
    schemas: Schemas,
    index: SchemaIndex,
}

/// One thing that is wrong with a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where, as a JSON Pointer (RFC 6901); empty for the whole.
    pub pointer: String,
    /// What.
    pub kind: FaultKind,
    message: String,
}

/// What sort of fault it is, where that makes a difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// The object at the pointer has a property that is not allowed.
    Unexpected(String),
    /// The object at the pointer lacks a property.
    Missing(String),
    /// Anything else.
    Unfit,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for Fault {}

/// Refuses to fetch what a schema refers to.
struct Nothing;

impl UrlLoader for Nothing {
    fn load(&self, url: &str) -> Result<Value, Box<dyn Error>> {
        Err(format!("`{url}` lies outside of the schema").into())
    }
}

impl Schema {
    /// Compiles a schema, after checking it against the meta-schema of its draft.
    ///
    /// # Errors
    /// The first thing that is wrong with it; the pointer is one into the schema.
    pub fn compile(schema: &Value) -> Result<Self, Fault> {
        let mut compiler = Compiler::new();
        compiler.use_loader(Box::new(Nothing));
        let mut schemas = Schemas::new();
        let wrong = |error: CompileError| in_schema(&error, schema);
        compiler.add_resource(PLACE, schema.clone()).map_err(wrong)?;
        let index = compiler.compile(PLACE, &mut schemas).map_err(wrong)?;
        Ok(Self { schemas, index })
    }

    /// Everything that is wrong with a value, in the order of the schema.
    #[must_use]
    pub fn faults(&self, value: &Value) -> Vec<Fault> {
        let mut faults = Vec::new();
        if let Err(error) = self.schemas.validate(value, self.index) {
            collect(&error, value, &mut faults);
        }
        faults
    }
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Schema")
    }
}

/// What is wrong with a schema.
fn in_schema(error: &CompileError, schema: &Value) -> Fault {
    let unfit = |pointer: String, message: String| Fault { pointer, kind: FaultKind::Unfit, message };
    match error {
        CompileError::ValidationError { src, .. } => {
            let mut faults = Vec::new();
            collect(src, schema, &mut faults);
            faults.into_iter().next().unwrap_or_else(|| unfit(String::new(), error.to_string()))
        }
        CompileError::InvalidRegex { url, regex, .. } => {
            let pointer = url.split_once('#').map(|(_, pointer)| pointer.to_owned()).unwrap_or_default();
            unfit(pointer, format!("\"{regex}\" is not a \"regex\""))
        }
        CompileError::JsonPointerNotFound(url) | CompileError::AnchorNotFound { reference: url, .. } => {
            let reference = url.strip_prefix(PLACE).unwrap_or(url);
            unfit(String::new(), format!("there is nothing at `{reference}`"))
        }
        CompileError::LoadUrlError { url, .. } => {
            unfit(String::new(), format!("`{url}` lies outside of the schema"))
        }
        other => unfit(String::new(), other.to_string()),
    }
}

/// The leaves of a tree of errors. Of alternatives that all fail the one fault is told that none fits.
fn collect(error: &ValidationError<'_, '_>, whole: &Value, faults: &mut Vec<Fault>) {
    let pointer = error.instance_location.to_string();
    let at = |kind, message| Fault { pointer: pointer.clone(), kind, message };
    match &error.kind {
        ErrorKind::AdditionalProperties { got } => faults.extend(got.iter().map(|name| {
            at(FaultKind::Unexpected(name.to_string()), format!("\"{name}\" is not one of its properties"))
        })),
        // What `unevaluatedProperties: false` says of a property.
        ErrorKind::FalseSchema if pointer.contains('/') => {
            let (object, name) = pointer.rsplit_once('/').unwrap_or_default();
            let name = name.replace("~1", "/").replace("~0", "~");
            let message = format!("\"{name}\" is not one of its properties");
            faults.push(Fault { pointer: object.to_owned(), kind: FaultKind::Unexpected(name), message });
        }
        ErrorKind::Required { want } => faults.extend(want.iter().map(|name| {
            at(FaultKind::Missing((*name).to_owned()), format!("\"{name}\" is a required property"))
        })),
        ErrorKind::AnyOf | ErrorKind::OneOf(_) | ErrorKind::Not | ErrorKind::Contains => {
            faults.push(at(FaultKind::Unfit, words::of(error, whole)));
        }
        _ if error.causes.is_empty() => faults.push(at(FaultKind::Unfit, words::of(error, whole))),
        _ => error.causes.iter().for_each(|cause| collect(cause, whole, faults)),
    }
}
