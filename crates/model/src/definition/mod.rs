//! Definitions: what a task is, in the form that is stored and run.
//!
//! Definition *files* have shorthands, defaults at three levels and places to point errors at; `ostler-timetable`
//! reads them and lowers them to the types here, in which every default is filled in, every duration is a
//! [`Span`](crate::Span) and a sequence of steps has explicit `needs`.

mod message;
mod policy;
mod schedule;
mod sink;
mod step;
mod task;
mod trigger;

pub use message::{ListEnd, MessageSource};
pub use policy::{Backoff, Concurrency, Lost, OnConflict, Policy, Priority, RateLimit, Retry, Timeouts};
pub use schedule::{Missed, MissedPolicy, Overlap, ScheduleDef};
pub use sink::{EVENT_TYPES, Outlet, SinkDef, is_like};
pub use step::{Matrix, StepDef};
pub use task::{Activation, ActivationMode, Expect, PresetDef, Source, TaskDef, Timetable};
pub use trigger::{EventSource, TriggerDef};
