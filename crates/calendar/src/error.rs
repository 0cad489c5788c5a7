//! What is wrong with a trigger or a calendar, in words that say what to write instead.

use std::ops::Range;

/// Why a trigger or calendar cannot be compiled or asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CalendarError {
    /// A cron expression is wrong.
    #[error("cron `{expression}`: {error}")]
    Cron {
        /// The expression as given.
        expression: String,
        /// What is wrong with it, and where.
        error: Box<CronError>,
    },
    /// A time zone has no such name.
    #[error("`{name}` is not a time zone; {hint}")]
    UnknownZone {
        /// The name as given.
        name: String,
        /// What to write.
        hint: String,
    },
    /// An expression names its own zone, and the trigger another.
    #[error("the expression says {own} and `timezone` says {given}; write one of them only")]
    TwoZones {
        /// The zone in the expression.
        own: String,
        /// The zone of the trigger.
        given: String,
    },
    /// A trigger names a calendar that the file does not have.
    #[error("there is no calendar `{name}`{hint}")]
    UnknownCalendar {
        /// The name as given.
        name: String,
        /// What to write.
        hint: String,
    },
    /// An entry of a named calendar is wrong.
    #[error("calendar `{calendar}`: `{text}` {problem}")]
    Entry {
        /// Name of the calendar.
        calendar: String,
        /// The entry as given.
        text: String,
        /// What is wrong with it and what would be right.
        problem: String,
    },
    /// An interval, offset or jitter does not fit.
    #[error("{0}")]
    Interval(String),
    /// A moment of `at` is wrong.
    #[error("`{text}` is not a moment: {problem}")]
    Moment {
        /// The text as given.
        text: String,
        /// What is wrong with it and what would be right.
        problem: String,
    },
    /// A recurrence rule is wrong.
    #[error("recurrence `{part}`: {problem}")]
    Rrule {
        /// The part that is wrong.
        part: String,
        /// What is wrong with it and what would be right.
        problem: String,
    },
    /// A systemd calendar expression is wrong.
    #[error("calendar expression `{expression}`: {problem}")]
    Systemd {
        /// The expression as given.
        expression: String,
        /// What is wrong with it and what would be right.
        problem: String,
    },
    /// It is well formed and there is no such day.
    #[error("{what} never fires: {reason}")]
    Never {
        /// The expression.
        what: String,
        /// Why.
        reason: String,
    },
}

/// Why a text is not a cron expression of its dialect. `at` is the place in the expression, in bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CronError {
    /// Not 5, 6 or 7 fields.
    #[error("it has {found}; write 5 (minute hour day month weekday), 6 (second first) or 7 (year last)")]
    FieldCount {
        /// How many were found, in words.
        found: String,
        /// The whole expression.
        at: Range<usize>,
    },
    /// `@something` unknown.
    #[error("`{alias}` is not an alias; {hint}")]
    UnknownAlias {
        /// The alias as given.
        alias: String,
        /// What to write.
        hint: String,
        /// Where it is.
        at: Range<usize>,
    },
    /// A number outside the field's range.
    #[error("`{value}` is not {noun}: {range}{hint}")]
    OutOfRange {
        /// The number as given.
        value: String,
        /// The field, with its article.
        noun: &'static str,
        /// What is allowed.
        range: String,
        /// What to write, when there is something to say.
        hint: String,
        /// Where it is.
        at: Range<usize>,
    },
    /// A word that is no name in that field.
    #[error("`{value}` is not {noun}; {hint}")]
    UnknownName {
        /// The word as given.
        value: String,
        /// The field, with its article.
        noun: &'static str,
        /// What to write.
        hint: String,
        /// Where it is.
        at: Range<usize>,
    },
    /// A range whose end lies before its start.
    #[error("`{value}` runs backwards; write `{instead}`")]
    Backwards {
        /// The range as given.
        value: String,
        /// The same set as ranges that go forward.
        instead: String,
        /// Where it is.
        at: Range<usize>,
    },
    /// A step of 0, or past the end of its range.
    #[error("`{value}`: {problem}")]
    Step {
        /// The part as given.
        value: String,
        /// What is wrong with it and what would be right.
        problem: String,
        /// Where it is.
        at: Range<usize>,
    },
    /// Anything else that the field does not understand.
    #[error("`{value}` cannot be read as {noun}: {problem}")]
    Unreadable {
        /// The part as given.
        value: String,
        /// The field, with its article.
        noun: &'static str,
        /// What is wrong with it and what would be right.
        problem: String,
        /// Where it is.
        at: Range<usize>,
    },
    /// The expression has a meaning in another dialect only.
    #[error("Unrecognized expression \"{value}\" for field \"{field}\": {hint}")]
    NotInDialect {
        /// The part as given.
        value: String,
        /// APScheduler's name of the field.
        field: &'static str,
        /// What to write.
        hint: String,
        /// Where it is.
        at: Range<usize>,
    },
    /// There is no such day.
    #[error("it never fires: {reason}")]
    Never {
        /// Why.
        reason: String,
        /// The fields that exclude one another.
        at: Range<usize>,
    },
}

impl CronError {
    /// The place in the expression, in bytes: for a caret under it.
    #[must_use]
    pub fn range(&self) -> Range<usize> {
        match self {
            Self::FieldCount { at, .. }
            | Self::UnknownAlias { at, .. }
            | Self::OutOfRange { at, .. }
            | Self::UnknownName { at, .. }
            | Self::Backwards { at, .. }
            | Self::Step { at, .. }
            | Self::Unreadable { at, .. }
            | Self::NotInDialect { at, .. }
            | Self::Never { at, .. } => at.clone(),
        }
    }
}

/// The known word that a misspelt one is nearest to, when it is near enough to be meant.
pub(crate) fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    known
        .map(|k| (strsim::damerau_levenshtein(&word, &k.to_lowercase()), k))
        .filter(|(distance, k)| *distance <= 1 + k.len().min(word.len()) / 4)
        // Of two that are as near, the one that begins alike: `munday` is Monday before it is Sunday.
        .min_by_key(|(distance, k)| {
            (*distance, !k.to_lowercase().starts_with(word.get(..1).unwrap_or("")), k.len())
        })
        .map(|(_, k)| k)
}
