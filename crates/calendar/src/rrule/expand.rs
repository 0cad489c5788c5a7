//! The occurrences of a rule in one period after another.

use super::{Freq, Rule};
use crate::local::{DAY, Date, month_length, weekday};

/// Periods of less than a day without an occurrence that are passed over before a rule counts as ended; whole days,
/// hours and minutes that are refused are one.
const EMPTY_PERIODS: u32 = 150_000;

/// Walks the periods of a rule, in either direction.
pub(super) struct Periods<'a> {
    rule: &'a Rule,
    start: i64,
    /// The number of the period that `next_set` expands, and the one after that which `previous_set` does.
    index: i64,
}

/// Times of the day, each list in order.
struct Clock {
    hours: Vec<i64>,
    minutes: Vec<i64>,
    seconds: Vec<i64>,
}

impl<'a> Periods<'a> {
    /// Begins at the period that holds `at`.
    pub(super) fn from(rule: &'a Rule, start: i64, at: i64) -> Self {
        let mut periods = Self { rule, start, index: 0 };
        periods.index = periods.index_of(at.max(start));
        periods
    }

    /// The first local time of the next period to be expanded.
    pub(super) fn begin(&self) -> i64 {
        self.begin_of(self.index)
    }

    /// The first `most` occurrences within bounds of the next period that has any.
    pub(super) fn next_set(&mut self, from: i64, upto: i64, most: usize) -> Option<Vec<i64>> {
        for _ in 0..self.patience() {
            let begin = self.begin();
            if begin > upto.min(253_402_300_799) {
                return None;
            }
            if let Some(skip) = self.skipped_until(begin) {
                self.index = self.index_of(skip - 1).max(self.index) + 1;
                continue;
            }
            self.index += 1;
            let clock = self.clock(begin);
            let times: Vec<i64> = if self.rule.positions.is_empty() {
                self.occurrences(&clock, begin, from, upto).take(most).collect()
            } else {
                let picked = self.picked(&clock, begin).into_iter();
                picked.filter(|time| (from..=upto).contains(time)).take(most).collect()
            };
            if !times.is_empty() {
                return Some(times);
            }
        }
        None
    }

    /// The last occurrence at or before `upto`, in the period at hand or one before it.
    pub(super) fn previous(&mut self, upto: i64) -> Option<i64> {
        for _ in 0..self.patience() {
            if self.index < 0 {
                return None;
            }
            let begin = self.begin();
            if let Some(skip) = self.skipped_since(begin) {
                self.index = self.index_of_raw(skip - 1).min(self.index - 1);
                continue;
            }
            self.index -= 1;
            let clock = self.clock(begin);
            let last = if self.rule.positions.is_empty() {
                self.occurrences(&clock, begin, i64::MIN, upto).next_back()
            } else {
                self.picked(&clock, begin).into_iter().rfind(|time| *time <= upto)
            };
            if last.is_some() {
                return last;
            }
        }
        None
    }

    /// Periods without an occurrence that are passed over before a rule counts as ended. The Gregorian calendar repeats
    /// after 400 years, weekdays included; whatever the interval, a walk comes back to where it was after at most as
    /// many steps as the cycle has periods. The first period may be looked at in part.
    fn patience(&self) -> u32 {
        match self.rule.freq {
            Freq::Yearly => 401,
            Freq::Monthly => 400 * 12 + 1,
            Freq::Weekly => 20_871 + 1,
            Freq::Daily => 146_097 + 1,
            Freq::Hourly | Freq::Minutely | Freq::Secondly => EMPTY_PERIODS,
        }
    }

    fn index_of(&self, at: i64) -> i64 {
        self.index_of_raw(at).max(0)
    }

    /// The number of the period that holds `at`, or of the last before it where the interval leaves it out.
    fn index_of_raw(&self, at: i64) -> i64 {
        let (from, to) = (Date::of_day(self.start.div_euclid(DAY)), Date::of_day(at.div_euclid(DAY)));
        let units = match self.rule.freq {
            Freq::Yearly => to.year - from.year,
            Freq::Monthly => (to.year - from.year) * 12 + i64::from(to.month) - i64::from(from.month),
            _ => (at - self.begin_of(0)).div_euclid(self.unit()),
        };
        units.div_euclid(self.rule.interval)
    }

