//! The engine: everything durable is a machine that ticks.
//!
//! The engine knows one loop ([`Core`]): claim what is due, tick it, commit the outcome. What a tick does is said by
//! the [`Machine`] of the row's kind: [`machines::Run`], [`machines::Flow`], [`machines::Schedule`]. A tick is pure
//! and returns an [`Outcome`]; executing a step is an effect whose end comes back as an input. [`Node`] is the shell
//! that drives the loop with a real clock, a store's writer and executors.
//!
//! ```
//! use ostler_engine::{Outcome, Change};
//! use ostler_model::RunState;
//! use ostler_store::EventBody;
//! let change = Change::new(Outcome::Stop(RunState::Succeeded), EventBody::default());
//! assert_eq!(change.outcome, Outcome::Stop(RunState::Succeeded));
//! ```

mod call;
mod core;
pub mod fields;
mod machine;
pub mod machines;
mod node;
pub mod start;
mod task;
mod ticker;
pub mod time;

pub use self::{
    core::{Config, Core, Effect, Notice},
    machine::{Change, Decision, Execution, Input, Machine, Outcome, Work, World},
    node::{Node, NodeConfig, NodeHandle, Poll, Shutdown, Sinks},
    task::{InputError, Task, compile_trigger},
    ticker::{Tasks, Ticker, commit},
};
