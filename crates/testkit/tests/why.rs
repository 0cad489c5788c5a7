//! `why` explains every kind of waiting, skipping, refusing, retrying and ending: one snapshot holds all of its texts,
//! so that whoever changes one reads it.
#![allow(clippy::unwrap_used, reason = "a test fails where a value is missing")]

use std::fmt::Write as _;

use ostler_api::{PageRequest, StartRequest};
use ostler_model::{MachineId, Uid};
use ostler_service::Actor;
use ostler_store::{Command, Hold, NodeId};
use ostler_testkit::{Behaviour, World, ends_well, fails, takes};
use serde_json::json;

/// A world with definitions, and what was asked of it.
struct Stage {
    world: World,
    told: String,
}

impl Stage {
    fn new(tasks: &str) -> Self {
        let mut world = World::new("2027-01-01T00:00:00Z");
        world.push(&format!(
            "meta: {{ type: ostler-timetable, version: 1, namespace: demo, timezone: UTC }}\ntasks:\n{tasks}"
        ));
        Self { world, told: String::new() }
    }

    fn executing(mut self, script: impl FnMut(&str) -> Behaviour + Send + 'static) -> Self {
        let mut script = script;
        self.world.on_execute(move |request| script(&request.task));
        self
    }

    fn start(&mut self, task: &str) -> MachineId {
        self.world.start(&format!("demo:{task}"), json!({}))
    }

    fn tell(&mut self, situation: &str, id: MachineId) {
        let id = self.world.service().uid(id);
        self.tell_of(situation, id);
    }

    fn tell_of(&mut self, situation: &str, id: Uid) {
        let why = self.world.service().why(&Actor::local("test"), id).unwrap();
        writeln!(self.told, "{situation}\n  {} is {}", why.what, why.state).unwrap();
        for sentence in why.because {
            writeln!(self.told, "  - {}", without_ids(&sentence)).unwrap();
        }
        for hint in why.hints {
            writeln!(self.told, "  > {}", without_ids(&hint)).unwrap();
        }
    }

    fn tell_schedule(&mut self, situation: &str, task: &str) {
        let page =
            self.world.service().schedules(&Actor::local("test"), None, &PageRequest::first(50)).unwrap();
        let id = page.items.iter().find(|s| s.task == task).unwrap().id;
        self.tell_of(situation, id);
    }

    fn tell_trigger(&mut self, situation: &str, task: &str) {
        let page =
            self.world.service().triggers(&Actor::local("test"), None, &PageRequest::first(50)).unwrap();
        let id = page.items.iter().find(|t| t.task == task).unwrap().id;
        self.tell_of(situation, id);
    }

    fn newest(&self, task: &str) -> MachineId {
        let runs = self.world.runs();
        let run = runs.iter().rfind(|r| r.task == task).unwrap();
        self.world.service().machine_of(run.id).unwrap()
    }
}

/// Ids differ from run to run.
fn without_ids(text: &str) -> String {
    let is_id = |word: &str| word.len() == 36 && word.bytes().filter(|b| *b == b'-').count() == 4;
    text.split(' ')
        .map(|word| {
            let bare = word.trim_end_matches(',');
            if is_id(bare) { word.replace(bare, "<id>") } else { word.to_owned() }
        })
        .collect::<Vec<_>>()
        .join(" ")
}

fn ends() -> String {
    let mut stage = Stage::new(
        "  - { meta: { id: good }, run: x }
  - { meta: { id: bad }, run: x }
  - { meta: { id: uncovered }, run: x, policy: { retry: { attempts: 3, on: [timeout] } } }
  - { meta: { id: again }, run: x, policy: { retry: { attempts: 2, initial: 10s } } }
  - { meta: { id: short }, run: x, policy: { retry: { attempts: 9, initial: 1h }, timeout: { total: 5m } } }
  - { meta: { id: slow }, run: x, policy: { timeout: 30s } }
  - { meta: { id: late }, run: x, policy: { deadline: 30s } }
  - { meta: { id: expected }, run: x, expect: failed }
  - { meta: { id: unexpected }, run: x, expect: timed_out }
  - { meta: { id: off, enabled: false }, run: x }
  - { meta: { id: later }, run: x, activation: { activate_on: 2028-01-01, mode: by-dates } }
",
    )
    .executing(|task| match task {
        "good" => ends_well(),
        "slow" | "late" => takes("1h"),
        _ => fails("exit:3"),
    });
    let names = ["good", "bad", "uncovered", "again", "short", "slow", "late", "expected", "unexpected"];
    let ids: Vec<_> = names.iter().map(|name| stage.start(name)).collect();
    let inactive = ["off", "later"].map(|name| stage.start(name));
    stage.world.run_for("10m");
    for (situation, id) in [
        "it succeeded",
        "it failed, without retry",
        "it failed in a way that retry does not cover",
        "all attempts are used up",
        "the next attempt would come too late",
        "it took too long",
        "its deadline passed",
        "it failed as expected",
        "it failed otherwise than expected",
    ]
    .iter()
    .zip(ids)
    {
        stage.tell(situation, id);
    }
    stage.tell("its task is disabled", inactive[0]);
    stage.tell("its task is not active yet", inactive[1]);
    stage.told
}

