//! Crontabs: what is imported is due when the crontab says, and says what the crontab said.
#![allow(clippy::unwrap_used)]

mod support;

use jiff::Timestamp;
use ostler_calendar::{Calendars, Trigger};
use ostler_import::{File, Options, crontab};
use ostler_model::{
    TriggerSpec,
    definition::MissedPolicy,
    trigger::{Dialect, Dst, Rhythm},
};
use support::{golden, load};

const TABLE: &str = include_str!("table.txt");
const ZONE: &str = "Europe/Berlin";

fn options() -> Options {
    Options { timezone: Some(ZONE.into()), ..Options::default() }
}

/// The trigger of the text of a crontab, as it stands there.
fn straight(expression: &str) -> Trigger {
    let spec = TriggerSpec {
        rhythm: Rhythm::Cron { expression: expression.into(), dialect: Dialect::Vixie },
        timezone: Some(ZONE.into()),
        dst: Dst::default(),
        jitter: None,
        offset: None,
        only: vec![],
        except: vec![],
        start: None,
        end: None,
        count: None,
    };
    Trigger::compile(&spec, "UTC", &Calendars::default(), 0).unwrap_or_else(|e| panic!("{expression}: {e}"))
}

fn next_five(trigger: &Trigger, after: &str) -> Vec<Timestamp> {
    let anchor: Timestamp = after.parse().unwrap();
    let mut after = anchor;
    let mut found = Vec::new();
    while found.len() < 5 {
        let Some(due) = trigger.next_after(after, anchor).unwrap() else { break };
        found.push(due.at);
        after = due.nominal;
    }
    found
}

/// What cron reads where Ostler is stricter.
fn as_cron_reads(expression: &str) -> &str {
    match expression {
        "*/60 * * * *" => "0 * * * *",
        "0 */24 * * *" => "0 0 * * *",
        "0 0 * */12 *" => "0 0 * 1 *",
        "-*/10 * * * *" => "*/10 * * * *",
        other => other,
    }
}

#[test]
fn every_line_of_the_table_is_due_when_the_crontab_says() {
    let mut count = 0;
    for line in TABLE.lines().filter(|l| !l.starts_with('#')) {
        let imported =
            crontab(&File::new("table", line), &options()).unwrap_or_else(|e| panic!("{line}: {e}"));
        let timetable = load(&imported);
        let task = &timetable.tasks[0];
        let trigger = ostler_engine::compile_trigger(task, &task.schedules[0], "demo").unwrap();
        count += 1;
        if line.starts_with("@reboot") {
            assert_eq!(task.schedules[0].trigger.rhythm, Rhythm::Reboot);
            continue;
        }
        let fields = if line.starts_with('@') { 1 } else { 5 };
        let expression = line.split_whitespace().take(fields).collect::<Vec<_>>().join(" ");
        let straight = straight(as_cron_reads(&expression));
        // A summer, and the nights in which the clocks are changed.
        for after in ["2026-07-01T10:00:00Z", "2027-03-27T23:30:00Z", "2027-10-30T22:30:00Z"] {
            let (ours, theirs) = (next_five(&trigger, after), next_five(&straight, after));
            assert_eq!(ours, theirs, "{line} after {after}");
            assert_eq!(theirs.len(), 5, "{line}");
        }
        assert_eq!(task.schedules[0].missed.policy, MissedPolicy::Skip, "{line}");
    }
    assert!(count >= 100, "{count} lines");
}

#[test]
fn the_table_as_one_file_has_a_task_with_its_own_id_for_each_line() {
    let imported = crontab(&File::new("table", TABLE), &options()).unwrap();
    let timetable = load(&imported);
    assert_eq!(timetable.tasks.len(), TABLE.lines().filter(|l| !l.starts_with('#')).count());
    let ids: Vec<&str> = timetable.tasks.iter().map(|t| t.id.as_str()).collect();
    for id in
        ["cron.hourly", "sessionclean", "backup", "backup-2", "artisan", "app.jobs", "certbot", "vacuumdb"]
    {
        assert!(ids.contains(&id), "{id} is not in {ids:?}");
    }
}