    fn begin_of(&self, index: i64) -> i64 {
        let day = self.start.div_euclid(DAY);
        let date = Date::of_day(day);
        let units = index * self.rule.interval;
        match self.rule.freq {
            Freq::Yearly => Date { year: date.year + units, month: 1, day: 1 }.days() * DAY,
            Freq::Monthly => Date { day: 1, ..date }.plus_months(units).days() * DAY,
            Freq::Weekly => {
                let into = (weekday(day) + 7 - self.rule.week_start) % 7;
                (day - i64::from(into) + units * 7) * DAY
            }
            _ => self.start - self.start.rem_euclid(self.unit()) + units * self.unit(),
        }
    }

    /// Seconds in a period of a fixed length.
    fn unit(&self) -> i64 {
        match self.rule.freq {
            Freq::Weekly => 7 * DAY,
            Freq::Hourly => 3_600,
            Freq::Minutely => 60,
            Freq::Secondly => 1,
            Freq::Yearly | Freq::Monthly | Freq::Daily => DAY,
        }
    }

    /// For periods shorter than a day: where the day, hour, minute or second that is refused as a whole ends.
    fn skipped_until(&self, begin: i64) -> Option<i64> {
        self.refused_unit(begin).map(|unit| (begin.div_euclid(unit) + 1) * unit)
    }

    /// Where it begins.
    fn skipped_since(&self, begin: i64) -> Option<i64> {
        self.refused_unit(begin).map(|unit| begin.div_euclid(unit) * unit)
    }

    fn refused_unit(&self, begin: i64) -> Option<i64> {
        let rule = self.rule;
        if rule.freq < Freq::Hourly {
            return None;
        }
        let holds = |list: &[u8], value: i64| list.is_empty() || list.contains(&(value as u8));
        if !self.day_matches(begin.div_euclid(DAY)) {
            Some(DAY)
        } else if !holds(&rule.hours, begin.rem_euclid(DAY) / 3_600) {
            Some(3_600)
        } else if rule.freq >= Freq::Minutely && !holds(&rule.minutes, begin.rem_euclid(3_600) / 60) {
            Some(60)
        } else if rule.freq == Freq::Secondly && !holds(&rule.seconds, begin.rem_euclid(60)) {
            Some(1)
        } else {
            None
        }
    }

