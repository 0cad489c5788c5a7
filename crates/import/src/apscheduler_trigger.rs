//! APScheduler's triggers: `cron`, `interval`, `date`, and several of them joined by `OrTrigger`.
//!
//! Cron fields follow APScheduler: 0 is Monday, a day and a weekday must both match, and fields that are finer than the
//! finest one given stand at their first value (`hour=3` is 03:00:00, not every second of that hour).

use std::collections::BTreeMap;

use jiff::{Timestamp, civil};
use ostler_calendar::{check_cron, differs_between_dialects};
use ostler_model::trigger::Dialect;
use serde_json::json;

use crate::{
    File, ImportError,
    dagu::span,
    document::{Entries, Notes, put, zone_error},
    python::{Arguments, Kind, Node},
};

/// Cron's fields from coarse to fine, with their values where a coarser one is the finest given.
const FIELDS: [(&str, &str); 8] = [
    ("year", "*"),
    ("month", "1"),
    ("day", "1"),
    ("week", "*"),
    ("day_of_week", "*"),
    ("hour", "0"),
    ("minute", "0"),
    ("second", "0"),
];

/// Seconds of the parts of an interval.
const INTERVAL: [(&str, f64); 5] =
    [("weeks", 604_800.0), ("days", 86_400.0), ("hours", 3600.0), ("minutes", 60.0), ("seconds", 1.0)];

/// Positions of weekdays within a month.
const POSITIONS: [(&str, &str); 6] =
    [("1st", "#1"), ("2nd", "#2"), ("3rd", "#3"), ("4th", "#4"), ("5th", "#5"), ("last", "#L")];

/// When a job runs.
pub(crate) struct Times {
    /// What the schedule says.
    pub(crate) entries: Entries,
    /// It runs when the scheduler starts.
    pub(crate) at_start: bool,
    /// All of the trigger is in it; else it must not fire.
    pub(crate) whole: bool,
}

/// Where a trigger stands, and what it is read with.
struct Reader<'a> {
    file: &'a File,
    zone: Option<&'a str>,
    notes: &'a mut Notes,
}

type Given = BTreeMap<String, Node>;

/// Takes the trigger of a job out of its fields.
pub(crate) fn times(
    file: &File,
    line: u32,
    fields: &mut Given,
    zone: Option<&str>,
    notes: &mut Notes,
) -> Result<Vec<Times>, ImportError> {
    let mut reader = Reader { file, zone, notes };
    match fields.remove("trigger") {
        None | Some(Node { kind: Kind::Null, .. }) => reader.by_name("date", line, fields).map(|t| vec![t]),
        Some(Node { kind: Kind::Text(name), line }) => reader.by_name(&name, line, fields).map(|t| vec![t]),
        // `{'type': 'cron', 'hour': 3}`, as older versions had it.
        Some(Node { kind: Kind::Map(entries), line }) => {
            let mut given: Given = entries.into_iter().collect();
            let name = given.remove("type").and_then(|node| node.text().map(str::to_owned));
            let times = reader.by_name(name.as_deref().unwrap_or("date"), line, &mut given)?;
            reader.rest(given);
            Ok(vec![times])
        }
        Some(node) => reader.made(node, 0),
    }
}

