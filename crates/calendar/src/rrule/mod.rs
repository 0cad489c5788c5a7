//! Recurrences of RFC 5545: rules, extra dates and exceptions, as a series of local times.
//!
//! A rule is expanded one period (year, month, week, day, hour, minute, second) at a time; only periods near the
//! asked time are looked at, except with COUNT, which is counted from the start once and kept as an end. Local times
//! that do not exist or come twice follow the trigger's `dst` rule like any other schedule's (RFC 5545 would put a
//! time in a gap an hour later). Where the RFC leaves a combination open it means what python-dateutil says.

mod expand;
mod parse;

use std::sync::{Mutex, PoisonError};

use ostler_model::trigger::Dst;

use crate::{
    CalendarError,
    zone::{Series, Zone},
};

/// `FREQ`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Freq {
    Yearly,
    Monthly,
    Weekly,
    Daily,
    Hourly,
    Minutely,
    Secondly,
}

/// One `RRULE`.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub freq: Freq,
    pub interval: i64,
    pub count: Option<u64>,
    pub until: Option<When>,
    pub seconds: Vec<u8>,
    pub minutes: Vec<u8>,
    pub hours: Vec<u8>,
    /// Weekday (0 is Sunday) with its number in the month or year, 0 for all.
    pub days: Vec<(i8, u8)>,
    pub month_days: Vec<i8>,
    pub year_days: Vec<i16>,
    pub weeks: Vec<i8>,
    pub months: Vec<u8>,
    pub positions: Vec<i16>,
    /// The weekday that begins a week.
    pub week_start: u8,
}

/// A date and time as written: local, or on the clock of a zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct When {
    pub local: i64,
    pub zone: Option<String>,
}

/// A recurrence set.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    start: Option<When>,
    pub rules: Vec<Rule>,
    extra: Vec<When>,
    except: Vec<When>,
    /// For each rule with a COUNT, the start it was last counted from and the last local time.
    ends: Vec<Mutex<Option<(i64, i64)>>>,
}

/// 2000-01-01: a start to try a rule with that has none.
const SOME_START: i64 = 946_684_800;

impl Rules {
    /// Reads `DTSTART`, `RRULE`, `RDATE`, `EXDATE` lines, or a bare rule.
    pub(crate) fn parse(text: &str) -> Result<Self, CalendarError> {
        parse::rules(text)
    }

    /// The first local time, when the text says it.
    pub(crate) fn start(&self) -> Option<i64> {
        self.start.as_ref().map(|start| start.local)
    }

    /// The zone that `DTSTART` names.
    pub(crate) fn zone(&self) -> Option<&str> {
        self.start.as_ref()?.zone.as_deref()
    }

    /// How many extra dates and exceptions it has.
    pub(crate) fn exceptions(&self) -> (usize, usize) {
        (self.extra.len(), self.except.len())
    }

    /// Puts all times on the clock of one zone.
    pub(crate) fn settle(&mut self, zone: &Zone) -> Result<(), CalendarError> {
        let times = self.extra.iter_mut().chain(&mut self.except);
        for when in times.chain(self.rules.iter_mut().filter_map(|rule| rule.until.as_mut())) {
            if let Some(own) = when.zone.take()
                && own != zone.name()
            {
                let moment = Zone::named(&own)?.resolve(when.local, Dst::default());
                if let Some((at, _)) = moment.first() {
                    when.local = zone.local(*at);
                }
            }
        }
        self.extra.sort_unstable_by_key(|when| when.local);
        self.except.sort_unstable_by_key(|when| when.local);
        Ok(())
    }

    /// True when no time satisfies a rule, whenever it starts; an interval may also miss its days for its start alone,
    /// so it is only known with one.
    pub(crate) fn is_never_due(&self) -> bool {
        let open = self.rules.iter().all(|rule| rule.interval == 1 && rule.until.is_none());
        let start = self.start().or_else(|| open.then_some(SOME_START));
        start.is_some_and(|start| self.series(start).at_or_after(start).is_none())
    }

