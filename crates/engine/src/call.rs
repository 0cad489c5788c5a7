//! From a step and what is known to the call that an executor gets.

use std::collections::BTreeMap;

use jiff::Timestamp;
use ostler_execution::ExecRequest;
use ostler_expr::{Scope, Status, Template, render_json};
use ostler_model::{Cause, MachineId, TypedError, Uid, definition::StepDef};
use serde_json::{Map, Value, json};

use crate::Task;

/// What expressions of a step may see, besides `secrets`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    /// The names: `inputs`, `steps`, `matrix`, `run`, `event`, `env`.
    pub(crate) names: Map<String, Value>,
    /// What `success()`, `failure()` and `cancelled()` say.
    pub(crate) failed: bool,
    /// Someone cancelled the flow.
    pub(crate) cancelled: bool,
}

impl Known {
    /// The names every step of a run sees.
    #[must_use]
    pub(crate) fn of_run(
        task: &Task,
        id: MachineId,
        salt: u64,
        inputs: &Map<String, Value>,
        cause: Option<&Cause>,
    ) -> Self {
        let mut run = json!({
            "id": Uid::of(id, salt).to_string(),
            "task": task.def.id.as_str(),
            "namespace": &*task.namespace,
        });
        let mut names = Map::new();
        match cause {
            Some(Cause::Schedule { schedule, due }) => {
                run["schedule"] = json!(schedule);
                run["due"] = json!(due.to_string());
            }
            Some(Cause::Actor { actor }) => run["actor"] = json!(actor),
            Some(Cause::Event { trigger, name, body }) => {
                run["trigger"] = json!(trigger);
                names.insert("event".into(), json!({ "name": name, "body": body }));
            }
            _ => {}
        }
        names.insert("inputs".into(), Value::Object(inputs.clone()));
        names.insert("run".into(), run);
        Self { names, ..Self::default() }
    }

    /// No more than the inputs, for a step without expressions.
    #[must_use]
    pub(crate) fn inputs(inputs: &Map<String, Value>) -> Self {
        let names = Map::from_iter([("inputs".to_owned(), Value::Object(inputs.clone()))]);
        Self { names, ..Self::default() }
    }

    /// The scope that expressions are evaluated in.
    #[must_use]
    pub(crate) fn scope(&self) -> Scope<'_> {
        Scope::new(&self.names).with_status(Status { failed: self.failed, cancelled: self.cancelled })
    }
}

/// The call of a step, every expression worked out except secrets, which stay handles.
///
/// # Errors
/// Of class `expression`, naming the field.
pub(crate) fn build(
    task: &Task,
    step: &StepDef,
    key: &str,
    mut known: Known,
) -> Result<ExecRequest, TypedError> {
    let fail = |place: &str, e: &dyn std::fmt::Display| {
        TypedError::new("expression", format!("step `{}`, `{place}`: {e}", step.id))
    };
    let text = |known: &Known, place: &str, source: &str| -> Result<String, TypedError> {
        let template = Template::parse(source).map_err(|e| fail(place, &e))?;
        template.render_text(&known.scope()).map_err(|e| fail(place, &e))
    };
    let mut env = BTreeMap::new();
    for (name, source) in &step.env {
        env.insert(name.clone(), text(&known, &format!("env.{name}"), source)?);
    }
    if task.has_expressions(step) {
        known.names.insert("env".into(), json!(env));
    }
    let map =
        |known: &Known, place: &str, map: &Map<String, Value>| -> Result<Map<String, Value>, TypedError> {
            if map.is_empty() {
                return Ok(Map::new());
            }
            match render_json(&Value::Object(map.clone()), &known.scope()).map_err(|e| fail(place, &e))? {
                Value::Object(map) => Ok(map),
                _ => Ok(Map::new()),
            }
        };
    let args = if step.args.is_empty() {
        Vec::new()
    } else {
        match render_json(&Value::Array(step.args.clone()), &known.scope()).map_err(|e| fail("args", &e))? {
            Value::Array(args) => args,
            _ => Vec::new(),
        }
    };
    let working_directory = match &step.working_directory {
        Some(source) => Some(text(&known, "working_directory", source)?),
        None => None,
    };
    Ok(ExecRequest {
        namespace: task.namespace.to_string(),
        task: task.def.id.to_string(),
        step: key.to_owned(),
        uses: step.uses.clone(),
        run_text: step.run.as_ref().map(|source| text(&known, "run", source)).transpose()?,
        args,
        kwargs: map(&known, "kwargs", &step.kwargs)?,
        with: map(&known, "with", &step.with)?,
        inputs: known.names.get("inputs").cloned().unwrap_or_default(),
        env,
        env_file: step.env_file.clone(),
        inherit_env: step.inherit_env.clone(),
        working_directory: resolve_folder(task.def.source.folder.as_deref(), working_directory),
        stdin: step.stdin.as_ref().map(|source| text(&known, "stdin", source)).transpose()?,
        grace: task.def.policy.grace.map(Into::into).unwrap_or_default(),
        output_schema: step.outputs.clone(),
        ..ExecRequest::default()
    })
}

/// The absolute working directory: the step's, relative to the folder of the file (decision 20).
fn resolve_folder(folder: Option<&str>, of_step: Option<String>) -> Option<String> {
    match (folder, of_step) {
        (Some(folder), Some(step)) => {
            Some(std::path::Path::new(folder).join(step).to_string_lossy().into_owned())
        }
        (folder, step) => step.or_else(|| folder.map(str::to_owned)),
    }
}

/// The part of a call that differs from attempt to attempt.
pub(crate) fn stamp(
    request: &mut ExecRequest,
    id: MachineId,
    root: MachineId,
    salt: u64,
    attempt: u32,
    fence: u64,
) {
    request.machine = id;
    request.run = Some(Uid::of(id, salt));
    request.attempt = attempt;
    request.fence = fence;
    // Decision 2: (run, step, call index); neither attempt nor fence, so that retries and takeovers repeat it.
    request.idempotency_key = format!("{}/{}/0", Uid::of(root, salt), request.step);
}

/// A deadline counted from a moment.
#[must_use]
pub(crate) fn earliest(stops: impl IntoIterator<Item = Option<Timestamp>>) -> Option<Timestamp> {
    stops.into_iter().flatten().min()
}