    /// The occurrences within bounds of the period that begins there, before BYSETPOS picks from them. They are made
    /// one by one: a year of all seconds is not to be held in memory for one of them.
    fn occurrences<'s>(
        &'s self,
        clock: &'s Clock,
        begin: i64,
        from: i64,
        upto: i64,
    ) -> impl DoubleEndedIterator<Item = i64> + 's {
        let day = begin.div_euclid(DAY);
        let date = Date::of_day(day);
        let length = match self.rule.freq {
            Freq::Yearly => Date { year: date.year + 1, ..date }.days() - day,
            Freq::Monthly => i64::from(month_length(date.year, date.month)),
            Freq::Weekly => 7,
            _ => 1,
        };
        let days = day.max(from.div_euclid(DAY))..(day + length).min(upto.div_euclid(DAY).saturating_add(1));
        let touches = move |begin: i64, length: i64| begin <= upto && begin + length > from;
        days.filter(|day| self.day_matches(*day)).flat_map(move |day| {
            let hours = clock.hours.iter().map(move |hour| day * DAY + hour * 3_600);
            hours.filter(move |hour| touches(*hour, 3_600)).flat_map(move |hour| {
                let minutes = clock.minutes.iter().map(move |minute| hour + minute * 60);
                minutes.filter(move |minute| touches(*minute, 60)).flat_map(move |minute| {
                    clock.seconds.iter().map(move |second| minute + second).filter(move |at| touches(*at, 1))
                })
            })
        })
    }

    /// What BYSETPOS picks from the occurrences of the period that begins there.
    fn picked(&self, clock: &Clock, begin: i64) -> Vec<i64> {
        let furthest = |sign: i16| {
            let far =
                self.rule.positions.iter().map(|position| usize::try_from(position * sign).unwrap_or(0));
            far.max().unwrap_or(0)
        };
        let all = || self.occurrences(clock, begin, i64::MIN, i64::MAX);
        let front: Vec<i64> = all().take(furthest(1)).collect();
        let back: Vec<i64> = all().rev().take(furthest(-1)).collect();
        let pick = |position: &i16| {
            let list = if *position > 0 { &front } else { &back };
            list.get(usize::from(position.unsigned_abs()) - 1).copied()
        };
        let mut picked: Vec<i64> = self.rule.positions.iter().filter_map(pick).collect();
        picked.sort_unstable();
        // Two positions may be the same occurrence.
        picked.dedup();
        picked
    }

    /// The hours, minutes and seconds of the period that begins there.
    fn clock(&self, begin: i64) -> Clock {
        let rule = self.rule;
        let list = |list: &[u8]| list.iter().map(|v| i64::from(*v)).collect();
        // Within a period shorter than a day the period itself says the hour (minute, second).
        let part = |given: &[u8], freq: Freq, of: fn(i64) -> i64| match (rule.freq >= freq, given) {
            (true, _) => vec![of(begin)],
            (false, []) => vec![of(self.start)],
            (false, given) => list(given),
        };
        Clock {
            hours: part(&rule.hours, Freq::Hourly, |at| at.rem_euclid(DAY) / 3_600),
            minutes: part(&rule.minutes, Freq::Minutely, |at| at.rem_euclid(3_600) / 60),
            seconds: part(&rule.seconds, Freq::Secondly, |at| at.rem_euclid(60)),
        }
    }

    fn day_matches(&self, day: i64) -> bool {
        let rule = self.rule;
        let date = Date::of_day(day);
        let first = Date::of_day(self.start.div_euclid(DAY));
        // What the rule leaves out is taken from the start.
        let bare = rule.weeks.is_empty()
            && rule.year_days.is_empty()
            && rule.month_days.is_empty()
            && rule.days.is_empty();
        let month = match rule.freq {
            Freq::Yearly if bare && rule.months.is_empty() => date.month == first.month,
            _ => rule.months.is_empty() || rule.months.contains(&date.month),
        };
        month
            && (!bare
                || match rule.freq {
                    Freq::Yearly | Freq::Monthly => date.day == first.day,
                    Freq::Weekly => weekday(day) == weekday(self.start.div_euclid(DAY)),
                    _ => true,
                })
            && (rule.month_days.is_empty() || {
                let length = month_length(date.year, date.month);
                rule.month_days
                    .iter()
                    .any(|d| *d == date.day as i8 || *d == date.day as i8 - length as i8 - 1)
            })
            && (rule.year_days.is_empty() || {
                let new_year = Date { year: date.year, month: 1, day: 1 }.days();
                let next = Date { year: date.year + 1, month: 1, day: 1 }.days();
                rule.year_days
                    .iter()
                    .any(|d| i64::from(*d) == day - new_year + 1 || i64::from(*d) == day - next)
            })
            && (rule.weeks.is_empty() || {
                let (number, weeks) = week_number(day, rule.week_start);
                rule.weeks.iter().any(|w| i64::from(*w) == number || i64::from(*w) == number - weeks - 1)
            })
            && (rule.days.is_empty()
                || rule.days.iter().any(|(nth, wanted)| {
                    *wanted == weekday(day)
                        && (*nth == 0 || self.nth_in_span(day, date).contains(&i64::from(*nth)))
                }))
    }

    /// The number of a day among its weekday's in the month (or year), from the front and from the end.
    fn nth_in_span(&self, day: i64, date: Date) -> [i64; 2] {
        let yearly = self.rule.freq == Freq::Yearly && self.rule.months.is_empty();
        let (begin, end) = if yearly {
            let new_year = Date { year: date.year, month: 1, day: 1 };
            (new_year.days(), Date { year: date.year + 1, ..new_year }.days())
        } else {
            let first = day - i64::from(date.day) + 1;
            (first, first + i64::from(month_length(date.year, date.month)))
        };
        [(day - begin) / 7 + 1, -((end - 1 - day) / 7 + 1)]
    }
}

/// The number of a day's week, and how many its year has; a week belongs to the year that holds most of it.
fn week_number(day: i64, week_start: u8) -> (i64, i64) {
    let first_week = |year: i64| {
        let fourth = Date { year, month: 1, day: 4 }.days();
        fourth - i64::from((weekday(fourth) + 7 - week_start) % 7)
    };
    let year = Date::of_day(day).year;
    let year = if day < first_week(year) {
        year - 1
    } else if day >= first_week(year + 1) {
        year + 1
    } else {
        year
    };
    ((day - first_week(year)) / 7 + 1, (first_week(year + 1) - first_week(year)) / 7)
}
