//! The words for a fault: the value first, then what it should have been.

use boon::{ErrorKind, ValidationError};
use serde_json::Value;

/// Longer values are cut.
const SHOWN: usize = 60;

/// What is wrong with the value that an error is about.
pub(crate) fn of(error: &ValidationError<'_, '_>, whole: &Value) -> String {
    let pointer = error.instance_location.to_string();
    let value = shown(whole.pointer(&pointer).unwrap_or(&Value::Null));
    match &error.kind {
        ErrorKind::Type { want, .. } => {
            format!("{value} is not of type {}", either(want.iter().map(|t| format!("\"{t}\""))))
        }
        ErrorKind::Enum { want } => format!("{value} is not one of {}", either(want.iter().map(shown))),
        ErrorKind::Const { want } => format!("{value} is not {}", shown(want)),
        ErrorKind::Format { want, .. } => format!("{value} is not a \"{want}\""),
        ErrorKind::Pattern { want, .. } => format!("{value} does not match \"{want}\""),
        ErrorKind::Minimum { want, .. } => format!("{value} is less than the minimum of {want}"),
        ErrorKind::Maximum { want, .. } => format!("{value} is greater than the maximum of {want}"),
        ErrorKind::ExclusiveMinimum { want, .. } => format!("{value} is not greater than {want}"),
        ErrorKind::ExclusiveMaximum { want, .. } => format!("{value} is not less than {want}"),
        ErrorKind::MultipleOf { want, .. } => format!("{value} is not a multiple of {want}"),
        ErrorKind::MinLength { want, .. } => format!("{value} is shorter than {want} characters"),
        ErrorKind::MaxLength { want, .. } => format!("{value} is longer than {want} characters"),
        ErrorKind::MinItems { want, got } => format!("it has {got} items and needs at least {want}"),
        ErrorKind::MaxItems { want, got } => format!("it has {got} items and may have {want}"),
        ErrorKind::MinProperties { want, got } => {
            format!("it has {got} properties and needs at least {want}")
        }
        ErrorKind::MaxProperties { want, got } => format!("it has {got} properties and may have {want}"),
        ErrorKind::UniqueItems { got: [i, j] } => format!("its items {i} and {j} are equal"),
        ErrorKind::AnyOf | ErrorKind::OneOf(None) => format!("{value} is none of what is allowed here"),
        ErrorKind::OneOf(Some(_)) => format!("{value} is more than one of what is allowed here"),
        ErrorKind::Not => format!("{value} is what is not allowed here"),
        ErrorKind::FalseSchema => "nothing is allowed here".to_owned(),
        other => other.to_string(),
    }
}

fn either(words: impl Iterator<Item = String>) -> String {
    let words: Vec<_> = words.collect();
    match words.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => words.concat(),
    }
}

fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(SHOWN) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::{FaultKind, Schema};

    #[test]
    fn each_sort_of_fault_has_its_words() {
        for (schema, value, words) in [
            (json!({"type": ["string", "null"]}), json!(5), r#"5 is not of type "null" or "string""#),
            (json!({"enum": ["GET", "POST"]}), json!("FETCH"), r#""FETCH" is not one of "GET" or "POST""#),
            (json!({"const": 1}), json!(2), "2 is not 1"),
            (json!({"pattern": "^a"}), json!("b"), r#""b" does not match "^a""#),
            (json!({"minimum": 1}), json!(0), "0 is less than the minimum of 1"),
            (json!({"maximum": 3}), json!(9), "9 is greater than the maximum of 3"),
            (json!({"exclusiveMinimum": 1}), json!(1), "1 is not greater than 1"),
            (json!({"exclusiveMaximum": 1}), json!(1), "1 is not less than 1"),
            (json!({"multipleOf": 2}), json!(3), "3 is not a multiple of 2"),
            (json!({"minLength": 2}), json!("a"), r#""a" is shorter than 2 characters"#),
            (json!({"maxLength": 1}), json!("ab"), r#""ab" is longer than 1 characters"#),
            (json!({"minItems": 1}), json!([]), "it has 0 items and needs at least 1"),
            (json!({"maxItems": 0}), json!([1]), "it has 1 items and may have 0"),
            (json!({"minProperties": 1}), json!({}), "it has 0 properties and needs at least 1"),
            (json!({"maxProperties": 0}), json!({"a": 1}), "it has 1 properties and may have 0"),
            (json!({"uniqueItems": true}), json!([1, 2, 1]), "its items 0 and 2 are equal"),
            (
                json!({"anyOf": [{"type": "string"}, {"type": "null"}]}),
                json!(1),
                "1 is none of what is allowed here",
            ),
            (
                json!({"oneOf": [{"minimum": 0}, {"minimum": 1}]}),
                json!(1),
                "1 is more than one of what is allowed here",
            ),
            (json!({"not": {"const": 1}}), json!(1), "1 is what is not allowed here"),
            (json!(false), json!(1), "nothing is allowed here"),
            (json!({"required": ["a"]}), json!({}), r#""a" is a required property"#),
        ] {
            let faults = Schema::compile(&schema).unwrap().faults(&value);
            assert_eq!(
                faults.iter().map(ToString::to_string).collect::<Vec<_>>(),
                [words],
                "{schema} {value}"
            );
        }
    }

    #[test]
    fn several_faults_are_told_each_with_its_place() {
        let schema = json!({
            "required": ["a", "b"], "additionalProperties": false,
            "properties": { "a": {}, "b": {}, "c": { "allOf": [{ "$ref": "#/$defs/n" }] } }, "$defs": { "n": { "type": "number" } },
        });
        let faults = Schema::compile(&schema).unwrap().faults(&json!({ "c": "x", "d": 1, "e/f": 2 }));
        let mut found: Vec<_> = faults.into_iter().map(|f| (f.pointer, f.kind)).collect();
        found.sort_by_key(|(pointer, kind)| (pointer.clone(), format!("{kind:?}")));
        assert_eq!(
            found,
            [
                (String::new(), FaultKind::Missing("a".into())),
                (String::new(), FaultKind::Missing("b".into())),
                (String::new(), FaultKind::Unexpected("d".into())),
                (String::new(), FaultKind::Unexpected("e/f".into())),
                ("/c".into(), FaultKind::Unfit),
            ]
        );
        let open = json!({ "allOf": [{ "properties": { "a": {} } }], "unevaluatedProperties": false });
        let faults = Schema::compile(&open).unwrap().faults(&json!({ "a": 1, "b/c": 2 }));
        assert_eq!((faults.len(), &faults[0].kind), (1, &FaultKind::Unexpected("b/c".into())));
    }

    #[test]
    fn a_schema_that_is_none_is_told_with_its_place() {
        for (schema, pointer, words) in [
            (json!({"type": "strng"}), "/type", "\"strng\" is none of what is allowed here"),
            (json!({"required": "a"}), "/required", "\"a\" is not of type \"array\""),
            (
                json!({"properties": {"a": {"pattern": "("}}}),
                "/properties/a/pattern",
                "\"(\" is not a \"regex\"",
            ),
            (json!({"$ref": "#/$defs/none"}), "", "there is nothing at `#/$defs/none`"),
            (json!({"$ref": "file:///etc/passwd"}), "", "`file:///etc/passwd` lies outside of the schema"),
            (
                json!({"$ref": "https://example.org/s.json"}),
                "",
                "`https://example.org/s.json` lies outside of the schema",
            ),
        ] {
            let fault = Schema::compile(&schema).unwrap_err();
            assert_eq!((fault.pointer.as_str(), fault.to_string().as_str()), (pointer, words), "{schema}");
        }
    }

    #[test]
    fn compiled_schemas_are_shared_between_threads() {
        fn shared<T: Send + Sync>() {}
        shared::<Schema>();
    }
}
