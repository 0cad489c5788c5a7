//! The language as a table: what an expression comes to, what is said of one that is wrong.

use ostler_expr::{Expr, Scope, Status, Template, render_json};
use serde_json::{Map, Value, json};

fn names() -> Map<String, Value> {
    let names = json!({
        "inputs": { "city": "Wien", "n": 3, "x": 1.5, "list": [1, 2, 3], "map": { "a": 1, "b-c": 2 }, "none": null, "yes": true, "empty": "" },
        "steps": {
            "fetch": { "outputs": { "celsius": 21.5, "items": [{ "id": 7 }, { "id": 8 }] }, "outcome": "success" },
            "build-2": { "outputs": { "ok": true } },
        },
    });
    if let Value::Object(map) = names { map } else { unreachable!() }
}

fn eval(source: &str) -> Result<Value, String> {
    let names = names();
    let scope = Scope::new(&names);
    Expr::parse(source).and_then(|e| e.eval(&scope)).map_err(|e| e.message)
}

#[test]
fn expressions_come_to_values() {
    let table = [
        ("1", json!(1)),
        ("1.5e2", json!(150.0)),
        ("'it''s'", json!("it's")),
        (r#""a\n\"b\"""#, json!("a\n\"b\"")),
        ("null", Value::Null),
        ("[1, 'a', [true]]", json!([1, "a", [true]])),
        ("{a: 1, 'b c': [2]}", json!({ "a": 1, "b c": [2] })),
        ("1 + 2 * 3", json!(7)),
        ("(1 + 2) * 3", json!(9)),
        ("7 / 2", json!(3.5)),
        ("6 / 2", json!(3)),
        ("7 // 2", json!(3)),
        ("-7 // 2", json!(-4)),
        ("-7 % 3", json!(2)),
        ("2 - -1", json!(3)),
        ("10 - 2 - 3", json!(5)),
        ("'a' + 'b'", json!("ab")),
        ("[1] + [2]", json!([1, 2])),
        ("1 < 2 && 2 <= 2 and 3 > 2 and 'a' < 'b'", json!(true)),
        ("1 == 1.0", json!(true)),
        ("'1' == 1", json!(false)),
        ("!true || not false", json!(true)),
        ("not 1 == 2 and !false == true", json!(true)),
        ("'x' in 'xyz' && 2 in [1, 2] && 'a' in {a: 1} && 4 not in [1]", json!(true)),
        ("0 || 'b'", json!("b")),
        ("'a' && 'b'", json!("b")),
        ("1 > 2 ? 'a' : 'b'", json!("b")),
        ("'a' if 1 > 2 else 'b'", json!("b")),
        ("null ?? 1", json!(1)),
        ("inputs.missing ?? 'd'", json!("d")),
        ("inputs.missing.deeper ?? 'd'", json!("d")),
        ("inputs.none ?? 'd'", json!("d")),
        ("inputs.empty ?? 'd'", json!("")),
        ("default(steps.other.outputs.x, 5)", json!(5)),
        ("steps.other?.outputs", Value::Null),
        ("inputs.city", json!("Wien")),
        ("inputs['city']", json!("Wien")),
        ("inputs.map.b-c", json!(2)),
        ("steps.build-2.outputs.ok", json!(true)),
        ("inputs.n -1", json!(2)),
        ("inputs.list[0]", json!(1)),
        ("inputs.list[-1]", json!(3)),
        ("inputs.list[1:]", json!([2, 3])),
        ("inputs.list[:-1]", json!([1, 2])),
        ("inputs.city[1:3]", json!("ie")),
        ("steps.fetch.outputs.items[inputs.n - 2].id", json!(8)),
        ("contains('Hello', 'ell') && startsWith('ab', 'a') && ends_with('ab', 'b')", json!(true)),
        ("format('{0}-{1}-{{}}', 1, inputs.city)", json!("1-Wien-{}")),
        ("join([1, 'a', true], '/')", json!("1/a/true")),
        ("split('a,b', ',')", json!(["a", "b"])),
        ("toJSON({a: [1]})", json!("{\"a\":[1]}")),
        ("fromJSON('[1, {\"a\": null}]')", json!([1, { "a": null }])),
        ("LENGTH('äöü') + len([1])", json!(4)),
        ("upper(lower('Ab')) + trim(' x ')", json!("ABx")),
        ("replace('a-b-c', '-', '+')", json!("a+b+c")),
        ("keys(inputs.map) + values(inputs.map)", json!(["a", "b-c", 1, 2])),
        ("first([1, 2]) + last([1, 2])", json!(3)),
        ("min(3, 1, 2) + max([3, 1])", json!(4)),
        ("sum([1, 2, 0.5])", json!(3.5)),
        ("range(3) + range(5, 7)", json!([0, 1, 2, 5, 6])),
        ("round(2.5) + round(1.005, 1)", json!(4.0)),
        ("int('12') + int(3.9) + int(true)", json!(16)),
        ("float('1.5')", json!(1.5)),
        ("string(12) + string(null) + string([1])", json!("12[1]")),
        ("bool('') || bool([0])", json!(true)),
        ("success() && !failure() && always() && !cancelled()", json!(true)),
        ("secrets.TOKEN", json!({ "$secret": "TOKEN" })),
    ];
    for (source, expected) in table {
        assert_eq!(eval(source), Ok(expected), "{source}");
    }
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    let table = [
        ("", 0..0, "the expression is empty"),
        ("1 +", 3..3, "a value was expected, not the end"),
        ("1 2", 2..3, "`2` was not expected here"),
        ("(1", 2..2, "`)` was expected, not the end"),
        ("'abc", 0..4, "the text that begins with ' has no end"),
        ("a = b", 2..3, "`=` does not belong into an expression; write `==` to compare"),
        (
            "a | upper",
            2..3,
            "`|` does not belong into an expression; write `||` or `or` (there are no filters: write `f(x)`)",
        ),
        ("uper('a')", 0..9, "there is no function `uper`; did you mean `upper`?"),
        (
            "now()",
            0..5,
            "there is no function `now`: expressions do not look at the world; `run.due` is the moment a scheduled run was due",
        ),
        ("len()", 0..5, "`length` takes 1 arguments, not 0"),
        ("input.city", 0..5, "`input` is not known here; did you mean `inputs`?"),
        ("steps.fetch.outputs.celsuis", 0..27, "there is no `celsuis`; did you mean `celsius`?"),
        ("steps.fetch.outputs.q", 0..21, "there is no `q`; there is celsius, items"),
        ("inputs.city.x", 0..13, "a text has no field `x`"),
        ("inputs.list[3]", 0..14, "there is no item 3 in a list of 3"),
        ("inputs.list['a']", 0..16, "a list cannot be indexed by a text"),
        ("1 + 'a'", 0..7, "`+` does not go with a number and a text"),
        ("'a' * 3", 0..7, "`*` does not go with a text and a number"),
        ("1 < 'a'", 0..7, "a number and a text have no order"),
        ("1 / 0", 0..5, "division by zero"),
        ("9223372036854775807 + 1", 0..23, "the number does not fit into 64 bits"),
        ("99999999999999999999", 0..20, "`99999999999999999999` is not a number that fits"),
        ("fromJSON('{')", 0..13, "`from_json`: not JSON: EOF while parsing an object at line 1 column 1"),
        (
            "secrets.A == 'x'",
            0..13,
            "a secret can be handed on as a whole or inside a text, not looked at by an expression",
        ),
        (
            "upper(secrets.A)",
            6..15,
            "a secret can be handed on as a whole or inside a text, not looked at by an expression",
        ),
        (
            "secrets.A[0]",
            0..9,
            "a secret can be handed on as a whole or inside a text, not looked at by an expression",
        ),
        (
            "!secrets.A",
            1..10,
            "a secret can be handed on as a whole or inside a text, not looked at by an expression",
        ),
        (
            "fromJSON('{\"$secret\": \"A\"}')",
            0..28,
            "the value holds `$secret` or the character U+0000, which are Ostler's own",
        ),
        ("{'$secret': 'A'}", 1..10, "`$secret` is Ostler's own; write `secrets.NAME`"),
    ];
    let names = names();
    let scope = Scope::new(&names);
    for (source, range, message) in table {
        let error = Expr::parse(source).and_then(|e| e.eval(&scope)).unwrap_err();
        assert_eq!((error.message.as_str(), error.range.clone()), (message, range), "{source}");
    }
}

#[test]
fn templates_keep_the_type_of_one_expression_alone() {
    let names = names();
    let scope = Scope::new(&names);
    let render =
        |text: &str| Template::parse(text).and_then(|t| t.render(&scope)).map_err(|e| (e.message, e.range));
    assert_eq!(render("${{ inputs.n }}"), Ok(json!(3)));
    assert_eq!(render(" ${{ inputs.n }}"), Ok(json!(" 3")));
    assert_eq!(render("${{ inputs.n }}${{ inputs.city }}"), Ok(json!("3Wien")));
    assert_eq!(
        render("$${{ x }} ${{ {a: {b: 1}} }} ${{ '}}' }}"),
        Ok(json!("${{ x }} {\"a\":{\"b\":1}} }}"))
    );
    assert_eq!(render("Bearer ${{ secrets.TOKEN }}"), Ok(json!("Bearer \u{0}secret:TOKEN\u{0}")));
    assert_eq!(render("${{ secrets.TOKEN }}"), Ok(json!({ "$secret": "TOKEN" })));
    assert_eq!(render("plain $ {{ }} text"), Ok(json!("plain $ {{ }} text")));
    assert_eq!(render("ab ${{ inputs.q }}").unwrap_err().1, 7..15);
    assert_eq!(render("ab ${{ inputs.q").unwrap_err().1, 3..15);
    assert!(Template::parse("$${{ a }}").unwrap().is_literal());
    assert!(!Template::parse("${{ a }}").unwrap().is_literal());
}

#[test]
fn an_error_in_a_value_names_the_place() {
    let names = names();
    let scope = Scope::new(&names);
    let value = json!({ "a": [{ "b": "x" }, { "b": "${{ inputs.nope }}" }], "n": 1 });
    let error = render_json(&value, &scope).unwrap_err();
    assert!(error.message.starts_with("a[1]"), "{}", error.message);
    let value = json!({ "a": ["${{ inputs.list }}", true], "b": "n=${{ inputs.n }}" });
    assert_eq!(render_json(&value, &scope).unwrap(), json!({ "a": [[1, 2, 3], true], "b": "n=3" }));
}

#[test]
fn data_cannot_name_a_secret() {
    let names = json!({ "inputs": { "a": { "deep": [{ "$secret": "KEY" }] }, "b": "x\u{0}secret:KEY\u{0}", "ok": 1 } });
    let names = names.as_object().unwrap();
    let scope = Scope::new(names);
    for source in [
        "inputs.a",
        "inputs.a.deep[0]",
        "inputs",
        "inputs.b",
        "inputs.b ?? ''",
        "inputs?.b",
        "first(inputs.a.deep)",
        "default(inputs.a, 1)",
    ] {
        let error = Expr::parse(source).unwrap().eval(&scope).unwrap_err();
        assert!(error.message.contains("Ostler's own"), "{source}: {error}");
    }
    assert_eq!(Expr::parse("inputs.ok").unwrap().eval(&scope).unwrap(), 1);
    // A secret that a step has in its `env` is handed on.
    let names = json!({ "env": { "TOKEN": "\u{0}secret:KEY\u{0}" } });
    let scope = Scope::new(names.as_object().unwrap());
    assert_eq!(Template::parse("${{ env.TOKEN }}").unwrap().render(&scope).unwrap(), "\u{0}secret:KEY\u{0}");
}

#[test]
fn references_say_what_is_looked_up() {
    let found = |source: &str| -> Vec<String> {
        let expr = Expr::parse(source).unwrap();
        let show = |r: ostler_expr::Reference| {
            assert!(source.get(r.range.clone()).is_some());
            format!(
                "{}{}{}",
                r.path.join("."),
                if r.dynamic { "+" } else { "" },
                if r.optional { "?" } else { "" }
            )
        };
        expr.references().into_iter().map(show).collect()
    };
    assert_eq!(found("steps.fetch.outputs.celsius"), ["steps.fetch.outputs.celsius"]);
    assert_eq!(found("steps['a'].outputs"), ["steps.a.outputs"]);
    assert_eq!(found("steps.a.items[1:]"), ["steps.a.items+"]);
    assert_eq!(found("steps[inputs.n].outputs"), ["inputs.n", "steps+"]);
    assert_eq!(found("a.b ?? c.d"), ["a.b?", "c.d"]);
    assert_eq!(found("default(a.b, c)"), ["a.b?", "c"]);
    assert_eq!(found("a?.b"), ["a.b?"]);
    assert_eq!(found("x ? y.z : [f.g, {k: h.i}]"), ["x", "y.z", "f.g", "h.i"]);
    assert_eq!(found("upper(a) + -b.c == !d"), ["a", "b.c", "d"]);
    assert_eq!(found("fromJSON(a).b[c]"), ["a", "c"]);
}

#[test]
fn status_functions_follow_how_things_stand() {
    let names = Map::new();
    let scope = |failed, cancelled| Scope::new(&names).with_status(Status { failed, cancelled });
    let table = [
        ("success()", [true, false, false]),
        ("failure()", [false, true, false]),
        ("cancelled()", [false, false, true]),
        ("always()", [true, true, true]),
        ("failure() || cancelled()", [false, true, true]),
    ];
    for (source, expected) in table {
        let expr = Expr::parse(source).unwrap();
        assert!(expr.uses_status());
        let got =
            [scope(false, false), scope(true, false), scope(false, true)].map(|s| expr.truthy(&s).unwrap());
        assert_eq!(got, expected, "{source}");
    }
    assert!(!Expr::parse("a == 'success()'").unwrap().uses_status());
    assert!(Expr::parse("[1, {a: x ? failure() : 2}]").unwrap().uses_status());
}

#[test]
fn places_are_those_of_the_text_that_was_given() {
    let source = " ${{ inputs.city + missing }}";
    let expression = Expr::parse(source).unwrap();
    let found: Vec<&str> = expression.references().into_iter().map(|r| &source[r.range]).collect();
    assert_eq!(found, ["inputs.city", "missing"]);
    let names = names();
    assert_eq!(&source[expression.eval(&Scope::new(&names)).unwrap_err().range], "missing");
}
