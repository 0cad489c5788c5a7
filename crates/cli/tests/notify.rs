//! Notifications through the real binary.
#![allow(clippy::unwrap_used, reason = "a test fails where a value is missing")]

mod support;

use support::Shop;

/// A task that fails and tells of it with these settings.
fn file(with: &str) -> String {
    format!(
        "meta: {{ type: ostler-timetable, version: 1, namespace: demo }}
tasks:
  - meta: {{ id: pull }}
    steps: [{{ id: fetch, run: exit 3 }}]
    on_failure:
      - id: tell
        uses: notify
        with: {with}
"
    )
}

#[test]
fn a_failure_is_told() {
    let shop = Shop::new();
    let with = "{ title: '${{ run.task }} failed', message: 'step ${{ run.failed_step }}', command: [sh, -c, 'cat > told', x] }";
    shop.write("a.yaml", &file(with));
    let told = shop.run(&["run", "a.yaml"]);
    assert_eq!(told.code, 1, "{}{}", told.out, told.err);
    assert_eq!(std::fs::read_to_string(shop.path().join("told")).unwrap(), "step fetch");
}

#[test]
fn check_catches_what_is_wrong_with_it() {
    let shop = Shop::new();
    for (with, words) in [
        ("{ title: x }", &["`notify` names no channel", "write `webhook: https://…`"][..]),
        ("{ title: '${{ run.task }}' }", &["`notify` names no channel"]),
        ("{ webhook: 'https://x' }", &["`notify` needs the setting `title`"]),
        (
            "{ title: x, webhok: 'https://x' }",
            &["`notify` has no setting `webhok`", "did you mean `webhook`?"],
        ),
        (
            "{ title: x, webhook: { url: 'https://x', secrt: y } }",
            &["no setting `webhook.secrt`", "did you mean `secret`?"],
        ),
        ("{ title: x, webhook: { secret: '${{ secrets.A }}' } }", &["needs the setting `webhook.url`"]),
        (
            "{ title: x, webhook: { url: 'https://x', form: teams } }",
            &["`with.webhook.form` does not fit `notify`"],
        ),
        (
            "{ title: x, email: { server: 'smtps://h', to: a@b.c } }",
            &["needs the setting `email.from`", "write `from: …` there"],
        ),
        ("{ title: x, command: notify-send }", &["`with.command` does not fit `notify`"]),
        ("{ title: x, command: [] }", &["`with.command` does not fit `notify`"]),
    ] {
        shop.write("a.yaml", &file(with));
        let told = shop.run(&["check", "a.yaml"]);
        assert_eq!(told.code, 2, "{with}: {}{}", told.out, told.err);
        // Messages are wrapped to the width of a terminal.
        let said = format!("{}{}", told.out, told.err)
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
            .replace("│ ", "");
        for word in words {
            assert!(said.contains(word), "{with}: `{word}` is not in {said}");
        }
    }
}
