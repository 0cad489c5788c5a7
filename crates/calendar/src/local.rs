//! Arithmetic on a local clock: seconds since its own 1970-01-01T00:00:00, days, months.
//!
//! A local time is an `i64` here because the search for the next due moment is nothing but comparisons and bit
//! tests; `jiff` comes in where zones do.

use jiff::civil;

/// Seconds in a day of a local clock.
pub(crate) const DAY: i64 = 86_400;

/// A year, month and day of the proleptic Gregorian calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Date {
    pub year: i64,
    pub month: u8,
    pub day: u8,
}

impl Date {
    /// The date `days` after 1970-01-01 (Hinnant, "chrono-compatible low-level date algorithms").
    pub(crate) fn of_day(days: i64) -> Self {
        let z = days + 719_468;
        let era = z.div_euclid(146_097);
        let doe = z.rem_euclid(146_097);
        let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
        let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
        let mp = (5 * doy + 2) / 153;
        let day = (doy - (153 * mp + 2) / 5 + 1) as u8;
        let month = (if mp < 10 { mp + 3 } else { mp - 9 }) as u8;
        Self { year: yoe + era * 400 + i64::from(month <= 2), month, day }
    }

    /// Days after 1970-01-01.
    pub(crate) fn days(self) -> i64 {
        let year = self.year - i64::from(self.month <= 2);
        let era = year.div_euclid(400);
        let yoe = year.rem_euclid(400);
        let mp = (i64::from(self.month) + 9) % 12;
        let doy = (153 * mp + 2) / 5 + i64::from(self.day) - 1;
        era * 146_097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719_468
    }

    /// The same day some months later, cut at that month's end.
    pub(crate) fn plus_months(self, months: i64) -> Self {
        let index = self.year * 12 + i64::from(self.month) - 1 + months;
        let (year, month) = (index.div_euclid(12), (index.rem_euclid(12) + 1) as u8);
        Self { year, month, day: self.day.min(month_length(year, month)) }
    }
}

/// Days in a month.
pub(crate) fn month_length(year: i64, month: u8) -> u8 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// The weekday of a day since 1970-01-01 (a Thursday), 0 is Sunday.
pub(crate) fn weekday(days: i64) -> u8 {
    (days + 4).rem_euclid(7) as u8
}

/// Seconds on the local clock of a date and time.
pub(crate) fn seconds_of(at: civil::DateTime) -> i64 {
    let date =
        Date { year: i64::from(at.year()), month: at.month().unsigned_abs(), day: at.day().unsigned_abs() };
    date.days() * DAY + i64::from(at.hour()) * 3_600 + i64::from(at.minute()) * 60 + i64::from(at.second())
}

/// The date and time of seconds on the local clock, where jiff can write it.
pub(crate) fn civil_of(seconds: i64) -> Option<civil::DateTime> {
    let date = Date::of_day(seconds.div_euclid(DAY));
    let rest = seconds.rem_euclid(DAY);
    civil::DateTime::new(
        i16::try_from(date.year).ok()?,
        date.month as i8,
        date.day as i8,
        (rest / 3_600) as i8,
        (rest / 60 % 60) as i8,
        (rest % 60) as i8,
        0,
    )
    .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_dates_are_one_another() {
        let mut date = Date { year: 1896, month: 1, day: 1 };
        for days in date.days()..(Date { year: 2404, month: 1, day: 1 }).days() {
            assert_eq!(Date::of_day(days), date);
            assert_eq!(date.days(), days);
            let jiff = civil::date(date.year as i16, date.month as i8, date.day as i8);
            assert_eq!(jiff.weekday().to_sunday_zero_offset(), weekday(days) as i8);
            date = if date.day < month_length(date.year, date.month) {
                Date { day: date.day + 1, ..date }
            } else {
                Date { day: 1, ..date }.plus_months(1)
            };
        }
    }
}
