//! What a step may hand on.

use ostler_model::TypedError;
use ostler_schema::Schema;
use serde_json::Value;

/// The largest outputs of one step, as JSON text: 1 MiB. What is larger is an error of class `output`, not a cut.
pub const OUTPUT_LIMIT: usize = 1 << 20;

/// Checks an output against its limit and what the step declares.
///
/// # Errors
/// Of class `output`, with what is wrong.
pub fn check_output(output: &Value, schema: Option<&Value>) -> Result<(), TypedError> {
    let bytes = output.to_string().len();
    if bytes > OUTPUT_LIMIT {
        let text = format!(
            "the output has {bytes} bytes, more than the {OUTPUT_LIMIT} that a step may hand on; write it to a file and hand on its path"
        );
        return Err(TypedError::new("output", text));
    }
    let Some(schema) = schema else { return Ok(()) };
    check_schema(schema, output).map_err(|faults| {
        TypedError::new("output", format!("the output is not as `outputs` declares: {faults}"))
    })
}

/// More faults than this are counted, not told.
const TOLD: usize = 3;

/// Checks a value; the error tells the first faults with their places.
fn check_schema(schema: &Value, value: &Value) -> Result<(), String> {
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
