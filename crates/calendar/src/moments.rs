//! The moments of an `at` trigger: RFC 3339, or a local date and time.

use jiff::{Timestamp, Zoned, civil};
use ostler_model::trigger::{Dst, Gap};

use crate::{CalendarError, Shift, local::seconds_of, zone::Zone};

/// Reads moments, in microseconds since 1970, in order and each once.
pub(crate) fn parse(texts: &[String], zone: &Zone, dst: Dst) -> Result<Vec<(i64, Shift)>, CalendarError> {
    let mut moments = Vec::new();
    for text in texts {
        let trimmed = text.trim();
        if let Ok(at) = trimmed.parse::<Timestamp>() {
            moments.push((at.as_nanosecond().div_euclid(1_000) as i64, Shift::None));
        } else if let Ok(at) = trimmed.parse::<Zoned>() {
            moments.push((at.timestamp().as_nanosecond().div_euclid(1_000) as i64, Shift::None));
        } else if let Ok(at) = trimmed.parse::<civil::DateTime>() {
            let micros = i64::from(at.subsec_nanosecond()) / 1_000;
            for (second, shift) in zone.resolve(seconds_of(at), dst) {
                // The part of a second of a time that does not exist is gone with it.
                let micros = if shift == Shift::Gap { 0 } else { micros };
                moments.push((second * 1_000_000 + micros, shift));
            }
        } else {
            return Err(CalendarError::Moment {
                text: text.clone(),
                problem: "write `2026-03-01T09:00:00Z`, or a local `2026-03-01 09:00` in the schedule's zone"
                    .into(),
            });
        }
    }
    moments.sort_unstable_by_key(|(at, _)| *at);
    moments.dedup_by_key(|(at, _)| *at);
    if moments.is_empty() {
        let reason = match dst.gap {
            Gap::Skip if !texts.is_empty() => "its local times do not exist, and `gap: skip` drops them",
            _ => "it names no moment",
        };
        return Err(CalendarError::Never { what: "`at`".into(), reason: reason.into() });
    }
    Ok(moments)
}
