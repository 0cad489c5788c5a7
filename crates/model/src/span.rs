//! Elapsed durations as people write them: `90s`, `10m`, `1h30m`, `250ms`, `PT10M`.

use std::{borrow::Cow, fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An elapsed, non-negative duration with microsecond resolution.
///
/// Written with units (`90s`, `10m`, `1h30m`, `2 days`, `250ms`, ISO 8601 `PT10M`); a bare number is refused, since
/// nobody can see whether it means seconds or minutes. A day is 24 hours and a week seven of them: calendar-aware
/// spans belong to triggers, not to timeouts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Span(Duration);

/// Why a text is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a duration: {reason}; write it with units, as in `90s`, `10m`, `1h30m` or `250ms`")]
pub struct SpanError {
    /// The text as given.
    pub text: String,
    /// What is wrong with it.
    pub reason: String,
}

impl Span {
    /// No time at all.
    pub const ZERO: Self = Self(Duration::ZERO);

    /// A span of whole seconds.
    #[must_use]
    pub const fn from_secs(secs: u64) -> Self {
        Self(Duration::from_secs(secs))
    }

    /// A span of whole milliseconds.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(Duration::from_millis(millis))
    }

    /// The standard library's form.
    #[must_use]
    pub const fn as_duration(self) -> Duration {
        self.0
    }

    /// Whole seconds, rounded down.
    #[must_use]
    pub const fn as_secs(self) -> u64 {
        self.0.as_secs()
    }

    /// Whole microseconds; saturates at `i64::MAX` (292 000 years).
    #[must_use]
    pub fn as_micros(self) -> i64 {
        i64::try_from(self.0.as_micros()).unwrap_or(i64::MAX)
    }

    /// True for the empty span.
    #[must_use]
    pub const fn is_zero(self) -> bool {
        self.0.is_zero()
    }
}

impl From<Duration> for Span {
    fn from(duration: Duration) -> Self {
        Self(duration)
    }
}

impl From<Span> for Duration {
    fn from(span: Span) -> Self {
        span.0
    }
}

/// The units that a span may be written in, with their length in nanoseconds.
const UNITS: &[(&[&str], u128)] = &[
    (&["ns", "nsec", "nanosecond", "nanoseconds"], 1),
    (&["us", "µs", "usec", "microsecond", "microseconds"], 1_000),
    (&["ms", "msec", "millis", "millisecond", "milliseconds"], 1_000_000),
    (&["s", "sec", "secs", "second", "seconds"], 1_000_000_000),
    (&["m", "min", "mins", "minute", "minutes"], 60_000_000_000),
    (&["h", "hr", "hrs", "hour", "hours"], 3_600_000_000_000),
    (&["d", "day", "days"], 86_400_000_000_000),
    (&["w", "wk", "week", "weeks"], 604_800_000_000_000),
];

impl FromStr for Span {
    type Err = SpanError;

    fn from_str(text: &str) -> Result<Self, SpanError> {
        let refuse = |reason: String| SpanError { text: text.to_owned(), reason };
        let body = text.trim();
        if body.is_empty() {
            return Err(refuse("it is empty".into()));
        }
        if body.starts_with('-') {
            return Err(refuse("it is negative".into()));
        }
        if body.starts_with(['P', 'p']) {
            let parsed: jiff::SignedDuration =
                body.parse().map_err(|_| refuse("it is not an ISO 8601 duration".into()))?;
            let span = Duration::try_from(parsed).map_err(|_| refuse("it is negative".into()))?;
            // What is longer would be written in a way that does not read.
            return match u64::try_from(span.as_nanos()) {
                Ok(_) => Ok(Self(span)),
                Err(_) => Err(refuse("it is longer than 584 years".into())),
            };
        }
        let mut total: u128 = 0;
        let mut rest = body;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
            let (number, after) = rest.split_at(digits);
            if number.is_empty() {
                return Err(refuse(format!("a number was expected at `{rest}`")));
            }
            let after = after.trim_start();
            let letters = after.find(|c: char| !c.is_alphabetic()).unwrap_or(after.len());
            let (unit, tail) = after.split_at(letters);
            if unit.is_empty() {
                return Err(refuse(format!("`{number}` has no unit")));
            }
            let scale = UNITS
                .iter()
                .find(|(names, _)| names.contains(&unit))
                .map(|(_, scale)| *scale)
                .ok_or_else(|| refuse(format!("`{unit}` is not a unit of time")))?;
            total = decimal(number, scale)
                .and_then(|part| total.checked_add(part))
                .ok_or_else(|| refuse(format!("`{number}` is not a number that fits")))?;
            rest = tail.trim_start().trim_start_matches(',').trim_start();
        }
        let nanos = u64::try_from(total).map_err(|_| refuse("it is longer than 584 years".into()))?;
        Ok(Self(Duration::from_nanos(nanos)))
    }
}

/// `number` (digits with at most one point) times `scale`, exact down to the nanosecond.
fn decimal(number: &str, scale: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if fraction.contains('.') || fraction.len() > 18 || (whole.is_empty() && fraction.is_empty()) {
        return None;
    }
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let mut total = whole.checked_mul(scale)?;
    if !fraction.is_empty() {
        let digits: u128 = fraction.parse().ok()?;
        total = total.checked_add(digits.checked_mul(scale)? / 10u128.pow(fraction.len() as u32))?;
    }
    Some(total)
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.as_nanos();
        if rest == 0 {
            return f.write_str("0s");
        }
        for (unit, scale) in [
            ("d", 86_400_000_000_000u128),
            ("h", 3_600_000_000_000),
            ("m", 60_000_000_000),
            ("s", 1_000_000_000),
            ("ms", 1_000_000),
            ("us", 1_000),
            ("ns", 1),
        ] {
            let count = rest / scale;
            if count > 0 {
                write!(f, "{count}{unit}")?;
                rest %= scale;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl schemars::JsonSchema for Span {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "description": "A duration with units: 90s, 10m, 1h30m, 250ms or ISO 8601 PT10M.",
            "examples": ["90s", "10m", "1h30m"],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_write() {
        for (text, millis) in [
            ("90s", 90_000),
            ("1h30m", 5_400_000),
            ("1h 30m", 5_400_000),
            ("2 hours, 5 minutes", 7_500_000),
            ("250ms", 250),
            ("0.5s", 500),
            ("1.5h", 5_400_000),
            ("PT10M", 600_000),
            ("1d", 86_400_000),
        ] {
            assert_eq!(text.parse::<Span>(), Ok(Span::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn refuses_what_nobody_can_read() {
        for text in ["", "90", "5 parsecs", "-1s", "1.2.3s", "m5", "P1Y", "99999999999999999999s"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
        insta_like(
            "90",
            "`90` is not a duration: `90` has no unit; write it with units, as in `90s`, `10m`, `1h30m` or `250ms`",
        );
    }

    fn insta_like(text: &str, message: &str) {
        assert_eq!(text.parse::<Span>().unwrap_err().to_string(), message);
    }

    #[test]
    fn its_text_reads_back() {
        for nanos in [0u64, 1, 999, 1_500_000, 61_000_000_000, 90_061_001_001_001] {
            let span = Span(Duration::from_nanos(nanos));
            assert_eq!(span.to_string().parse(), Ok(span));
        }
        assert!("PT18446744073S".parse::<Span>().is_ok());
        assert!("PT18446744074S".parse::<Span>().unwrap_err().reason.contains("584 years"));
    }
}
