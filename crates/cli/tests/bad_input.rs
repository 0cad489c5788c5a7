//! Bad input: broken files and commands, each with its exact error text and exit code, in one snapshot that is read as a
//! page. Nothing half-done: after all of it the store is as it was.
#![allow(clippy::unwrap_used, reason = "a test fails where a value is missing")]

mod support;

use std::os::unix::fs::PermissionsExt;

use support::{Shop, told};

/// A file with one task that does this.
fn file(rest: &str) -> String {
    format!("meta: {{ type: ostler-timetable, version: 1, namespace: bad }}\n{rest}")
}

/// Name, content.
fn files() -> Vec<(&'static str, Vec<u8>)> {
    let text = |name: &'static str, rest: &str| (name, file(rest).into_bytes());
    let raw = |name: &'static str, text: &str| (name, text.as_bytes().to_vec());
    let deep = format!("tasks: {}{}", "[".repeat(500), "]".repeat(500));
    let bomb = (0..30).fold("a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned(), |all, n| {
        let item = format!("*a{n}");
        all + &format!("a{}: &a{} [{}]\n", n + 1, n + 1, vec![item; 9].join(", "))
    });
    vec![
        raw("empty.yaml", ""),
        raw("syntax.yaml", "tasks: [\n"),
        raw("tab.yaml", "tasks:\n\t- run: x\n"),
        raw("list.yaml", "- a\n- b\n"),
        ("latin1.yaml", b"tasks: [{ meta: { id: caf\xe9 }, run: x }]".to_vec()),
        raw("two.yaml", "a: 1\n---\nb: 2\n"),
        raw("twice.yaml", "tasks: []\ntasks: []\n"),
        raw("deep.yaml", &deep),
        raw("bomb.yaml", &bomb),
        raw("broken.json", "{\"tasks\": [,]}"),
        raw("broken.toml", "tasks = [\n"),
        raw("nothing.py", "print(1)\n"),
        raw("odd.ini", "[tasks]\n"),
        text("no_tasks.yaml", ""),
        text("unknown_key.yaml", "tasks: [{ meta: { id: a }, rum: echo }]"),
        text("unknown_top.yaml", "task: []"),
        text("wrong_type.yaml", "tasks: [{ meta: { id: a, enabled: maybe }, run: x }]"),
        text("no_id.yaml", "tasks: [{ meta: { name: a }, run: x }]"),
        text("bad_id.yaml", "tasks: [{ meta: { id: 'a b' }, run: x }]"),
        text("double.yaml", "tasks: [{ meta: { id: a }, run: x }, { meta: { id: a }, run: y }]"),
        text("executor.yaml", "tasks: [{ meta: { id: a }, uses: shel, run: x }]"),
        text("setting.yaml", "tasks: [{ meta: { id: a }, uses: http, with: { ulr: 'http://x' } }]"),
        text("nothing_to_do.yaml", "tasks: [{ meta: { id: a } }]"),
        text("cron.yaml", "tasks: [{ meta: { id: a }, run: x, on: { schedule: '61 * * * *' } }]"),
        text("cron_word.yaml", "tasks: [{ meta: { id: a }, run: x, on: { schedule: '0 7 * * MOM' } }]"),
        text("cron_never.yaml", "tasks: [{ meta: { id: a }, run: x, on: { schedule: '0 0 31 2 *' } }]"),
        text("alias.yaml", "tasks: [{ meta: { id: a }, run: x, on: { schedule: '@dayly' } }]"),
        text(
            "zone.yaml",
            "tasks: [{ meta: { id: a }, run: x, on: { schedule: [{ cron: '@daily', timezone: Europe/Berln }] } }]",
        ),
        text("every.yaml", "tasks: [{ meta: { id: a }, run: x, on: { schedule: [{ every: 5 }] } }]"),
        text(
            "rrule.yaml",
            "tasks: [{ meta: { id: a }, run: x, on: { schedule: [{ rrule: 'FREQ=OFTEN' }] } }]",
        ),
        text("duration.yaml", "tasks: [{ meta: { id: a }, run: x, policy: { timeout: 10 parsecs } }]"),
        text(
            "overlap.yaml",
            "tasks: [{ meta: { id: a }, run: x, on: { schedule: [{ cron: '@daily', overlap: quue }] } }]",
        ),
        text("expression.yaml", "tasks: [{ meta: { id: a }, run: x, env: { A: '${{ 1 + }}' } }]"),
        text("open_expression.yaml", "tasks: [{ meta: { id: a }, run: x, env: { A: '${{ inputs.x' } }]"),
        text(
            "unknown_input.yaml",
            "tasks: [{ meta: { id: a }, inputs: { city: { type: string } }, run: x, env: { A: '${{ inputs.citty }}' } }]",
        ),
        text(
            "code.yaml",
            "tasks: [{ meta: { id: a }, inputs: { city: { type: string } }, run: 'echo ${{ inputs.city }}' }]",
        ),
        text(
            "cycle.yaml",
            "tasks: [{ meta: { id: a }, steps: [{ id: x, run: y, needs: z }, { id: z, run: y, needs: x }] }]",
        ),
        text("self.yaml", "tasks: [{ meta: { id: a }, steps: [{ id: x, run: y, needs: x }] }]"),
        text(
            "unknown_step.yaml",
            "tasks: [{ meta: { id: a }, steps: [{ id: fetch, run: y }, { id: z, run: y, needs: fetsh }] }]",
        ),
        text(
            "double_step.yaml",
            "tasks: [{ meta: { id: a }, steps: [{ id: x, run: y }, { id: x, run: y }] }]",
        ),
        text("schema.yaml", "tasks: [{ meta: { id: a }, inputs: { n: { type: integr } }, run: x }]"),
        text("retry.yaml", "tasks: [{ meta: { id: a }, run: x, policy: { retry: { attempts: 0 } } }]"),
    ]
}

