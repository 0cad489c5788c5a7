//! From a wish to run a task to the machine that is made: the one place where runs begin, whoever asks.

use jiff::Timestamp;
use ostler_expr::{Scope, Template};
use ostler_model::{
    Cause, Kind, MachineId, RunState, TypedError,
    definition::{OnConflict, Policy, PresetDef, ScheduleDef, StepDef},
};
use ostler_store::{Concurrency, EventBody, NewMachine, NodeId, OnFull, RateLimit};
use serde_json::{Map, Value, json};

use crate::{
    Task,
    fields::{self, FlowFields, RunFields, ScheduleFields},
    machines::WAIT,
    task::InputError,
    time::micros,
};

/// A wish to run a task.
#[derive(Clone, Debug)]
pub struct Wish<'a> {
    /// Why.
    pub cause: Cause,
    /// Inputs; laid over the preset's.
    pub inputs: Map<String, Value>,
    /// The preset.
    pub preset: Option<&'a PresetDef>,
    /// Laid over the policies of preset and task.
    pub policy: Policy,
    /// When it is due; in the past or now: at once.
    pub due: Timestamp,
    /// Only this node may run it.
    pub home: Option<NodeId>,
    /// Gets a letter when it ends.
    pub watcher: Option<MachineId>,
    /// A repeated wish with the same key is answered with the first one's run.
    pub idempotency_key: Option<String>,
    /// Parts of an earlier run that count as done (rerun from the failed step).
    pub done: std::collections::BTreeMap<String, fields::Part>,
}

impl Wish<'_> {
    /// A wish with nothing but a cause and a moment.
    #[must_use]
    pub fn new(cause: Cause, due: Timestamp) -> Self {
        Self {
            cause,
            inputs: Map::new(),
            preset: None,
            policy: Policy::default(),
            due,
            home: None,
            watcher: None,
            idempotency_key: None,
            done: std::collections::BTreeMap::new(),
        }
    }
}

/// Why a task cannot be started.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum StartError {
    /// The inputs do not meet the schema.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Inputs(Vec<InputError>),
    /// A key template does not evaluate.
    #[error("{0}")]
    Key(String),
}

/// The machine that fulfils a wish. An inactive task, preset or schedule gives a machine that is on record as
/// skipped and never ticks.
///
/// # Errors
/// The inputs or a key are wrong; nothing is recorded then.
pub fn plan(task: &Task, wish: Wish<'_>, now: Timestamp) -> Result<NewMachine, StartError> {
    let mut given = wish.preset.map(|p| p.inputs.clone()).unwrap_or_default();
    given.extend(wish.inputs);
    let inputs = task.check_inputs(&given).map_err(StartError::Inputs)?;
    let laid_over = match wish.preset {
        Some(preset) => wish.policy.over(&preset.policy),
        None => wish.policy,
    };
    let policy = laid_over.over(&task.def.policy);
    let inactive = inactive_because(task, wish.preset, now);

    let key = |place: &str, source: &str| -> Result<String, StartError> {
        let names = Map::from_iter([
            ("inputs".to_owned(), Value::Object(inputs.clone())),
            ("task".to_owned(), json!(task.def.id.as_str())),
        ]);
        Template::parse(source)
            .and_then(|t| t.render_text(&Scope::new(&names)))
            .map_err(|e| StartError::Key(format!("`{place}` of task `{}`: {e}", task.def.id)))
    };
    let own_key = || format!("task:{}", task.def.id);
    let concurrency = match &policy.concurrency {
        None => None,
        Some(c) => Some(Concurrency {
            key: c.key.as_deref().map_or_else(|| Ok(own_key()), |k| key("concurrency.key", k))?,
            limit: c.limit,
            on_full: match c.on_conflict {
                OnConflict::Queue => OnFull::Wait,
                OnConflict::Skip => OnFull::Refuse,
                OnConflict::CancelRunning => OnFull::CancelHolders,
            },
        }),
    };
    let rate = match &policy.rate_limit {
        None => None,
        Some(r) => Some(RateLimit {
            key: r.key.as_deref().map_or_else(|| Ok(own_key()), |k| key("rate_limit.key", k))?,
            interval: r.per.as_micros() / i64::from(r.limit.max(1)),
            burst: r.burst.unwrap_or(r.limit).max(1),
        }),
    };
    let unique_key = policy.unique.as_deref().map(|k| key("unique", k)).transpose()?;

    let run = RunFields {
        due: (policy.deadline.is_some() || policy.timeout.queue.is_some()).then(|| micros(wish.due)),
        cause: Some(wish.cause),
        inputs,
        preset: wish.preset.map(|p| p.id.to_string()),
        policy: (laid_over != Policy::default()).then_some(laid_over),
        reason: inactive.clone(),
        ..RunFields::default()
    };
    let is_flow = task.def.is_flow();
    let fields = if is_flow {
        fields::write(&FlowFields { run, parts: wish.done, ..FlowFields::default() })
    } else {
        fields::write(&run)
    };
    let skipped = inactive.is_some();
    Ok(NewMachine {
        kind: if is_flow { Kind::FLOW.0 } else { Kind::RUN.0 },
        namespace: task.namespace.to_string(),
        task: task.row,
        definition: task.definition,
        fields,
        light: is_flow || task.def.steps[0].uses == WAIT,
        priority: policy.priority.unwrap_or_default().rank(),
        due_at: micros(wish.due),
        state: if skipped { RunState::Skipped.code() } else { 0 },
        watcher: wish.watcher.filter(|_| !skipped),
        home: wish.home,
        // What belongs to a node is carried out there, whatever it has: somebody said so.
        labels: if is_flow || wish.home.is_some() { Vec::new() } else { labels(&task.def.steps[0]) },
        concurrency: concurrency.filter(|_| !skipped),
        rate: rate.filter(|_| !skipped),
        unique_key: unique_key.filter(|_| !skipped),
        idempotency_key: wish.idempotency_key,
        event: EventBody {
            kind: if skipped { "skipped" } else { "created" }.into(),
            body: inactive.map(|reason| json!({ "reason": reason }).to_string()).unwrap_or_default(),
        },
        ..NewMachine::default()
    })
}