impl Reader<'_> {
    fn error(&self, line: u32, words: impl Into<String>) -> ImportError {
        ImportError::at(&self.file.name, line, words)
    }

    /// Notes what a trigger has beyond what is known of it.
    fn rest(&mut self, given: Given) {
        for (key, node) in given {
            self.notes.add(node.line, format!("`{key}` of the trigger is not carried over"));
        }
    }

    fn by_name(&mut self, name: &str, line: u32, given: &mut Given) -> Result<Times, ImportError> {
        let mut times = Times { entries: Entries::new(), at_start: false, whole: true };
        let own = match given.remove("timezone").filter(|node| node.kind != Kind::Null) {
            None => self.zone.map(str::to_owned),
            Some(node) => match zone(&node) {
                Some(zone) => match zone_error(&zone) {
                    Some(error) => return Err(self.error(node.line, format!("timezone: {error}"))),
                    None => Some(zone),
                },
                None => {
                    self.off(&mut times, node.line, "`timezone`");
                    None
                }
            },
        };
        match name {
            "cron" => self.cron(line, given, &mut times)?,
            "interval" => self.interval(line, given, &mut times)?,
            "date" => self.date(line, given, &mut times)?,
            other => {
                return Err(self.error(
                    line,
                    format!("the trigger `{other}` is not known: it is cron, interval or date"),
                ));
            }
        }
        for (key, to) in [("start_date", "start"), ("end_date", "end")] {
            if let Some(moment) = self.moment(key, given, &mut times)? {
                put(&mut times.entries, to, moment);
            }
        }
        put(&mut times.entries, "timezone", own.filter(|_| !times.at_start));
        if let Some(node) = given.remove("jitter").filter(|node| node.kind != Kind::Null) {
            match seconds(&node).and_then(span) {
                Some(jitter) => put(&mut times.entries, "jitter", jitter.to_string()),
                None => self.notes.add(node.line, "`jitter` is no number of seconds here and is left out"),
            }
        }
        Ok(times)
    }

    /// Says that a part is code, and keeps the schedule from firing.
    fn off(&mut self, times: &mut Times, line: u32, what: &str) {
        times.whole = false;
        self.notes.add(line, format!("{what} is worked out when the program runs: the schedule is switched off (`enabled: false`) until it stands in it"));
    }

    fn cron(&mut self, line: u32, given: &mut Given, times: &mut Times) -> Result<(), ImportError> {
        let mut values: Vec<String> = Vec::new();
        let finest =
            FIELDS.iter().rposition(|(name, _)| given.get(*name).is_some_and(|n| n.kind != Kind::Null));
        for (at, (name, otherwise)) in FIELDS.iter().enumerate() {
            let value = match given.remove(*name) {
                None | Some(Node { kind: Kind::Null, .. }) => None,
                Some(Node { kind: Kind::Number(number), .. }) => Some(number.to_string()),
                Some(Node { kind: Kind::Text(text), .. }) => Some(text),
                Some(node) => {
                    self.off(times, node.line, &format!("`{name}`"));
                    None
                }
            };
            let default = if finest.is_some_and(|finest| at > finest) { otherwise } else { "*" };
            let value = value.unwrap_or_else(|| default.to_owned());
            values.push(value.split(',').map(str::trim).collect::<Vec<_>>().join(","));
        }
        let [year, month, day, week, weekday, hour, minute, second] = values.as_slice() else {
            return Ok(());
        };
        if week != "*" {
            times.whole = false;
            self.notes.add(line, format!("`week={week}` (ISO weeks) is not carried over: the schedule is switched off (`enabled: false`)"));
        }
        let (day, weekday, positions) = match positions(day) {
            None => (day.clone(), weekday.clone(), false),
            Some(_) if weekday != "*" => {
                times.whole = false;
                self.notes.add(line, format!("`day={day}` together with `day_of_week={weekday}` cannot be said here: the schedule is switched off (`enabled: false`)"));
                ("*".to_owned(), weekday.clone(), false)
            }
            Some((day, weekdays)) => (day, weekdays, true),
        };
        let ends = if year == "*" { String::new() } else { format!(" {year}") };
        let begins = if second == "0" && ends.is_empty() { String::new() } else { format!("{second} ") };
        let expression = format!("{begins}{minute} {hour} {day} {month} {weekday}{ends}");
        // The position of a weekday is an alternative to a day, as crontab(5) has it; all else is as APScheduler has it.
        let dialect = if positions { Dialect::Vixie } else { Dialect::Supertask };
        check_cron(&expression, dialect)
            .map_err(|e| self.error(line, format!("cron `{expression}`: {e}")))?;
        let differs = !positions && differs_between_dialects(&expression);
        times.entries.insert("cron".into(), expression.into());
        put(&mut times.entries, "dialect", differs.then_some("supertask"));
        Ok(())
    }

    fn interval(&mut self, line: u32, given: &mut Given, times: &mut Times) -> Result<(), ImportError> {
        let mut total = 0.0;
        for (name, length) in INTERVAL {
            let Some(node) = given.remove(name) else { continue };
            match seconds(&node) {
                Some(number) => total += number * length,
                None => self.off(times, node.line, &format!("`{name}`")),
            }
        }
        // Nothing is a second, as APScheduler has it.
        let total = if total == 0.0 { 1.0 } else { total };
        let every = span(total)
            .ok_or_else(|| self.error(line, format!("an interval of {total} s is not possible")))?;
        times.entries.insert("every".into(), every.to_string().into());
        Ok(())
    }

    fn date(&mut self, line: u32, given: &mut Given, times: &mut Times) -> Result<(), ImportError> {
        let is_given = given.contains_key("run_date");
        match self.moment("run_date", given, times)? {
            Some(moment) => put(&mut times.entries, "at", json!([moment])),
            None => {
                if !is_given {
                    self.notes.add(
                        line,
                        "the job runs once when it is added; here each time an `ostler serve` starts",
                    );
                }
                times.at_start = true;
                times.entries.insert("reboot".into(), true.into());
            }
        }
        Ok(())
    }

    /// A moment as definition files write it.
    fn moment(
        &mut self,
        key: &str,
        given: &mut Given,
        times: &mut Times,
    ) -> Result<Option<String>, ImportError> {
        let Some(node) = given.remove(key) else { return Ok(None) };
        let text = match &node.kind {
            Kind::Null => return Ok(None),
            Kind::Text(text) => text.trim().to_owned(),
            Kind::Call(name, given) if name == "date" || name.rsplit('.').next() == Some("datetime") => {
                match local_time(given) {
                    Some(text) => text,
                    None => {
                        self.off(times, node.line, &format!("`{key}`"));
                        return Ok(None);
                    }
                }
            }
            _ => {
                self.off(times, node.line, &format!("`{key}`"));
                return Ok(None);
            }
        };
        let text = text.replacen(' ', "T", 1);
        if text.parse::<Timestamp>().is_ok() {
            return Ok(Some(text));
        }
        let local = text.parse::<civil::DateTime>().or_else(|_| text.parse::<civil::Date>().map(Into::into));
        local.map(|local| Some(local.to_string())).map_err(|_| {
            self.error(node.line, format!("`{key}`: `{text}` is not a moment: write `2027-03-01 09:00:00`"))
        })
    }

    /// A trigger that is made by a call.
    fn made(&mut self, node: Node, depth: usize) -> Result<Vec<Times>, ImportError> {
        let line = node.line;
        let off = |reader: &mut Self, what: &str| {
            reader.notes.add(
                line,
                format!("the trigger `{what}` is not carried over: write its times, and `enabled: true`"),
            );
            let entries = Entries::from_iter([("reboot".to_owned(), true.into())]);
            Ok(vec![Times { entries, at_start: true, whole: false }])
        };
        let (name, given) = match node.kind {
            Kind::Call(name, given) => (name, given),
            Kind::Code(code) => return off(self, &code),
            _ => {
                return Err(self.error(
                    line,
                    "the trigger is neither a name nor a trigger: it is cron, interval or date",
                ));
            }
        };
        if given.spread {
            return off(self, &name);
        }
        let parts: Vec<&str> = name.rsplit('.').collect();
        let named = |names: &[&str]| -> Given {
            let plain = names.iter().map(|n| (*n).to_owned()).zip(given.plain.iter().cloned());
            plain.chain(given.named.iter().cloned()).collect()
        };
        let (kind, mut fields) = match parts.as_slice() {
            ["from_crontab", "CronTrigger", ..] => {
                let mut fields = named(&["expr", "timezone"]);
                let text =
                    fields.remove("expr").and_then(|n| n.text().map(str::to_owned)).unwrap_or_default();
                let written: Vec<&str> = text.split_whitespace().collect();
                let [minute, hour, day, month, weekday] = written.as_slice() else {
                    return Err(self.error(line, format!("`{text}` has not the five fields of a crontab")));
                };
                for (key, value) in [
                    ("minute", minute),
                    ("hour", hour),
                    ("day", day),
                    ("month", month),
                    ("day_of_week", weekday),
                ] {
                    fields.insert(key.to_owned(), Node { kind: Kind::Text((*value).to_owned()), line });
                }
                ("cron", fields)
            }
            ["CronTrigger", ..] => (
                "cron",
                named(&[
                    "year",
                    "month",
                    "day",
                    "week",
                    "day_of_week",
                    "hour",
                    "minute",
                    "second",
                    "start_date",
                    "end_date",
                    "timezone",
                    "jitter",
                ]),
            ),
            ["IntervalTrigger", ..] => (
                "interval",
                named(&[
                    "weeks",
                    "days",
                    "hours",
                    "minutes",
                    "seconds",
                    "start_date",
                    "end_date",
                    "timezone",
                    "jitter",
                ]),
            ),
            ["DateTrigger", ..] => ("date", named(&["run_date", "timezone"])),
            ["OrTrigger", ..] if depth < 8 => {
                let mut all = Vec::new();
                if let Some(Node { kind: Kind::List(items), .. }) = named(&["triggers"]).remove("triggers") {
                    for item in items {
                        all.extend(self.made(item, depth + 1)?);
                    }
                }
                return if all.is_empty() { off(self, &name) } else { Ok(all) };
            }
            _ => return off(self, &name),
        };
        let times = self.by_name(kind, line, &mut fields)?;
        self.rest(fields);
        Ok(vec![times])
    }
}