#[test]
fn commands_come_to_the_shell_as_cron_would_hand_them_over() {
    let text = "\
0 7 * * * mail -s \"Good morning\" root%Dear all,%%it is 100\\% morning.
0 8 * * * echo \"$(date +\\%F)\" '${{ x }}' && true
0 9 * * * cd /srv; false; echo on
";
    let timetable = load(&crontab(&File::new("t", text), &options()).unwrap());
    let step = |i: usize| &timetable.tasks[i].steps[0];
    assert_eq!(step(0).run.as_deref(), Some("mail -s \"Good morning\" root\n"));
    assert_eq!(step(0).stdin.as_deref(), Some("Dear all,\n\nit is 100% morning.\n"));
    assert_eq!(step(1).run.as_deref(), Some("echo \"$(date +%F)\" '$${{ x }}' && true\n"));
    assert_eq!(step(1).stdin, None);
    assert_eq!(step(2).run.as_deref(), Some("set +e\ncd /srv; false; echo on\n"));
}

#[test]
fn a_system_crontab_is_imported_as_a_whole() {
    let text = "\
# /etc/cron.d/site: jobs of the site

SHELL=/bin/bash
PATH = /usr/local/bin:/usr/bin:/bin
MAILTO=\"ops@example.org\"

# m h dom mon dow user command
# Dumps the database
# before the backup begins
30 1 * * * postgres pg_dump app > /srv/dump.sql
# 0 2 * * * root switched off
CRON_TZ=America/New_York
MAILTO=\"\"
RANDOM_DELAY=5
GREETING='hello world'
@daily www-data /srv/site/bin/digest.sh; echo done
";
    let options = Options { system: true, namespace: Some("site".parse().unwrap()), ..options() };
    let imported = crontab(&File::new("site", text), &options).unwrap();
    load(&imported);
    golden("crontab.yaml", &imported.yaml);
    assert_eq!(imported.notes.len(), 4);
    assert_eq!(
        imported.notes[0].to_string(),
        "site:5: cron mails what the commands print to `ops@example.org`; Ostler keeps it as the log of each run: add `on_failure` steps to be told"
    );
}

#[test]
fn every_wrong_line_is_told_with_its_place() {
    let text = "0 0 * * * true\n61 * * * * true\n0 0 30 2 * true\nnonsense\n0 1 * * *\n@dayly true\nCRON_TZ=Europe/Berln\n*/0 * * * * true\n0 0 * * *   %only input\n";
    let error = crontab(&File::new("cron.d/a", text), &options()).unwrap_err();
    assert_eq!(
        error.to_string().lines().collect::<Vec<_>>(),
        [
            "cron.d/a:2: cron `61 * * * *`: `61` is not a minute: 0 to 59",
            "cron.d/a:3: cron `0 0 30 2 *`: it never fires: no February has such a day",
            "cron.d/a:4: `nonsense` is neither a variable nor a schedule: a schedule has 5 fields or begins with `@`, and a command follows",
            "cron.d/a:5: the line has no command",
            "cron.d/a:6: cron `@dayly`: `@dayly` is not an alias; did you mean @daily?",
            "cron.d/a:7: CRON_TZ: `Europe/Berln` is not a time zone; did you mean Europe/Berlin?",
            "cron.d/a:8: cron `*/0 * * * *`: `*/0`: a step of 0 never goes on; write 1 or more",
            "cron.d/a:9: the line has no command",
        ]
    );
    let error = crontab(&File::new("a", b"0 0 * * * true\n\xff".to_vec()), &options()).unwrap_err();
    assert_eq!(error.to_string(), "a:2: the file is not UTF-8 from here on");
    let options = Options { timezone: Some("Mars".into()), ..Options::default() };
    assert!(
        crontab(&File::new("a", ""), &options)
            .unwrap_err()
            .to_string()
            .starts_with("--timezone: `Mars` is not")
    );
}

#[test]
fn a_minute_that_is_drawn_becomes_a_jitter() {
    let imported = crontab(&File::new("a", "10~40 3 * * * true\n"), &options()).unwrap();
    let timetable = load(&imported);
    let trigger = &timetable.tasks[0].schedules[0].trigger;
    assert_eq!(trigger.jitter.map(|s| s.as_secs()), Some(1800));
    assert!(imported.notes.iter().any(|n| n.words.contains("moved by up to 30m")), "{:?}", imported.notes);
}

#[test]
fn variables_that_all_tasks_share_are_said_once() {
    let imported = crontab(&File::new("a", "HOME=/srv\nA=1\n@daily x\n@hourly y\n"), &options()).unwrap();
    assert_eq!(imported.yaml.matches("env:").count(), 1, "{}", imported.yaml);
    let timetable = load(&imported);
    for task in &timetable.tasks {
        assert_eq!(task.steps[0].env["A"], "1");
        assert_eq!(task.steps[0].working_directory.as_deref(), Some("/srv"));
    }
    assert!(imported.notes.is_empty());
}
