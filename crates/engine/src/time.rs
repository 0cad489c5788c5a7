//! Moments between the store's microseconds and jiff.

use jiff::{SignedDuration, Timestamp};
use ostler_model::Span;
use ostler_store::{Micros, NEVER};

/// A moment as the store writes it.
#[must_use]
pub fn micros(at: Timestamp) -> Micros {
    at.as_microsecond()
}

/// A moment of the store; out of range is the end of time.
#[must_use]
pub fn timestamp(at: Micros) -> Timestamp {
    Timestamp::from_microsecond(at).unwrap_or(Timestamp::MAX)
}

/// A moment later by a span; the end of time when it does not fit.
#[must_use]
pub fn after(at: Timestamp, span: Span) -> Timestamp {
    SignedDuration::try_from(span.as_duration())
        .ok()
        .and_then(|d| at.checked_add(d).ok())
        .unwrap_or(Timestamp::MAX)
}

/// The due moment of something that may never be due.
#[must_use]
pub fn due(until: Option<Timestamp>) -> Micros {
    until.map_or(NEVER, micros)
}