fn waits() -> String {
    let mut stage = Stage::new(
        "  - { meta: { id: one }, run: x, policy: { concurrency: { key: door, limit: 1 } } }
  - { meta: { id: skips }, run: x, policy: { concurrency: { key: gate, limit: 1, on_conflict: skip } } }
  - { meta: { id: rated }, run: x, policy: { rate_limit: { limit: 1, per: 1h } } }
  - { meta: { id: retried }, run: x, policy: { retry: { attempts: 3, initial: 5m } } }
  - { meta: { id: paused }, run: x }
  - { meta: { id: plain }, run: x }
  - { meta: { id: patient }, run: x, policy: { timeout: { queue: 1m }, concurrency: { key: door, limit: 1 } } }
  - { meta: { id: flow }, steps: [{ id: first, run: x, retry: { attempts: 2, initial: 5m } }, { id: then, run: x }] }
",
    )
    .executing(|task| match task {
        "retried" | "flow" => fails("exit:3"),
        "plain" => Behaviour { deaf: true, ..takes("1h") },
        _ => takes("1h"),
    });
    let actor = Actor::local("test");
    let first = stage.start("one");
    let second = stage.start("one");
    let skipper = stage.start("skips");
    stage.world.run_for("1s");
    let skipped = stage.start("skips");
    stage.start("rated");
    let rated = stage.start("rated");
    let retried = stage.start("retried");
    let flow = stage.start("flow");
    stage.world.command(Command::Hold { what: Hold::Task("demo".into(), "paused".into()), on: true });
    let paused = stage.start("paused");
    let plain = stage.start("plain");
    let patient = stage.start("patient");
    let due = stage.world.now().checked_add(jiff::SignedDuration::from_hours(2)).unwrap();
    let request = StartRequest {
        namespace: "demo".into(),
        task: "plain".into(),
        due: Some(due),
        ..StartRequest::default()
    };
    let scheduled = stage.world.service().start(&actor, request).unwrap().id();
    stage.world.run_for("1s");
    stage.tell("it executes", first);
    stage.tell("its concurrency limit is full", second);
    stage.tell("its concurrency limit was full and its task skips then", skipped);
    stage.tell("its rate is used up", rated);
    stage.tell("it waits for its next attempt", retried);
    stage.tell("a flow waits for a step that waits for its next attempt", flow);
    stage.tell("its task is paused", paused);
    stage.tell_of("it is due later", scheduled);
    stage.world.cancel(plain);
    stage.world.cancel(second);
    stage.world.cancel(skipper);
    stage.world.run_for("1s");
    stage.tell("it was asked to end and has not yet", plain);
    stage.tell("it was cancelled before it began", second);
    stage.tell("it was cancelled while it executed", skipper);
    stage.world.command(Command::Hold { what: Hold::Namespace("demo".into()), on: true });
    let held = stage.start("one");
    stage.tell("its namespace is paused", held);
    stage.world.command(Command::Hold { what: Hold::Namespace("demo".into()), on: false });
    stage.world.run_for("1h1m");
    stage.tell("it waited too long for a place", patient);
    stage.told
}

fn turns() -> String {
    let mut stage = Stage::new("  - { meta: { id: main }, run: x }\n").executing(|_| takes("1h"));
    stage.world.push("meta: { type: ostler-timetable, version: 1, namespace: other }\ntasks: [{ meta: { id: main }, run: x }]");
    stage.world.command(Command::Weigh { namespace: "other".into(), weight: 3 });
    for _ in 0..8 {
        stage.start("main");
    }
    stage.world.run_for("1s");
    let waiting = stage.start("main");
    stage.tell("all slots are taken", waiting);
    stage.world.start("other:main", json!({}));
    stage.tell("it waits for its namespace's turn", waiting);
    stage.told
}