/// Positions of weekdays in a `day` field (`1st mon`): what is left of the days, and the weekdays. None when there is no
/// position, or a star beside one, which crontab(5) would take for "and".
fn positions(day: &str) -> Option<(String, String)> {
    let (mut days, mut weekdays) = (Vec::new(), Vec::new());
    for part in day.split(',') {
        let mut words = part.split_whitespace();
        let position =
            words.next().and_then(|word| POSITIONS.iter().find(|(name, _)| word.eq_ignore_ascii_case(name)));
        match (position, words.next(), words.next()) {
            (Some((_, sign)), Some(weekday), None) => weekdays.push(format!("{weekday}{sign}")),
            _ if part.eq_ignore_ascii_case("last") => days.push("L".to_owned()),
            _ => days.push(part.to_owned()),
        }
    }
    let is_said = !weekdays.is_empty() && !days.iter().any(|day| day.starts_with('*'));
    is_said.then(|| (if days.is_empty() { "*".to_owned() } else { days.join(",") }, weekdays.join(",")))
}

/// A number, also one that stands in a text.
fn seconds(node: &Node) -> Option<f64> {
    match &node.kind {
        Kind::Number(number) => number.as_f64(),
        Kind::Text(text) => text.trim().parse().ok(),
        _ => None,
    }
}

