//! The fields of a cron (or systemd) expression as they are written: the form that words are made from.

/// Values from a start to an end in steps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub from: u16,
    pub to: u16,
    pub step: u16,
    /// Written `*` or `*/n`.
    pub star: bool,
    /// Written `a/n`, without an end.
    pub open: bool,
}

/// A part of the day field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DayPart {
    Days(Part),
    /// So many days before the last of the month.
    Last {
        before: u8,
    },
    /// The last Monday to Friday of the month.
    LastWorkday,
    /// The Monday to Friday nearest to a day, in the same month.
    NearestWorkday(u8),
}

/// A part of the weekday field. In a set, bit 0 is Sunday.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum WeekdayPart {
    Days {
        set: u8,
        /// Begins with `*`, or is `?`.
        star: bool,
    },
    Nth {
        set: u8,
        nth: u8,
    },
    Last {
        set: u8,
    },
}

/// All fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fields {
    pub second: Vec<Part>,
    pub minute: Vec<Part>,
    pub hour: Vec<Part>,
    pub day: Vec<DayPart>,
    pub month: Vec<Part>,
    pub weekday: Vec<WeekdayPart>,
    pub year: Vec<Part>,
    /// Day and weekday are alternatives when neither is starred.
    pub either: bool,
    /// How many fields were written.
    pub written: usize,
}

impl Part {
    pub(crate) fn star(from: u16, to: u16) -> Self {
        Self { from, to, step: 1, star: true, open: false }
    }

    pub(crate) fn one(value: u16) -> Self {
        Self::range(value, value)
    }

    pub(crate) fn range(from: u16, to: u16) -> Self {
        Self { from, to, step: 1, star: false, open: false }
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = u16> + use<> {
        (self.from..=self.to).step_by(usize::from(self.step))
    }
}
