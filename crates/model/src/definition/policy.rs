//! How a run is treated: retry, timeouts, priority, limits.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{ErrorClass, Span};

/// How runs of a task are treated. Every part is optional, so that one policy can be laid over another.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// What happens after a failed attempt; without it there is one attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// How long things may take.
    #[serde(default, skip_serializing_if = "Timeouts::is_empty")]
    pub timeout: Timeouts,
    /// A run that has not ended so long after it was due is ended as timed out, whatever it is doing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Span>,
    /// Time between the polite signal and the kill.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace: Option<Span>,
    /// Which of the ready runs of a namespace go first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<Priority>,
    /// How many runs with the same key may run at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<Concurrency>,
    /// How many runs with the same key may start in a period.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimit>,
    /// A template; while a run with the same value lives, another start answers with that run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unique: Option<String>,
    /// The work may be done twice without harm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotent: Option<bool>,
    /// What becomes of an attempt whose node died.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost: Option<Lost>,
}

impl Policy {
    /// This policy, with what it leaves open taken from `lower` (schedule over preset over task).
    #[must_use]
    pub fn over(&self, lower: &Self) -> Self {
        Self {
            retry: self.retry.clone().or_else(|| lower.retry.clone()),
            timeout: Timeouts {
                queue: self.timeout.queue.or(lower.timeout.queue),
                attempt: self.timeout.attempt.or(lower.timeout.attempt),
                total: self.timeout.total.or(lower.timeout.total),
            },
            deadline: self.deadline.or(lower.deadline),
            grace: self.grace.or(lower.grace),
            priority: self.priority.or(lower.priority),
            concurrency: self.concurrency.clone().or_else(|| lower.concurrency.clone()),
            rate_limit: self.rate_limit.clone().or_else(|| lower.rate_limit.clone()),
            unique: self.unique.clone().or_else(|| lower.unique.clone()),
            idempotent: self.idempotent.or(lower.idempotent),
            lost: self.lost.or(lower.lost),
        }
    }
}

/// What happens after a failed attempt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Retry {
    /// Attempts in all, the first one counted.
    pub attempts: u32,
    /// How the waiting time grows.
    #[serde(default)]
    pub backoff: Backoff,
    /// The first waiting time.
    #[serde(default = "Retry::default_initial")]
    pub initial: Span,
    /// The longest waiting time.
    #[serde(default = "Retry::default_max")]
    pub max: Span,
    /// The waiting time is drawn between half of it and all of it.
    #[serde(default)]
    pub jitter: bool,
    /// Only after these errors: classes as in `timeout`, `exit`, `exit:75`, `5xx`, `http`, `python.ValueError`;
    /// empty means after any error that can be retried.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub on: Vec<String>,
}

impl Retry {
    fn default_initial() -> Span {
        Span::from_secs(1)
    }

    fn default_max() -> Span {
        Span::from_secs(300)
    }

    /// Whether an error of this class is one to retry after.
    #[must_use]
    pub fn covers(&self, class: &ErrorClass) -> bool {
        if self.on.is_empty() {
            class.is_transient_by_default()
        } else {
            self.on.iter().any(|p| class.matches(p))
        }
    }

    /// The waiting time after `failed` failed attempts (1 or more), before jitter.
    #[must_use]
    pub fn delay(&self, failed: u32) -> Span {
        let initial = self.initial.as_duration();
        let steps = failed.saturating_sub(1);
        let grown = match self.backoff {
            Backoff::Fixed => initial,
            Backoff::Linear => initial.saturating_mul(steps.saturating_add(1)),
            Backoff::Exponential => initial.saturating_mul(2u32.saturating_pow(steps.min(31))),
        };
        grown.min(self.max.as_duration()).into()
    }
}

/// How waiting times grow from attempt to attempt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Backoff {
    /// Always the initial time.
    Fixed,
    /// The initial time, twice it, three times it.
    Linear,
    /// Doubled each time.
    #[default]
    Exponential,
}

/// How long things may take.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Timeouts {
    /// From being ready to being started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<Span>,
    /// One attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<Span>,
    /// From the first start to the end, retries and waiting included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<Span>,
}

impl Timeouts {
    /// True when nothing is bounded.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Priority classes; strict order inside a namespace.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// Before all others.
    Critical,
    /// Before normal.
    High,
    /// What a task has that says nothing.
    #[default]
    Normal,
    /// When nothing else waits, with a floor of 5 % of the work.
    Low,
}

impl Priority {
    /// The number stored: the smaller goes first.
    #[must_use]
    pub const fn rank(self) -> i64 {
        match self {
            Self::Critical => 0,
            Self::High => 1,
            Self::Normal => 2,
            Self::Low => 3,
        }
    }
}

/// How many runs with the same key may run at a time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Concurrency {
    /// A template over `inputs`; the same text is the same key within the namespace. Default: the task's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// How many.
    #[serde(default = "one")]
    pub limit: u32,
    /// What happens to one too many.
    #[serde(default)]
    pub on_conflict: OnConflict,
}

fn one() -> u32 {
    1
}

/// What happens to a run when as many as allowed run already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnConflict {
    /// It waits its turn.
    #[default]
    Queue,
    /// It is recorded as skipped.
    Skip,
    /// The running ones are cancelled, then it starts.
    CancelRunning,
}

/// How many runs with the same key may start in a period (a token bucket).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    /// A template over `inputs`; the same text is the same bucket within the namespace. Default: the task's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// So many starts
    pub limit: u32,
    /// in so long.
    pub per: Span,
    /// How many may start at once after a pause; default: `limit`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<u32>,
}

/// What becomes of an attempt whose node died or lost its lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Lost {
    /// It is run again, at most three times: effects at least once.
    Rerun,
    /// The run ends as failed with the class `lost`: effects at most once.
    Fail,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearer_policy_wins_part_by_part() {
        let task = Policy {
            timeout: Timeouts {
                attempt: Some(Span::from_secs(30)),
                queue: Some(Span::from_secs(5)),
                total: None,
            },
            priority: Some(Priority::Low),
            ..Policy::default()
        };
        let preset = Policy { priority: Some(Priority::High), ..Policy::default() };
        let schedule = Policy {
            timeout: Timeouts { attempt: Some(Span::from_secs(1)), ..Timeouts::default() },
            ..Policy::default()
        };
        let all = schedule.over(&preset.over(&task));
        assert_eq!(all.timeout.attempt, Some(Span::from_secs(1)));
        assert_eq!(all.timeout.queue, Some(Span::from_secs(5)));
        assert_eq!(all.priority, Some(Priority::High));
    }

    #[test]
    fn delays_grow_as_told_and_stop_at_the_longest() {
        let retry = |backoff| Retry {
            attempts: 9,
            backoff,
            initial: Span::from_secs(2),
            max: Span::from_secs(10),
            jitter: false,
            on: vec![],
        };
        let delays = |backoff| (1..=5).map(|n| retry(backoff).delay(n).as_secs()).collect::<Vec<_>>();
        assert_eq!(delays(Backoff::Fixed), [2, 2, 2, 2, 2]);
        assert_eq!(delays(Backoff::Linear), [2, 4, 6, 8, 10]);
        assert_eq!(delays(Backoff::Exponential), [2, 4, 8, 10, 10]);
        assert_eq!(retry(Backoff::Exponential).delay(u32::MAX).as_secs(), 10);
    }
}