    /// It is an interval within the day, so it follows elapsed time where the local clock jumps.
    pub(crate) fn is_interval_like(&self) -> bool {
        !self.rules.is_empty()
            && self.rules.iter().all(|rule| rule.freq >= Freq::Hourly && rule.hours.is_empty())
    }

    /// The local times, counted from the text's own start, else from `start`.
    pub(crate) fn series(&self, start: i64) -> RuleSeries<'_> {
        RuleSeries { rules: self, start: self.start().unwrap_or(start) }
    }
}

/// A recurrence set with its start.
pub(crate) struct RuleSeries<'a> {
    rules: &'a Rules,
    start: i64,
}

impl RuleSeries<'_> {
    /// The last local time of a rule.
    fn end(&self, index: usize) -> i64 {
        let rule = &self.rules.rules[index];
        if let Some(until) = &rule.until {
            return until.local;
        }
        let Some(count) = rule.count else { return i64::MAX };
        let counted = || {
            let mut last = i64::MIN;
            let mut period = expand::Periods::from(rule, self.start, self.start);
            let mut left = count as usize;
            while left > 0
                && let Some(times) = period.next_set(self.start, i64::MAX, left)
            {
                last = times.last().copied().unwrap_or(last);
                left -= times.len();
            }
            last
        };
        let Some(kept) = self.rules.ends.get(index) else { return counted() };
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        match *kept {
            Some((start, end)) if start == self.start => end,
            _ => kept.insert((self.start, counted())).1,
        }
    }

    fn is_excepted(&self, local: i64) -> bool {
        self.rules.except.binary_search_by_key(&local, |when| when.local).is_ok()
    }

    fn rule_within(&self, index: usize, from: i64, upto: i64) -> Option<i64> {
        let rule = &self.rules.rules[index];
        // The first of all is there whatever the COUNT.
        let upto = if rule.count.is_some() && from <= self.start { upto } else { upto.min(self.end(index)) };
        let from = from.max(self.start);
        expand::Periods::from(rule, self.start, from).next_set(from, upto, 1)?.first().copied()
    }

    /// The first local time of `from..=upto`; nothing later is looked at.
    pub(crate) fn first_within(&self, from: i64, upto: i64) -> Option<i64> {
        let mut from = from;
        loop {
            let extra = &self.rules.extra;
            let extra = extra.get(extra.partition_point(|when| when.local < from)).map(|when| when.local);
            let ruled = (0..self.rules.rules.len()).filter_map(|index| self.rule_within(index, from, upto));
            let first = ruled.chain(extra).min().filter(|first| *first <= upto)?;
            if !self.is_excepted(first) {
                return Some(first);
            }
            from = first + 1;
        }
    }

    fn rule_at_or_before(&self, index: usize, upto: i64) -> Option<i64> {
        let rule = &self.rules.rules[index];
        let upto = upto.min(self.end(index));
        if upto < self.start {
            return None;
        }
        let mut periods = expand::Periods::from(rule, self.start, upto);
        periods.previous(upto).filter(|time| *time >= self.start)
    }
}

impl Series for RuleSeries<'_> {
    fn at_or_after(&self, from: i64) -> Option<i64> {
        self.first_within(from, i64::MAX)
    }

    fn at_or_before(&self, upto: i64) -> Option<i64> {
        let mut upto = upto;
        loop {
            let extra = &self.rules.extra;
            let extra =
                extra.partition_point(|when| when.local <= upto).checked_sub(1).map(|i| extra[i].local);
            let ruled = (0..self.rules.rules.len()).filter_map(|index| self.rule_at_or_before(index, upto));
            let last = ruled.chain(extra).max()?;
            if !self.is_excepted(last) {
                return Some(last);
            }
            upto = last - 1;
        }
    }
}
