//! When things are due: cron, intervals, calendars, RRULE, time zones, and words for them.
