//! What is to be run: stored where it is not stored yet, with its inputs read; and runs that are queued, or only shown.

use jiff::{SignedDuration, Timestamp};
use ostler_api::{Api, DefinitionsAt, StartRequest, Started, TaskRef};
use serde_json::{Map, Value, json};

use super::{Run, Target, read_inputs};
use crate::{
    commands::Global,
    context,
    error::{CONFLICT, CliError, USAGE},
    output::Output,
};

/// Stores what is to be run, where it is not stored yet, and reads the inputs.
pub(super) fn prepare(
    api: &dyn Api,
    run: &Run,
    target: Target,
) -> Result<(Vec<TaskRef>, Map<String, Value>), CliError> {
    let mut tasks = Vec::new();
    let timetables = match target {
        Target::File(path) => context::load(&path)?.timetables,
        Target::Adhoc(timetable) => vec![*timetable],
        Target::Task(text) => {
            let task = api.resolve_task(&text)?;
            let view = api.task(&task)?;
            let inputs = read_inputs(&run.inputs, view.definition.inputs.as_ref())?;
            return Ok((vec![task], inputs));
        }
    };
    let mut wanted_defs = Vec::new();
    for timetable in &timetables {
        for task in &timetable.tasks {
            let wanted = run.task.as_deref().map_or(task.enabled, |name| task.id == *name);
            if wanted {
                tasks.push(TaskRef::new(timetable.namespace.to_string(), task.id.to_string()));
                wanted_defs.push((timetable.namespace.to_string(), task));
            }
        }
    }
    if let (true, Some(name)) = (tasks.is_empty(), &run.task) {
        let known: Vec<_> = timetables.iter().flat_map(|t| &t.tasks).map(|t| t.id.to_string()).collect();
        let message = format!("the file has no task `{name}`; it has {}", known.join(", "));
        return Err(CliError::new(crate::error::NOT_FOUND, "not_found", message));
    }
    if tasks.len() > 1 && !run.inputs.is_empty() {
        return Err(CliError::usage("inputs go with one task; name it with `--task`"));
    }
    let schema = wanted_defs.last().and_then(|(_, task)| task.inputs.as_ref());
    let inputs = read_inputs(&run.inputs, schema)?;
    // Nothing is stored before everything is known to be right.
    for (namespace, def) in wanted_defs {
        checked(ostler_engine::Task::new(0, 0, &namespace, def.clone()), &inputs)?;
    }
    for timetable in &timetables {
        let at = DefinitionsAt { complete: false, ..DefinitionsAt::of(timetable) };
        api.push(timetable, &at)?;
    }
    Ok((tasks, inputs))
}

pub(super) fn request(run: &Run, task: &TaskRef, inputs: &Map<String, Value>) -> StartRequest {
    StartRequest {
        namespace: task.namespace.clone(),
        task: task.task.clone(),
        preset: run.preset.clone(),
        inputs: inputs.clone(),
        idempotency_key: run.idempotency_key.clone(),
        ..StartRequest::default()
    }
}

/// Queues it and does not wait.
pub(super) fn detach(
    global: &Global,
    run: &Run,
    api: &dyn Api,
    tasks: &[TaskRef],
    inputs: Map<String, Value>,
) -> Result<u8, CliError> {
    let requests = tasks.iter().map(|task| request(run, task, &inputs)).collect();
    let started = api.start_many(requests)?;
    let owner = api.info()?.owner;
    let document = json!({ "started": started, "owner": owner });
    global.output.show(&document, |_| {
        let mut lines: Vec<_> = tasks.iter().zip(&started).map(|(t, s)| format!("{}  {t}", s.id())).collect();
        lines.push(match &owner {
            Some(owner) => format!("queued; {owner} will run it"),
            None => "queued; nobody serves this store now: `ostler serve` will run it".to_owned(),
        });
        lines.join("\n")
    });
    let refused =
        started.iter().any(|s| matches!(s, Started::AlreadyRunning { .. } | Started::Skipped { .. }));
    Ok(if refused { CONFLICT } else { 0 })
}

/// A task with its inputs, defaults filled in, when they are right.
fn checked(
    task: ostler_engine::Task,
    given: &Map<String, Value>,
) -> Result<(ostler_engine::Task, Map<String, Value>), CliError> {
    match task.check_inputs(given) {
        Ok(inputs) => Ok((task, inputs)),
        Err(problems) => {
            let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
            let message = format!("task `{}`: {}", task.def.id, problems.join("; "));
            Err(CliError::new(USAGE, "bad_input", message))
        }
    }
}

/// What would run, with resolved inputs and the next due moments.
pub(super) fn dry_run(global: &Global, run: &Run, target: Target) -> Result<u8, CliError> {
    let definitions: Vec<(String, ostler_model::TaskDef)> = match target {
        Target::File(path) => context::load(&path)?
            .timetables
            .into_iter()
            .flat_map(|t| {
                let namespace = t.namespace.to_string();
                t.tasks.into_iter().map(move |task| (namespace.clone(), task))
            })
            .filter(|(_, t)| run.task.as_deref().map_or(t.enabled, |name| t.id == *name))
            .collect(),
        Target::Adhoc(timetable) => {
            let namespace = timetable.namespace.to_string();
            timetable.tasks.into_iter().map(|t| (namespace.clone(), t)).collect()
        }
        Target::Task(text) => {
            let api = context::api(global)?;
            let view = api.task(&api.resolve_task(&text)?)?;
            vec![(view.namespace, view.definition)]
        }
    };
    let now = context::now();
    let mut plans = Vec::new();
    for (namespace, def) in definitions {
        let given = read_inputs(&run.inputs, def.inputs.as_ref())?;
        let task = ostler_engine::Task::new(0, 0, &namespace, def);
        let (task, inputs) = checked(task, &given)?;
        let until = now.saturating_add(SignedDuration::from_hours(24 * 366)).unwrap_or(Timestamp::MAX);
        let (next, _) = ostler_service::preview(std::slice::from_ref(&task.def), &namespace, now, until, 3)?;
        let steps: Vec<_> = task
            .def
            .steps
            .iter()
            .map(|s| json!({ "id": s.id, "uses": s.uses, "needs": s.needs, "run": s.run, "with": s.with, "env": s.env }))
            .collect();
        plans.push(json!({
            "namespace": namespace, "task": task.def.id, "inputs": inputs, "policy": task.def.policy, "steps": steps, "next": next,
        }));
    }
    global
        .output
        .show(&plans, |plans| plans.iter().map(|p| Output::Yaml.text(p)).collect::<Vec<_>>().join("\n---\n"));
    Ok(0)
}
