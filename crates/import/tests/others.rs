//! A systemd timer, a Dagu file and a GitHub workflow, each against what it should come to.
#![allow(clippy::unwrap_used)]

mod support;

use ostler_import::{File, Options, dagu, github, systemd};
use ostler_model::definition::{MissedPolicy, Overlap};
use support::{golden, load};

fn no_service(_: &File, _: &str) -> Option<File> {
    None
}

#[test]
fn a_timer_with_its_service() {
    let timer = File::new("units/backup.timer", include_str!("golden/backup.timer"));
    let find = |timer: &File, unit: &str| {
        assert_eq!(timer.name, "units/backup.timer");
        (unit == "backup.service")
            .then(|| File::new("units/backup.service", include_str!("golden/backup.service")))
    };
    let imported = systemd(&[timer], &find, &Options::default()).unwrap();
    let task = &load(&imported).tasks[0];
    golden("systemd.yaml", &imported.yaml);
    assert_eq!(task.schedules.len(), 4);
    assert_eq!(task.schedules[0].missed.policy, MissedPolicy::Latest);
    assert!(task.schedules.iter().all(|s| s.overlap == Overlap::Skip));
}

#[test]
fn a_dagu_file() {
    let file = File::new("dags/etl.yaml", include_str!("golden/dagu.input.yaml"));
    let imported = dagu(&[file], &Options::default()).unwrap();
    load(&imported);
    golden("dagu.yaml", &imported.yaml);
}

#[test]
fn a_workflow() {
    let file = File::new(".github/workflows/nightly.yml", include_str!("golden/workflow.yml"));
    let imported = github(&[file], &Options::default()).unwrap();
    load(&imported);
    golden("github.yaml", &imported.yaml);
}

#[test]
fn dagu_steps_without_dependencies_follow_one_another_unless_they_are_a_graph() {
    let needs = |text: &str| {
        let imported = dagu(&[File::new("a.yaml", text)], &Options::default()).unwrap();
        let steps = load(&imported).tasks[0].steps.clone();
        steps
            .iter()
            .map(|s| s.needs.iter().map(ToString::to_string).collect::<Vec<_>>().join(","))
            .collect::<Vec<_>>()
    };
    assert_eq!(needs("steps: [echo a, echo b]"), ["", "step1"]);
    assert_eq!(needs("type: graph\nsteps: [echo a, echo b]"), ["", ""]);
    assert_eq!(needs("steps: [echo a, [echo b, echo c], echo d]"), ["", "step1", "step1", "step2,step3"]);
    assert_eq!(
        needs("steps: { a: { command: x }, b: { command: y, depends: a }, c: { command: z } }"),
        ["", "a", ""]
    );
}

#[test]
fn what_is_wrong_is_told_with_file_and_line() {
    let told = |error: ostler_import::ImportError| error.to_string();
    let options = Options::default();
    let timer = |text: &str| told(systemd(&[File::new("a.timer", text)], &no_service, &options).unwrap_err());
    assert_eq!(
        timer("[Timer]\nOnCalendar=daily\n"),
        "a.timer: there is no service `a.service` beside the timer"
    );
    assert_eq!(
        timer("[Timer]\nnonsense\n"),
        "a.timer:2: this is neither a section nor a setting: write `Key=value`"
    );
    let unit = |timer: &str, service: &'static str| {
        let find = |_: &File, _: &str| Some(File::new("a.service", service));
        told(systemd(&[File::new("a.timer", timer)], &find, &options).unwrap_err())
    };
    assert_eq!(
        unit("[Timer]\n\nOnCalendar=dayly\n", "[Service]\nExecStart=/bin/true\n"),
        "a.timer:3: OnCalendar: calendar expression `dayly`: `dayly` is not known; did you mean daily?"
    );
    assert_eq!(
        unit("[Timer]\nOnCalendar=daily\n", "[Service]\n"),
        "a.service: the service has no `ExecStart`"
    );
    let dag = |text: &str| told(dagu(&[File::new("d.yaml", text)], &options).unwrap_err());
    assert_eq!(
        dag("schedule: '* * *'\nsteps: [echo a]\n").split(": it has").next().unwrap(),
        "d.yaml:1: cron `* * *`"
    );
    assert_eq!(
        dag("steps:\n  - name: a\n    command: x\n    depends: b\n"),
        "d.yaml:4: there is no step `b` to depend on"
    );
    assert_eq!(
        dag("steps:\n  - { name: a, command: x, depends: b }\n  - { name: b, command: x, depends: a }\n"),
        "d.yaml:2: the step `a` depends on itself by way of others"
    );
    let flow = |text: &str| told(github(&[File::new("w.yml", text)], &options).unwrap_err());
    assert_eq!(flow("on: push\n"), "w.yml:1: the workflow has no `jobs`");
    assert_eq!(
        flow("on:\n  schedule:\n    - cron: '61 * * * *'\njobs: {}\n"),
        "w.yml:3: cron `61 * * * *`: `61` is not a minute: 0 to 59"
    );
    assert_eq!(
        flow("jobs:\n  a:\n    needs: b\n    steps: [{ run: x }]\n"),
        "w.yml:2: there is no job `b` that `a` could need"
    );
    assert!(flow("a: [\n").starts_with("w.yml:"));
}

#[test]
fn expressions_of_workflows_stay_what_they_were() {
    let text = "
on: { workflow_dispatch: { inputs: { x: {} } } }
jobs:
  a:
    strategy: { matrix: { m: [1] } }
    env: { A: '$${{ inputs.x }}', B: '${{ ${{ inputs.x }}', C: 'open ${{ end' }
    steps: [{ run: 'echo $${{ matrix.m }} ${{ inputs.x }} ${{ env.A }} ${{ inputs.y }}' }]
";
    let imported = github(&[File::new("w.yml", text)], &Options::default()).unwrap();
    let step = &load(&imported).tasks[0].steps[0];
    assert_eq!(
        step.run.as_deref(),
        Some("echo ${{ '$' }}${{ matrix.m }} ${INPUT_X} ${A} $${{ inputs.y }}\n")
    );
    assert_eq!(step.env["A"], "${{ '$' }}${{ inputs.x }}");
    assert_eq!(step.env["B"], "$${{ $${{ inputs.x }}");
    assert_eq!(step.env["C"], "open $${{ end");
    assert_eq!(step.env["INPUT_X"], "${{ inputs.x }}");
}
