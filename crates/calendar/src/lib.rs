//! When things are due: cron, intervals, calendars, RRULE, time zones, and words for them.
//!
//! A [`TriggerSpec`](ostler_model::TriggerSpec) is data; [`Trigger::compile`] checks it and makes a [`Trigger`], which
//! answers when it is due next (or was last) and says itself in words. Nothing here reads a clock or keeps state: the
//! caller says what moment it is asked about, so the same question has the same answer on every node and in every
//! simulation.
//!
//! ```
//! use jiff::Timestamp;
//! use ostler_calendar::{Calendars, Trigger};
//! use ostler_model::{TriggerSpec, trigger::{Dialect, Dst, Rhythm}};
//!
//! let spec = TriggerSpec {
//!     rhythm: Rhythm::Cron { expression: "30 2 * * *".into(), dialect: Dialect::Vixie },
//!     timezone: Some("Europe/Berlin".into()),
//!     dst: Dst::default(),
//!     jitter: None,
//!     offset: None,
//!     only: vec![],
//!     except: vec![],
//!     start: None,
//!     end: None,
//!     count: None,
//! };
//! let trigger = Trigger::compile(&spec, "UTC", &Calendars::default(), 0).unwrap();
//! assert_eq!(trigger.describe(), "at 02:30 every day, Europe/Berlin");
//!
//! // On 2027-03-28 there is no 02:30 in Berlin: it is due at the first moment after the gap.
//! let after: Timestamp = "2027-03-27T12:00:00Z".parse().unwrap();
//! let due = trigger.next_after(after, after).unwrap().unwrap();
//! assert_eq!(trigger.local(due.at).to_string(), "2027-03-28T03:00:00+02:00[Europe/Berlin]");
//! ```
//!
//! # Daylight saving time
//!
//! A local time that does not exist is due at the first moment after the gap (`gap: shift`) or not at all (`skip`);
//! several such times are due once. One that comes twice is due the first time (`fold: first`), the second (`last`) or
//! both times. *Interval-like* triggers do not follow these rules but elapsed time: they are due at every moment whose
//! local time matches, so nothing in a gap and twice in a fold. They are cron and systemd expressions whose hour,
//! minute or second is `*` or has a step from one, and recurrences of less than a day without BYHOUR. Moments always
//! come in order, each once.

mod calendars;
mod cron;
mod error;
mod every;
mod local;
mod moments;
mod pattern;
mod rrule;
mod systemd;
mod trigger;
mod words;
mod zone;

pub use calendars::Calendars;
pub use cron::{CronInfo, check_cron, differs_between_dialects};
pub use error::{CalendarError, CronError};
pub use trigger::{Due, Shift, Trigger};
