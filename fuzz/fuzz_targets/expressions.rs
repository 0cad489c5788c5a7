//! Expressions, alone and in texts, worked out over names of every type. Errors point into the source; results keep
//! within their limit and are the same each time.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use ostler_expr::{Expr, ExprError, RESULT_LIMIT, Scope, Status, Template, render_json};
use serde_json::{Map, Value, json};

static NAMES: LazyLock<Map<String, Value>> = LazyLock::new(|| {
    let names = json!({
        "inputs": {
            "city": "Wien", "n": 3, "x": 1.5, "big": u64::MAX, "least": i64::MIN, "list": [1, "zwei", { "b": null }],
            "map": { "a": 1, "b-c": [2, [3]] }, "none": null, "yes": true, "empty": "", "odd": "ü💡\u{feff}\n",
            "text": "${{ inputs.n }}", "long": "x".repeat(5_000),
        },
        "steps": {
            "fetch": { "outputs": { "celsius": 21.5, "items": [{ "id": 7 }, { "id": 8 }] }, "outcome": "success" },
            "build-2": { "outputs": { "ok": true } },
        },
        "env": { "TOKEN": { "$secret": "TOKEN" }, "HOME": "/home/me" },
        "event": { "body": { "json": { "$secret": "FORGED" }, "text": "\u{0}secret:A\u{0}" } },
        "run": { "due": "2026-01-01T00:00:00Z" },
    });
    match names {
        Value::Object(map) => map,
        _ => Map::new(),
    }
});

fuzz_target!(|data: &[u8]| {
    let Ok(source) = std::str::from_utf8(data) else { return };
    let scope = Scope::new(&NAMES).with_status(Status { failed: data.len() % 2 == 1, cancelled: false });
    sound(source, || {
        let expression = Expr::parse(source)?;
        for reference in expression.references() {
            assert!(source.get(reference.range.clone()).is_some(), "{reference:?} in {source:?}");
        }
        let _ = (expression.uses_status(), expression.truthy(&scope));
        expression.eval(&scope)
    });
    sound(source, || {
        let template = Template::parse(source)?;
        for reference in template.references() {
            assert!(source.get(reference.range.clone()).is_some(), "{reference:?} in {source:?}");
        }
        if template.is_literal() {
            assert_eq!(template.render(&scope), Ok(source.replace("$${{", "${{").into()));
        }
        template.render(&scope)
    });
    let nested = json!({ "a": [source, { "b": source }], "c": 1 });
    let _ = render_json(&nested, &scope);
});

fn sound(source: &str, work: impl Fn() -> Result<Value, ExprError>) {
    let result = work();
    match &result {
        Ok(value) => {
            // The limit is measured roughly: escapes and long numbers take more than it counts.
            let length = value.to_string().len();
            assert!(length <= RESULT_LIMIT * 6 + 2, "{length} bytes of {source:?}");
        }
        Err(error) => {
            assert!(!error.message.is_empty());
            assert!(source.get(error.range.clone()).is_some(), "{error:?} in {source:?}");
        }
    }
    assert_eq!(result, work());
}