fn losses() -> String {
    let mut stage = Stage::new(
        "  - { meta: { id: once }, run: x }
  - { meta: { id: again }, run: x, policy: { lost: rerun } }
  - { meta: { id: deadly }, run: x, policy: { lost: rerun } }
",
    )
    .executing(|_| takes("10m"));
    let (once, again) = (stage.start("once"), stage.start("again"));
    stage.world.run_for("1s");
    stage.world.crash();
    stage.tell("its node has just died", once);
    stage.world.run_for("1s");
    stage.tell("it was lost, and is not repeated", once);
    stage.tell("it was lost, and is repeated", again);
    stage.world.run_until_idle();
    stage.tell("it was lost and then ended well", again);
    let deadly = stage.start("deadly");
    for lost in 1..=4 {
        stage.world.run_for("1s");
        stage.world.crash();
        if lost == 3 {
            stage.world.run_for("1s");
            stage.tell("it is lost again and again", deadly);
        }
    }
    stage.world.run_for("1s");
    stage.tell("it was lost too often", deadly);
    stage.told
}

/// What keeps a run waiting for ever, and who says so.
fn stuck() -> String {
    let mut stage = Stage::new(
        "  - { meta: { id: gpu }, run: x, runs_on: gpu }
  - { meta: { id: late }, run: x, runs_on: gpu, policy: { deadline: 30s, timeout: { queue: 10s } } }
  - { meta: { id: plain }, run: x }
  - { meta: { id: parent }, steps: [{ id: first, run: x, runs_on: gpu }, { id: then, run: x }] }
",
    );
    let gpu = stage.start("gpu");
    let late = stage.start("late");
    let parent = stage.start("parent");
    stage.world.run_for("1m");
    stage.tell("no node has its label", gpu);
    stage.tell("its time is up and nobody gets to it", late);
    stage.tell("a flow waits for a step that no node can take", parent);
    stage.world.set_slots(0);
    stage.world.crash();
    let plain = stage.start("plain");
    stage.world.run_for("1s");
    stage.tell("no node has a slot", plain);
    let node = stage.world.service().nodes(&Actor::local("test")).unwrap()[0].id;
    stage.world.command(Command::Renew { node: NodeId(node), waited: 2_500_000 });
    stage.tell("the store is slow", plain);
    stage.told
}

fn schedules() -> String {
    let mut stage = Stage::new(
        "  - { meta: { id: daily }, run: x, on: { schedule: { cron: '0 7 * * *', timezone: UTC } } }
  - { meta: { id: once }, run: x, on: { schedule: { at: '2027-01-01T00:00:30Z' } } }
  - { meta: { id: queued }, run: x, on: { schedule: { every: 1m, overlap: queue } } }
  - { meta: { id: skipping }, run: x, on: { schedule: { every: 1m, overlap: skip } } }
  - { meta: { id: spaced }, run: x, on: { schedule: { every: 1m, pace: spaced } } }
  - { meta: { id: paused }, run: x, on: { schedule: { every: 1m } } }
  - { meta: { id: off, enabled: false }, run: x, on: { schedule: { every: 1m } } }
  - { meta: { id: missing }, run: x, on: { schedule: { every: 1h } } }
  - { meta: { id: down }, run: x, on: { schedule: { every: 1h, missed: skip } } }
",
    )
    .executing(
        |task| if matches!(task, "queued" | "skipping" | "spaced") { takes("10m") } else { ends_well() },
    );
    stage.tell_schedule("a schedule that was not looked at yet", "daily");
    stage.world.run_for("1s");
    let hold = Hold::Task("demo".into(), "paused".into());
    stage.world.command(Command::Hold { what: hold, on: true });
    stage.world.run_for("4m30s");
    stage.tell_schedule("a schedule waits for its moment", "daily");
    let fired = stage.newest("once");
    stage.tell("a run that a schedule made", fired);
    stage.tell_schedule("a schedule that is never due again", "once");
    stage.tell_schedule("a schedule with a firing that waits", "queued");
    let overlapped = stage.newest("skipping");
    stage.tell("a firing that would have overlapped", overlapped);
    stage.tell_schedule("a spaced schedule waits for its run", "spaced");
    stage.tell_schedule("a schedule of a paused task", "paused");
    stage.tell_schedule("a schedule of a disabled task", "off");
    let day_after = stage.world.now().checked_add(jiff::SignedDuration::from_hours(30)).unwrap();
    stage.world.jump_to(day_after);
    stage.world.run_for("1s");
    let missed = stage.newest("down");
    stage.tell("firings that were missed", missed);
    stage.world.push(
        "meta: { type: ostler-timetable, version: 1, namespace: demo, timezone: UTC }\ntasks: [{ meta: { id: daily }, run: x }]",
    );
    stage.world.run_for("1s");
    stage.tell_schedule("a schedule whose task is missing from its file", "missing");
    stage.told
}

