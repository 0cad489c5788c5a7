//! Outputs against their schema.

use ostler_schema::Schema;
use serde_json::Value;

/// More faults than this are counted, not told.
const TOLD: usize = 3;

/// Checks a value; the error tells the first faults with their places.
pub(crate) fn check(schema: &Value, value: &Value) -> Result<(), String> {
    let schema = Schema::compile(schema).map_err(|fault| format!("the schema is not valid: {fault}"))?;
    let faults: Vec<String> = schema
        .faults(value)
        .into_iter()
        .map(|fault| match fault.pointer.as_str() {
            "" => fault.to_string(),
            place => format!("`{place}`: {fault}"),
        })
        .collect();
    if faults.is_empty() {
        return Ok(());
    }
    let more = faults.len().saturating_sub(TOLD);
    let told = faults.into_iter().take(TOLD).map(shortened).collect::<Vec<_>>().join("; ");
    Err(if more > 0 { format!("{told}; and {more} more") } else { told })
}

fn shortened(mut text: String) -> String {
    if let Some((at, _)) = text.char_indices().nth(300) {
        text.truncate(at);
        text.push('…');
    }
    text
}
