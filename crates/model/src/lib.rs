//! The nouns of Ostler and their schemas; no I/O.
//!
//! Everything durable is a *machine* that ticks ([`machine`]); what machines do is written in *definitions*
//! ([`definition`]), and what happened to them is read as *records*. This crate holds plain data with serde
//! forms: every other crate speaks in these types.
//!
//! ```
//! use ostler_model::Span;
//! let span: Span = "1h30m".parse().unwrap();
//! assert_eq!(span.as_secs(), 5400);
//! assert_eq!(span.to_string(), "1h30m");
//! ```

pub mod definition;
pub mod digest;
pub mod id;
pub mod machine;
pub mod name;
pub mod places;
pub mod span;
pub mod trigger;

pub use definition::TaskDef;
pub use id::{MachineId, Uid};
pub use machine::{Cause, ErrorClass, Kind, RunState, TypedError};
pub use name::{Name, NameError};
pub use span::{Span, SpanError};
pub use trigger::TriggerSpec;
