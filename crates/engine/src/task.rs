//! A task as the engine holds it: its definition with what is worked out once.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
};

use ostler_calendar::{CalendarError, Calendars, Trigger};
use ostler_model::{
    TaskDef,
    definition::{ScheduleDef, StepDef, TriggerDef},
};
use ostler_schema::{Fault, FaultKind, Schema};
use serde_json::{Map, Value};

/// A pinned version of a task, ready to be run.
pub struct Task {
    /// Row of the task.
    pub row: i64,
    /// Row of this version.
    pub definition: i64,
    /// Its namespace.
    pub namespace: Arc<str>,
    /// The definition.
    pub def: TaskDef,
    inputs: Option<Schema>,
    /// Steps that have expressions, by id.
    with_expressions: HashSet<String>,
    triggers: Mutex<HashMap<String, Result<Trigger, String>>>,
}

impl std::fmt::Debug for Task {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Task({}:{} v{})", self.namespace, self.def.id, self.definition)
    }
}

/// One thing that is wrong with inputs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, serde::Serialize, serde::Deserialize)]
#[error("input `{field}`: {problem}")]
pub struct InputError {
    /// Which field, as a dotted path.
    pub field: String,
    /// What is wrong and what would be right.
    pub problem: String,
}

impl Task {
    /// A version of a task.
    #[must_use]
    pub fn new(row: i64, definition: i64, namespace: &str, def: TaskDef) -> Self {
        let inputs = def.inputs.as_ref().and_then(|schema| Schema::compile(schema).ok());
        let steps = def.steps.iter().chain(&def.on_success).chain(&def.on_failure);
        let with_expressions = steps.filter(|s| has_expressions(s)).map(|s| s.id.to_string()).collect();
        let namespace = namespace.into();
        Self { row, definition, namespace, def, inputs, with_expressions, triggers: Mutex::default() }
    }

    /// Inputs with the schema's defaults filled in, checked against it.
    ///
    /// # Errors
    /// Everything that is wrong, not only the first.
    pub fn check_inputs(&self, given: &Map<String, Value>) -> Result<Map<String, Value>, Vec<InputError>> {
        let Some(schema) = &self.def.inputs else {
            return match given.keys().next() {
                None => Ok(Map::new()),
                Some(_) => Err(given
                    .keys()
                    .map(|key| InputError {
                        field: key.clone(),
                        problem: format!("task `{}` takes no inputs", self.def.id),
                    })
                    .collect()),
            };
        };
        let mut inputs = Map::new();
        if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
            for (name, property) in properties {
                match (given.get(name), property.get("default")) {
                    (Some(value), _) => inputs.insert(name.clone(), value.clone()),
                    (None, Some(default)) => inputs.insert(name.clone(), default.clone()),
                    (None, None) => None,
                };
            }
        }
        for (name, value) in given {
            inputs.entry(name.clone()).or_insert_with(|| value.clone());
        }
        let Some(validator) = &self.inputs else { return Ok(inputs) };
        let whole = Value::Object(inputs);
        let problems: Vec<_> = validator.faults(&whole).iter().map(|f| input_error(f, schema)).collect();
        match whole {
            Value::Object(inputs) if problems.is_empty() => Ok(inputs),
            _ => Err(problems),
        }
    }

    /// One of its schedules.
    #[must_use]
    pub fn schedule(&self, id: &str) -> Option<&ScheduleDef> {
        self.def.schedules.iter().find(|s| s.id == *id)
    }

    /// One of its triggers.
    #[must_use]
    pub fn trigger_def(&self, id: &str) -> Option<&TriggerDef> {
        self.def.triggers.iter().find(|t| t.id == *id)
    }

    /// The step that a part of a flow carries out, by its key (`fetch`, `fetch[2]`), handlers included.
    #[must_use]
    pub fn step(&self, key: &str) -> Option<&StepDef> {
        let id = key.split_once('[').map_or(key, |(id, _)| id);
        self.def.steps.iter().chain(&self.def.on_success).chain(&self.def.on_failure).find(|s| s.id == *id)
    }

    /// Whether a step has anything to be worked out for each run.
    pub(crate) fn has_expressions(&self, step: &StepDef) -> bool {
        self.with_expressions.contains(step.id.as_str())
    }

    /// The trigger of a schedule, compiled once.
    ///
    /// # Errors
    /// A text that says why it does not compile (a zone that this machine does not know, say).
    pub fn trigger(&self, schedule: &ScheduleDef) -> Result<Trigger, String> {
        let mut triggers = self.triggers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = triggers.get(schedule.id.as_str()) {
            return known.clone();
        }
        let made = compile_trigger(&self.def, schedule, &self.namespace).map_err(|e| e.to_string());
        triggers.insert(schedule.id.to_string(), made.clone());
        made
    }
}

/// Every text of a step is one that may hold expressions, so any of them counts.
fn has_expressions(step: &StepDef) -> bool {
    serde_json::to_string(step).is_ok_and(|text| text.contains("${{"))
}

/// Compiles the trigger of a schedule with its task's zone and calendars; jitter differs from schedule to schedule.
///
/// # Errors
/// What the calendar says.
pub fn compile_trigger(
    def: &TaskDef,
    schedule: &ScheduleDef,
    namespace: &str,
) -> Result<Trigger, CalendarError> {
    let calendars = Calendars::compile(&def.calendars)?;
    let seed =
        ostler_model::digest::digest(&Value::String(format!("{namespace}/{}/{}", def.id, schedule.id)));
    let seed = u64::from_str_radix(&seed[..16], 16).unwrap_or_default();
    Trigger::compile(&schedule.trigger, &def.timezone, &calendars, seed)
}

fn input_error(fault: &Fault, schema: &Value) -> InputError {
    match &fault.kind {
        FaultKind::Missing(name) => {
            InputError { field: name.clone(), problem: "it is required and was not given".into() }
        }
        FaultKind::Unexpected(name) => {
            let known: Vec<_> = schema
                .get("properties")
                .and_then(Value::as_object)
                .map(|p| p.keys().map(String::as_str).collect())
                .unwrap_or_default();
            InputError {
                field: name.clone(),
                problem: if known.is_empty() {
                    "the task takes no inputs".into()
                } else {
                    format!("the task has no such input; it takes {}", known.join(", "))
                },
            }
        }
        FaultKind::Unfit => {
            let field = fault.pointer.trim_start_matches('/').replace('/', ".");
            let field = if field.is_empty() { "(all)".into() } else { field };
            InputError { field, problem: fault.to_string() }
        }
    }
}