/// What a node must have to carry a step out.
pub(crate) fn labels(step: &StepDef) -> Vec<String> {
    if step.uses == WAIT { Vec::new() } else { step.runs_on.iter().map(ToString::to_string).collect() }
}

/// A run that is only a record: it never ticks.
#[must_use]
pub fn record(
    task: &Task,
    state: RunState,
    cause: Cause,
    reason: &str,
    error: Option<TypedError>,
    now: Timestamp,
) -> NewMachine {
    let fields = RunFields {
        cause: Some(cause),
        reason: (state == RunState::Skipped).then(|| reason.to_owned()),
        error,
        ..RunFields::default()
    };
    NewMachine {
        kind: if task.def.is_flow() { Kind::FLOW.0 } else { Kind::RUN.0 },
        namespace: task.namespace.to_string(),
        task: task.row,
        definition: task.definition,
        fields: fields::write(&fields),
        state: state.code(),
        due_at: micros(now),
        event: EventBody::new(state.word(), &json!({ "reason": reason })),
        ..NewMachine::default()
    }
}

/// A schedule of a task that is not one of its definition: it lives until it is cancelled or never due again.
#[must_use]
pub fn plan_schedule(task: &Task, schedule: ScheduleDef, home: Option<NodeId>, now: Timestamp) -> NewMachine {
    let event = EventBody::new("created", &serde_json::Value::Null);
    let fields = ScheduleFields {
        schedule: schedule.id.to_string(),
        own: Some(Box::new(schedule)),
        ..ScheduleFields::default()
    };
    NewMachine {
        kind: Kind::SCHEDULE.0,
        namespace: task.namespace.to_string(),
        task: task.row,
        definition: task.definition,
        fields: fields::write(&fields),
        light: true,
        priority: task.def.policy.priority.unwrap_or_default().rank(),
        due_at: micros(now),
        child_key: Some(fields.schedule),
        home,
        event,
        ..NewMachine::default()
    }
}

/// Why a start now is recorded as skipped, if it is.
#[must_use]
pub fn inactive_because(task: &Task, preset: Option<&PresetDef>, now: Timestamp) -> Option<String> {
    if !task.def.enabled {
        return Some(format!("inactive: task `{}` is disabled", task.def.id));
    }
    if !task.def.activation.is_active(now) {
        return Some(format!("inactive: task `{}` is outside its activation dates", task.def.id));
    }
    preset
        .filter(|p| !p.activation.is_active(now))
        .map(|p| format!("inactive: preset `{}` is outside its activation dates", p.id))
}

/// An error of a start as the error of a run that a schedule could not start.
impl From<StartError> for TypedError {
    fn from(error: StartError) -> Self {
        Self::new("input", error.to_string())
    }
}
