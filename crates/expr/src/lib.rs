//! The expression language of definition files: small, typed, free of side effects.
//!
//! One closed grammar for `if`, `with`, keys and outputs: JSON literals, names, `.field`, `[index]`, arithmetic,
//! comparison, `&&`/`and`, `||`/`or`, `!`/`not`, `a ? b : c`, `a ?? b` and a fixed list of functions. A source is at
//! most 8 KB and nests at most 64 deep, a result is at most 1 MB, and evaluation runs on fuel, so that nothing that is
//! typed into a file can hang or abort a node. Inside text, expressions stand in `${{ }}`; `$${{` is a literal `${{`.
//!
//! ```
//! use ostler_expr::{Scope, Template};
//! let names = serde_json::json!({ "inputs": { "n": 3 } });
//! let scope = Scope::new(names.as_object().unwrap());
//! let template = Template::parse("${{ inputs.n * 2 }}").unwrap();
//! assert_eq!(template.render(&scope).unwrap(), 6);
//! assert_eq!(Template::parse("n is ${{ inputs.n }}").unwrap().render(&scope).unwrap(), "n is 3");
//! ```

mod eval;
mod functions;
mod lex;
mod parse;
mod template;
mod values;

use std::{fmt, ops::Range};

pub use eval::{Scope, Status};
use serde_json::Value;
pub use template::{Template, render_json};

/// The longest source of one expression.
pub const SOURCE_LIMIT: usize = 8 << 10;

/// The largest result, as JSON text.
pub const RESULT_LIMIT: usize = 1 << 20;

/// What is wrong with an expression, and where in its source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExprError {
    /// What is wrong and what would be right.
    pub message: String,
    /// The bytes of the source that it is about.
    pub range: Range<usize>,
}

impl ExprError {
    pub(crate) fn new(message: impl Into<String>, range: Range<usize>) -> Self {
        Self { message: message.into(), range }
    }

    pub(crate) fn shifted(mut self, by: usize) -> Self {
        self.range = self.range.start + by..self.range.end + by;
        self
    }
}

impl fmt::Display for ExprError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ExprError {}

/// A name that an expression looks up, as far as it is known before it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// `["steps", "fetch", "outputs"]`.
    pub path: Vec<String>,
    /// The path goes on with something worked out when it runs.
    pub dynamic: bool,
    /// It may be missing (`a?.b`, `a ?? b`, `default(a, b)`).
    pub optional: bool,
    /// Where it stands in the source.
    pub range: Range<usize>,
}

/// An expression, parsed.
#[derive(Clone, Debug)]
pub struct Expr {
    node: parse::Node,
    /// Where the node's source begins in the one that was given.
    shift: usize,
}

impl Expr {
    /// Parses an expression, with or without `${{ }}` around it.
    ///
    /// # Errors
    /// It is not one.
    pub fn parse(source: &str) -> Result<Self, ExprError> {
        let trimmed = source.trim();
        if let Some(inner) = trimmed.strip_prefix("${{").and_then(|s| s.strip_suffix("}}"))
            && !inner.contains("${{")
        {
            let shift = source.find("${{").unwrap_or(0) + 3;
            let parsed = Self::parse_inner(inner).map_err(|e| e.shifted(shift))?;
            return Ok(Self { shift, ..parsed });
        }
        Self::parse_inner(source)
    }

    pub(crate) fn parse_inner(source: &str) -> Result<Self, ExprError> {
        if source.len() > SOURCE_LIMIT {
            let message =
                format!("the expression has {} bytes; at most {SOURCE_LIMIT} are allowed", source.len());
            return Err(ExprError::new(message, 0..source.len()));
        }
        Ok(Self { node: parse::parse(source)?, shift: 0 })
    }

    /// Works it out.
    ///
    /// # Errors
    /// A name is not known, a value is of the wrong type, or a limit is passed.
    pub fn eval(&self, scope: &Scope<'_>) -> Result<Value, ExprError> {
        eval::eval(&self.node, scope).map_err(|e| e.shifted(self.shift))
    }

    /// Works it out as a condition: `null`, `false`, `0`, `""` and empty lists and maps are false.
    ///
    /// # Errors
    /// As [`Expr::eval`].
    pub fn truthy(&self, scope: &Scope<'_>) -> Result<bool, ExprError> {
        Ok(values::truthy(&self.eval(scope)?))
    }

    /// The names it looks up.
    #[must_use]
    pub fn references(&self) -> Vec<Reference> {
        let mut found = Vec::new();
        parse::references(&self.node, false, &mut found);
        for reference in &mut found {
            reference.range = reference.range.start + self.shift..reference.range.end + self.shift;
        }
        found
    }

    /// Whether it calls `success()`, `failure()`, `always()` or `cancelled()`.
    #[must_use]
    pub fn uses_status(&self) -> bool {
        parse::uses_status(&self.node)
    }
}
