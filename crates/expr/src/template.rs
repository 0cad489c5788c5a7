//! Text with expressions in it.

use serde_json::{Map, Value};

use crate::{Expr, ExprError, RESULT_LIMIT, Reference, Scope, functions::shown};

/// A text with `${{ }}` in it, parsed.
#[derive(Clone, Debug)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Clone, Debug)]
enum Part {
    Text(String),
    Expr(Box<Expr>, usize),
}

impl Template {
    /// Parses a text.
    ///
    /// # Errors
    /// An expression in it is not one, or has no end.
    pub fn parse(text: &str) -> Result<Self, ExprError> {
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut at = 0;
        while let Some(found) = text[at..].find("${{") {
            let start = at + found;
            if text[..start].ends_with('$') && start > at {
                // `$${{` is a literal `${{`.
                plain.push_str(&text[at..start - 1]);
                plain.push_str("${{");
                at = start + 3;
                continue;
            }
            plain.push_str(&text[at..start]);
            let inner = start + 3;
            let end = close(&text[inner..]).map(|e| inner + e).ok_or_else(|| {
                ExprError::new("`${{` has no `}}`; a literal `${{` is written `$${{`", start..text.len())
            })?;
            if !plain.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut plain)));
            }
            let expr = Expr::parse_inner(&text[inner..end]).map_err(|e| e.shifted(inner))?;
            parts.push(Part::Expr(Box::new(expr), inner));
            at = end + 2;
        }
        plain.push_str(&text[at..]);
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        Ok(Self { parts })
    }

    /// True when there is no expression in it.
    #[must_use]
    pub fn is_literal(&self) -> bool {
        self.parts.iter().all(|p| matches!(p, Part::Text(_)))
    }

    /// What it comes to: one expression alone keeps its type, anything else is text.
    ///
    /// # Errors
    /// As [`Expr::eval`].
    pub fn render(&self, scope: &Scope<'_>) -> Result<Value, ExprError> {
        match self.parts.as_slice() {
            [Part::Expr(expr, shift)] => expr.eval(scope).map_err(|e| e.shifted(*shift)),
            _ => self.render_text(scope).map(Value::String),
        }
    }

    /// What it comes to as text.
    ///
    /// # Errors
    /// As [`Expr::eval`].
    pub fn render_text(&self, scope: &Scope<'_>) -> Result<String, ExprError> {
        let mut text = String::new();
        for part in &self.parts {
            match part {
                Part::Text(plain) => text.push_str(plain),
                Part::Expr(expr, shift) => {
                    text.push_str(&shown(&expr.eval(scope).map_err(|e| e.shifted(*shift))?));
                }
            }
            if text.len() > RESULT_LIMIT {
                return Err(ExprError::new("the result is larger than 1 MB", 0..0));
            }
        }
        Ok(text)
    }

    /// The names it looks up, with their places in the text.
    #[must_use]
    pub fn references(&self) -> Vec<Reference> {
        let mut found = Vec::new();
        for part in &self.parts {
            if let Part::Expr(expr, shift) = part {
                found.extend(expr.references().into_iter().map(|mut r| {
                    r.range = r.range.start + shift..r.range.end + shift;
                    r
                }));
            }
        }
        found
    }
}

/// Where the expression ends: the first `}}` outside of texts and maps.
fn close(text: &str) -> Option<usize> {
    let mut quote = None;
    let mut braces = 0usize;
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        match (quote, c) {
            (Some('"'), '\\') => {
                chars.next();
            }
            (Some(q), c) if c == q => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(c),
            (None, '{') => braces += 1,
            (None, '}') if braces > 0 => braces -= 1,
            (None, '}') if chars.peek().is_some_and(|(_, next)| *next == '}') => return Some(at),
            _ => {}
        }
    }
    None
}

/// Renders every text in a JSON value; an error names the place.
///
/// # Errors
/// As [`Template::render`].
pub fn render_json(value: &Value, scope: &Scope<'_>) -> Result<Value, ExprError> {
    match value {
        Value::String(text) if text.contains("${{") => Template::parse(text)?.render(scope),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .map(|(i, item)| render_json(item, scope).map_err(|e| placed(e, &format!("[{i}]"))))
            .collect(),
        Value::Object(map) => {
            let mut rendered = Map::new();
            for (key, item) in map {
                rendered.insert(key.clone(), render_json(item, scope).map_err(|e| placed(e, key))?);
            }
            Ok(Value::Object(rendered))
        }
        other => Ok(other.clone()),
    }
}

fn placed(mut error: ExprError, place: &str) -> ExprError {
    let joint = if error.message.starts_with('[') { "" } else { ": " };
    error.message = format!("{place}{joint}{}", error.message);
    error
}