/// `datetime(2027, 3, 1, 9)`, without a zone.
fn local_time(given: &Arguments) -> Option<String> {
    let parts: Vec<u64> = given
        .plain
        .iter()
        .map(|node| if let Kind::Number(number) = &node.kind { number.as_u64() } else { None })
        .collect::<Option<_>>()?;
    if given.spread || !given.named.is_empty() || !(3..=6).contains(&parts.len()) {
        return None;
    }
    let at = |i: usize| parts.get(i).copied().unwrap_or(0);
    Some(format!("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}", at(0), at(1), at(2), at(3), at(4), at(5)))
}

/// The name of a zone: a text, `pytz.timezone('…')`, `ZoneInfo('…')`, `utc`.
pub(crate) fn zone(node: &Node) -> Option<String> {
    match &node.kind {
        Kind::Text(text) => Some(text.clone()),
        Kind::Call(name, given) => {
            let is_zone = matches!(name.rsplit('.').next(), Some("timezone" | "ZoneInfo" | "gettz"));
            given.plain.first().and_then(Node::text).filter(|_| is_zone).map(str::to_owned)
        }
        Kind::Code(code) => matches!(
            code.as_str(),
            "pytz.utc" | "pytz.UTC" | "timezone.utc" | "datetime.timezone.utc" | "utc" | "UTC"
        )
        .then(|| "UTC".to_owned()),
        _ => None,
    }
}
