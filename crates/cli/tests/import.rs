//! `ostler import`, from a file of another scheduler to one that `ostler check` takes.
#![allow(clippy::unwrap_used, reason = "a test fails where a value is missing")]

mod support;

use std::{io::Write, process::Stdio};

use support::{Shop, told};

const CRONTAB: &str = "SHELL=/bin/bash\n# Says hello\n*/5 * * * * www-data /usr/local/bin/hello.sh; echo done\n@reboot root /usr/local/bin/warm-up\n";

#[test]
fn a_crontab_is_written_once_and_passes_check() {
    let shop = Shop::new();
    shop.write("crontab", CRONTAB);
    let args = ["import", "crontab", "crontab", "--system", "--namespace", "site", "--out", "site.yaml"];
    let first = shop.run(&args);
    assert_eq!((first.code, first.out.as_str()), (0, "site.yaml: 2 tasks, 4 notes\n"), "{}", first.err);
    assert!(first.err.contains("note: crontab:3: cron runs it as `www-data`"), "{}", first.err);
    let checked = shop.run(&["check", "site.yaml"]);
    assert_eq!(checked.out, "ok: 1 file with 2 tasks and 2 schedules\n", "{}", checked.err);

    let again = shop.run(&args);
    assert_eq!(again.code, 2);
    assert!(again.err.contains("`site.yaml` is there already"), "{}", again.err);
    assert_eq!(shop.run(&[&args[..], &["--force"]].concat()).code, 0);
}

#[test]
fn standard_input_and_output_do() {
    let shop = Shop::new();
    let mut child = shop
        .command(&["import", "crontab", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"0 5 * * * echo hello\n").unwrap();
    let told = told(child.wait_with_output().unwrap());
    assert_eq!(told.code, 0, "{}", told.err);
    let path = shop.write("a.yaml", &told.out);
    assert_eq!(shop.run(&["check", path.to_str().unwrap()]).code, 0);
}

#[test]
fn a_timer_finds_its_service_beside_it() {
    let shop = Shop::new();
    shop.write("a.timer", "[Timer]\nOnCalendar=daily\nPersistent=true\n");
    let lost = shop.run(&["import", "systemd", "a.timer"]);
    assert_eq!(lost.code, 2);
    assert!(lost.err.contains("a.timer: there is no service `a.service` beside the timer"), "{}", lost.err);
    shop.write("a.service", "[Service]\nExecStart=/bin/true --quiet\n");
    let found = shop.run(&["import", "systemd", "a.timer"]);
    assert_eq!((found.code, found.err.as_str()), (0, ""));
    assert!(found.out.contains("args: [/bin/true, \"--quiet\"]"), "{}", found.out);
}

#[test]
fn what_does_not_parse_is_told_with_its_line() {
    let shop = Shop::new();
    shop.write("crontab", "0 5 * * * true\n61 * * * * true\n");
    let told = shop.run(&["import", "crontab", "crontab"]);
    assert_eq!((told.code, told.out.as_str()), (2, ""));
    assert!(told.err.contains("crontab:2: cron `61 * * * *`: `61` is not a minute: 0 to 59"), "{}", told.err);
    let json = shop.run(&["import", "crontab", "crontab", "--output", "json"]);
    assert_eq!(json.code, 2);
    shop.write("w.yml", "on: push\njobs: { a: { steps: [{ run: make }] } }\n");
    let report = shop.json(&["import", "github", "w.yml"]);
    assert_eq!((&report["tasks"], &report["notes"][0]["line"]), (&1.into(), &1.into()));
    shop.write("d.yaml", "steps: [echo a]\n");
    assert_eq!(shop.run(&["import", "dagu", "d.yaml"]).code, 0);
}

#[test]
fn jobs_of_apscheduler_pass_check() {
    let shop = Shop::new();
    shop.write("config.py", "class Config:\n    JOBS = [{'id': 'a', 'func': 'shop.jobs:a', 'trigger': 'cron', 'day_of_week': 0, 'args': [1]}]\n");
    let told = shop.run(&["import", "apscheduler", "config.py", "--out", "shop.yaml"]);
    assert_eq!((told.code, told.out.as_str()), (0, "shop.yaml: 1 task, 1 note\n"), "{}", told.err);
    let checked = shop.run(&["check", "shop.yaml"]);
    assert_eq!(checked.code, 0, "{}{}", checked.out, checked.err);
    shop.write("none.py", "x = 1\n");
    let none = shop.run(&["import", "apscheduler", "none.py"]);
    assert!(none.code == 2 && none.err.contains("none.py: there are no jobs"), "{}", none.err);
}
