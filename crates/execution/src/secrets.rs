//! Where secrets belong in a request, and how their values come in.

use serde_json::{Map, Value};

use crate::ExecRequest;

impl ExecRequest {
    /// Puts the values of secrets where their handles are. `value` is asked for each by its name.
    ///
    /// # Errors
    /// The first that `value` gives.
    pub fn reveal<E>(&mut self, mut value: impl FnMut(&str) -> Result<String, E>) -> Result<(), E> {
        for field in self.args.iter_mut().chain(self.kwargs.values_mut()).chain(self.with.values_mut()) {
            reveal_in(field, &mut value)?;
        }
        for text in self.env.values_mut().chain(self.stdin.iter_mut()) {
            reveal_text(text, &mut value)?;
        }
        Ok(())
    }
}

/// `{"$secret": "NAME"}` becomes the value; texts are looked through.
///
/// # Errors
/// The first that `reveal` gives.
pub fn reveal_in<E>(value: &mut Value, reveal: &mut impl FnMut(&str) -> Result<String, E>) -> Result<(), E> {
    match value {
        Value::String(text) => reveal_text(text, reveal)?,
        Value::Array(items) => items.iter_mut().try_for_each(|item| reveal_in(item, reveal))?,
        Value::Object(fields) => match handle(fields).map(str::to_owned) {
            Some(name) => *value = Value::String(reveal(&name)?),
            None => fields.values_mut().try_for_each(|field| reveal_in(field, reveal))?,
        },
        _ => {}
    }
    Ok(())
}

fn handle(fields: &Map<String, Value>) -> Option<&str> {
    if fields.len() == 1 { fields.get("$secret")?.as_str() } else { None }
}

fn reveal_text<E>(text: &mut String, reveal: &mut impl FnMut(&str) -> Result<String, E>) -> Result<(), E> {
    const HEAD: &str = "\u{0}secret:";
    while let Some(start) = text.find(HEAD) {
        let name_at = start + HEAD.len();
        let Some(length) = text[name_at..].find('\u{0}') else { break };
        let value = reveal(&text[name_at..name_at + length])?;
        text.replace_range(start..=name_at + length, &value);
    }
    Ok(())
}
