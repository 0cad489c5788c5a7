//! JSON Schema: checking values, and the words for faults. The one place that knows the validator.

use serde_json::Value;

/// More faults than this are counted, not told.
const TOLD: usize = 3;

/// Checks a value; the error tells the first faults with their places.
pub(crate) fn check(schema: &Value, value: &Value) -> Result<(), String> {
    let validator =
        jsonschema::validator_for(schema).map_err(|error| format!("the schema is not valid: {error}"))?;
    let faults: Vec<String> = validator
        .iter_errors(value)
        .map(|fault| {
            let place = fault.instance_path().to_string();
            if place.is_empty() { fault.to_string() } else { format!("`{place}`: {fault}") }
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