#[test]
fn every_error_says_what_is_wrong_where_and_what_would_be_right() {
    let shop = Shop::new();
    let mut page = String::new();
    let mut cases = 0;
    let mut show = |args: &[&str], told: support::Told| {
        cases += 1;
        let place = shop.path().display().to_string();
        let real = shop.path().canonicalize().unwrap().display().to_string();
        let err = told.err.replace(&real, "<shop>").replace(&place, "<shop>");
        // Ids and durations differ from run to run.
        let err = match err.find(" failed in ") {
            Some(at) => format!("<id> failed in <so long>{}", &err[at + err[at..].find(':').unwrap()..]),
            None => err,
        };
        let err: String = err.lines().map(|l| format!("    {}\n", l.trim_end())).collect();
        page.push_str(&format!("$ ostler {}\n{err}    exit {}\n\n", args.join(" "), told.code));
        assert_ne!(told.code, 0, "{args:?} went through");
        assert!(!err.contains("panicked"), "{args:?}: {err}");
    };
    for (name, content) in files() {
        std::fs::write(shop.path().join(name), content).unwrap();
        let args = ["check", name];
        show(&args, shop.run(&args));
    }
    shop.write(
        "good.yaml",
        &file("tasks: [{ meta: { id: a }, inputs: { n: { type: integer } }, run: 'true' }]"),
    );
    std::fs::write(
        shop.path().join("text.db"),
        "this is no database, and long enough to be looked at as one",
    )
    .unwrap();
    let locked = shop.path().join("locked");
    std::fs::create_dir(&locked).unwrap();
    std::fs::set_permissions(&locked, std::fs::Permissions::from_mode(0o500)).unwrap();
    let huge = std::fs::File::create(shop.path().join("huge.yaml")).unwrap();
    huge.set_len(1 << 30).unwrap();
    let id = "01a1fb6f-ec37-7000-803d-f8edb40b4e6a";
    let commands: &[&[&str]] = &[
        &["check", "huge.yaml"],
        &["check", "absent.yaml"],
        &["run", "absent.yaml"],
        &["run"],
        &["run", "nosuchtask"],
        &["run", "good.yaml", "--task", "b"],
        &["run", "good.yaml", "--input", "n"],
        &["run", "good.yaml", "--input", "n=three"],
        &["run", "good.yaml", "--input", "m=3"],
        &["run", "good.yaml", "--when", "often"],
        &["run", "good.yaml", "--when", "every 0s"],
        &["run", "--command", ""],
        &["run", "--command", "x", "good.yaml"],
        &["run", "--", "/no/such/program"],
        &["runs", "show", "xyz"],
        &["runs", "show", id],
        &["runs", "list", "--state", "broken"],
        &["runs", "list", "--since", "yesterday"],
        &["runs", "list", "--namespace", "nowhere"],
        &["runs", "list", "--after", "?"],
        &["runs", "cancel", id],
        &["why", id],
        &["logs", id],
        &["tasks", "show", "nowhere:x"],
        &["schedules", "replay", "--from", "2027-01-02", "--until", "2027-01-01"],
        &["schedules", "replay"],
        &["calendar", "explain", "61 * * * *"],
        &["calendar", "explain", "@daily", "--timezone", "Mars/Olympus"],
        &["events", "--after", "x"],
        &["db", "backup", "good.yaml"],
        &["db", "prune"],
        &["export", "nowhere"],
        &["init", "good.yaml"],
        &["frobnicate"],
        &["runs", "list", "--store", "text.db"],
        &["runs", "list", "--store", "."],
        &["runs", "list", "--log-level", "loud=="],
    ];
    for args in commands {
        show(args, shop.run(args));
    }
    // A folder that may not be written stops root nowhere, so a device stands in for it.
    let args = ["runs", "list", "--store", "/dev/full/ostler.db"];
    show(&args, shop.run(&args));
    let mut secrets = shop.command(&["run", "--command", "true"]);
    let config = shop.path().join(".config/ostler");
    std::fs::create_dir_all(&config).unwrap();
    std::fs::write(config.join("secrets.env"), "A=b\n").unwrap();
    std::fs::set_permissions(config.join("secrets.env"), std::fs::Permissions::from_mode(0o644)).unwrap();
    show(&["run", "--command", "true"], told(secrets.output().unwrap()));
    assert!(cases >= 60, "{cases} cases");
    insta::assert_snapshot!(page);
    assert!(
        shop.json(&["tasks", "list"])["items"].as_array().unwrap().len() <= 2,
        "something half-done was left"
    );
    assert_eq!(shop.run(&["db", "check"]).code, 0);
}

#[test]
fn machine_output_tells_errors_as_a_document() {
    let shop = Shop::new();
    shop.write("a.yaml", "tasks: [{ meta: { id: a }, rum: echo }]");
    let told = shop.run(&["run", "a.yaml", "--output", "json"]);
    let document: serde_json::Value = serde_json::from_str(&told.err).unwrap();
    assert_eq!((told.code, told.out.as_str()), (2, ""));
    assert_eq!(document["error"]["exit_code"], 2);
    assert_eq!(document["error"]["diagnostics"][0]["line"], 1);
}
