//! Nothing that is typed into a file hangs, panics or overflows a stack.

#![allow(clippy::unwrap_used)]

use ostler_expr::{Expr, Scope, Template};
use proptest::prelude::*;
use serde_json::{Value, json};

/// Runs on a thread with a small stack, as a careless embedder might.
fn on_a_small_stack<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    std::thread::Builder::new().stack_size(512 << 10).spawn(work).unwrap().join().unwrap()
}

fn message(source: &str) -> String {
    let names = serde_json::Map::new();
    Expr::parse(source)
        .and_then(|e| e.eval(&Scope::new(&names)))
        .map_or_else(|e| e.message, |v| v.to_string())
}

#[test]
fn long_and_deep_expressions_are_refused_on_a_small_stack() {
    on_a_small_stack(|| {
        assert_eq!(message(&vec!["1"; 2000].join("+")), "the expression has more than 512 parts");
        assert_eq!(message(&vec!["1"; 250].join("+")), "250");
        let nested = |open: &str, close: &str, n: usize| format!("{}1{}", open.repeat(n), close.repeat(n));
        let deep = "the expression nests more than 64 deep";
        for (open, close) in [
            ("(", ")"),
            ("[", "]"),
            ("!", ""),
            ("-", ""),
            ("not ", ""),
            ("{a:", "}"),
            ("len(", ")"),
            ("1 ? 1 : ", ""),
            ("1 if 1 else ", ""),
            ("a[", "]"),
        ] {
            assert_eq!(message(&nested(open, close, 600)), deep, "{open}");
        }
        assert_eq!(message(&format!("a{}", ".b".repeat(600))), deep);
        assert_eq!(message(&format!("a{}", "[0]".repeat(600))), deep);
        assert_eq!(message(&nested("(", ")", 60)), "1");
        assert!(message(&"x".repeat(9000)).contains("at most 8192 are allowed"));
    });
}

#[test]
fn results_are_bounded() {
    let names = json!({ "big": "x".repeat(900_000), "list": vec![1; 300_000] });
    let names = names.as_object().unwrap();
    let scope = Scope::new(names);
    let error = |source: &str| Expr::parse(source).unwrap().eval(&scope).unwrap_err().message;
    for source in [
        "big + big",
        "[big, big]",
        "list + list + list + list",
        "join(range(10000), big)",
        "replace(big, 'x', 'yyyyyyyy')",
        "format('{0}{0}', big)",
        "{a: big, b: big}",
    ] {
        let message = error(source);
        assert!(message.contains("1 MB") || message.contains("too many steps"), "{source}: {message}");
    }
    // 250 copies of 900 KB would be 225 MB.
    let copies = vec!["big"; 250].join(", ");
    assert_eq!(error(&format!("len([{copies}])")), "the expression takes too many steps");
    assert_eq!(error("range(10001)"), "`range` makes at most 10000 numbers");
    // What is only passed through is not copied: 100 look-ups into a large value are cheap.
    let sum = ["len(big[0:1])"; 10].join(" + ");
    assert_eq!(Expr::parse(&sum).unwrap().eval(&scope).unwrap(), 10);
    let text = "${{ big }}${{ big }}";
    assert!(Template::parse(text).unwrap().render(&scope).unwrap_err().message.contains("1 MB"));
}

/// Pieces that expressions are made of, so that random ones are often nearly right.
fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("inputs"),
        Just(".a"),
        Just("?.b"),
        Just("[0]"),
        Just("[-1:]"),
        Just("(1)"),
        Just("("),
        Just(")"),
        Just("'x'"),
        Just("\"y\\n\""),
        Just(" + "),
        Just(" - "),
        Just(" * "),
        Just(" / "),
        Just(" // "),
        Just(" % "),
        Just(" == "),
        Just(" in "),
        Just(" not in "),
        Just(" ?? "),
        Just(" ? "),
        Just(" : "),
        Just(" if "),
        Just(" else "),
        Just("!"),
        Just("not "),
        Just("{a: 1}"),
        Just("[1, 2]"),
        Just("1"),
        Just("2.5e300"),
        Just("9223372036854775807"),
        Just("null"),
        Just("len("),
        Just("join("),
        Just("range("),
        Just("format("),
        Just("round("),
        Just("replace("),
        Just("split("),
        Just("fromJSON("),
        Just(", "),
        Just("secrets.A"),
        Just("${{ "),
        Just(" }}"),
        Just("$${{"),
        Just("ü"),
        Just("\\"),
        Just("'"),
        Just("min("),
        Just("int("),
        Just("-"),
    ]
    .prop_map(str::to_owned)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_typed_panics(parts in prop::collection::vec(prop_oneof![4 => piece(), 1 => any::<String>()], 0..24)) {
        let source = parts.concat();
        let names = json!({ "inputs": { "a": [1, "zwei", { "b": null }], "b": "ü💡" } });
        let scope = Scope::new(names.as_object().unwrap());
        for result in [
            Expr::parse(&source).and_then(|e| { let _ = (e.references(), e.uses_status()); e.eval(&scope) }),
            Template::parse(&source).and_then(|t| { let _ = (t.references(), t.is_literal()); t.render(&scope) }),
        ] {
            if let Err(error) = result {
                prop_assert!(error.range.start <= error.range.end && error.range.end <= source.len(), "{error:?} in {source:?}");
                prop_assert!(source.get(error.range.clone()).is_some(), "{error:?} in {source:?}");
            }
        }
    }

    #[test]
    fn whole_numbers_are_counted_as_rust_counts_them(a in -1000i64..1000, b in -1000i64..1000) {
        let names = serde_json::Map::new();
        let eval = |op: &str| Expr::parse(&format!("{a} {op} {b}")).and_then(|e| e.eval(&Scope::new(&names))).ok();
        prop_assert_eq!(eval("+"), Some(json!(a + b)));
        prop_assert_eq!(eval("-"), Some(json!(a - b)));
        prop_assert_eq!(eval("*"), Some(json!(a * b)));
        prop_assert_eq!(eval("<"), Some(Value::Bool(a < b)));
        let floor = |a: i64, b: i64| { let q = a / b; if a % b != 0 && (a < 0) != (b < 0) { q - 1 } else { q } };
        prop_assert_eq!(eval("//"), (b != 0).then(|| json!(floor(a, b))));
        prop_assert_eq!(eval("%"), (b != 0).then(|| json!(a - floor(a, b) * b)));
    }
}