fn triggers() -> String {
    let mut stage = Stage::new(
        "  - { meta: { id: a }, run: x }
  - { meta: { id: after }, on: { run: { task: a, if: event.body.outputs == 3 } }, run: x }
  - { meta: { id: quiet }, on: { run: { task: a, state: any, debounce: 1m } }, run: x }
  - { meta: { id: alarm }, on: { silence: { task: a, after: 2h } }, run: x }
  - { meta: { id: hook }, on: { webhook: { secret: '${{ secrets.KEY }}' } }, run: x }
  - { meta: { id: load }, on: { file: 'in/*.csv' }, run: x }
  - { meta: { id: rest }, on: { run: a }, run: x }
",
    );
    stage.world.run_for("1s");
    stage.world.command(Command::Hold { what: Hold::Task("demo".into(), "rest".into()), on: true });
    stage.start("a");
    stage.world.run_for("1s");
    for (situation, task) in [
        ("a trigger whose condition was false", "after"),
        ("a trigger that waits for quiet", "quiet"),
        ("a trigger that waits for silence", "alarm"),
        ("a webhook", "hook"),
        ("a trigger on files", "load"),
        ("a trigger that is held back", "rest"),
    ] {
        stage.tell_trigger(situation, task);
    }
    stage.world.run_for("3h");
    stage.tell_trigger("silence has lasted too long", "alarm");
    let id = stage.newest("quiet");
    stage.tell("a run that a trigger started", id);
    let id = stage.newest("alarm");
    stage.tell("a run that silence started", id);
    stage.world.push("meta: { type: ostler-timetable, version: 1, namespace: demo }\ntasks:\n  - { meta: { id: hook }, run: x }\n");
    stage.world.run_for("1s");
    stage.tell_trigger("a trigger that its task does not have any more", "hook");
    stage.told
}

fn answers() -> String {
    let mut stage = Stage::new(
        "  - { meta: { id: signal }, uses: wait, with: { signal: paid } }
  - { meta: { id: approval }, uses: wait, with: { approval: Release it? }, policy: { timeout: 1h } }
  - { meta: { id: flow }, steps: [{ id: ok, uses: wait, with: { approval: Is it good? } }] }
",
    );
    let ids = ["signal", "approval", "flow"].map(|task| stage.start(task));
    stage.world.run_for("1m");
    for (situation, id) in ["it waits for a signal", "it waits for an approval", "a flow that waits for one"]
        .into_iter()
        .zip(ids)
    {
        stage.tell(situation, id);
    }
    let uid = stage.world.service().uid(ids[0]);
    let signal = ostler_api::SignalRequest { name: "paid".into(), ..Default::default() };
    stage.world.service().signal(&Actor::local("test"), uid, &signal).unwrap();
    stage.world.run_for("2h");
    stage.tell("the signal came", ids[0]);
    stage.tell("no answer came in time", ids[1]);
    stage.told
}

#[test]
fn why_has_a_text_for_everything() {
    insta::assert_snapshot!(
        [ends(), waits(), turns(), losses(), stuck(), schedules(), triggers(), answers()].join(
            "
"
        )
    );
}

#[test]
fn what_is_not_there_is_said_to_be_not_there() {
    let stage = Stage::new("  - { meta: { id: a }, run: x }\n");
    let nobody: Uid = "01890000-0000-7000-8000-000000000000".parse().unwrap();
    let error = stage.world.service().why(&Actor::local("test"), nobody).unwrap_err();
    let error = ostler_api::ApiError::from(error);
    assert_eq!(error.kind.word(), "not_found", "{error}");
}
