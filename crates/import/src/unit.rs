//! Unit files of systemd: sections, settings, lines that go on, quoting, spans of time, specifiers.

use ostler_model::Span;

use crate::{File, ImportError, Note, document::Notes, line};

/// A unit file.
#[derive(Debug, Default)]
pub(crate) struct Unit {
    pub(crate) settings: Vec<Setting>,
}

/// One `Key=value` of a section.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    pub(crate) section: String,
    pub(crate) key: String,
    pub(crate) value: String,
    pub(crate) line: u32,
}

impl Unit {
    /// Reads a file.
    pub(crate) fn read(file: &File) -> Result<Self, ImportError> {
        let mut unit = Self::default();
        let mut section = String::new();
        let mut open: Option<(u32, String)> = None;
        let mut wrong: Vec<Note> = Vec::new();
        let text = file.utf8()?;
        let end = text.lines().count();
        for (index, raw) in text.lines().chain(std::iter::once("")).enumerate() {
            let trimmed = raw.trim();
            let is_comment = trimmed.starts_with(['#', ';']);
            // A comment does not end a setting that goes on.
            if is_comment && (open.is_none() || index < end) {
                continue;
            }
            let (number, mut whole) = open.take().unwrap_or((line(index), String::new()));
            if let Some(part) = raw.trim_end().strip_suffix('\\').filter(|_| index < end) {
                whole.push_str(part.trim_start());
                whole.push(' ');
                open = Some((number, whole));
                continue;
            }
            whole.push_str(trimmed);
            let whole = whole.trim();
            if whole.is_empty() {
                continue;
            }
            if let Some(name) = whole.strip_prefix('[').and_then(|w| w.strip_suffix(']')) {
                section = name.to_owned();
                continue;
            }
            let error = match whole.split_once('=') {
                _ if section.is_empty() => "this stands before the first section",
                None => "this is neither a section nor a setting: write `Key=value`",
                Some((key, value)) => {
                    unit.settings.push(Setting {
                        section: section.clone(),
                        key: key.trim().to_owned(),
                        value: value.trim().to_owned(),
                        line: number,
                    });
                    continue;
                }
            };
            wrong.push(Note { file: file.name.clone(), line: number, words: error.into() });
        }
        if wrong.is_empty() { Ok(unit) } else { Err(ImportError { items: wrong }) }
    }

    /// Takes all values of a key; an empty one takes back those before it.
    pub(crate) fn take(&mut self, section: &str, key: &str) -> Vec<Setting> {
        let mut found = Vec::new();
        self.settings.retain(|s| {
            let is_it = s.section == section && s.key == key;
            if is_it && s.value.is_empty() {
                found.clear();
            } else if is_it {
                found.push(s.clone());
            }
            !is_it
        });
        found
    }

    /// Takes the last value of a key.
    pub(crate) fn last(&mut self, section: &str, key: &str) -> Option<Setting> {
        self.take(section, key).pop()
    }

    /// Takes the conditions out and notes them. Gives whether what they guard must be switched off: conditions about
    /// the kind of machine hold or do not hold for good, others may change from run to run.
    pub(crate) fn guards(&mut self, notes: &mut Notes) -> bool {
        let is_guard = |s: &Setting| {
            let is_unit =
                s.section == "Unit" && (s.key.starts_with("Condition") || s.key.starts_with("Assert"));
            s.key == "ExecCondition" || is_unit
        };
        let (guards, rest): (Vec<_>, Vec<_>) = self.settings.drain(..).partition(is_guard);
        self.settings = rest;
        let mut switches_off = false;
        for guard in guards.into_iter().filter(|g| !g.value.is_empty()) {
            let written = format!("`{}={}`", guard.key, guard.value);
            let kind = guard.key.trim_start_matches("Condition").trim_start_matches("Assert");
            if MACHINE.contains(&kind) || guard.value == "!/etc/initrd-release" {
                notes.add(
                    guard.line,
                    format!("{written} is not carried over: see that it holds on this machine"),
                );
                continue;
            }
            let words = format!(
                "{written} is not carried over: the task is switched off (`enabled: false`) until the condition stands in it"
            );
            notes.add(guard.line, words);
            switches_off = true;
        }
        switches_off
    }

    /// Notes everything that nobody took. What confines a service is one note, since there is often much of it.
    pub(crate) fn rest(self, notes: &mut Notes) {
        let (confines, others): (Vec<_>, Vec<_>) =
            self.settings.into_iter().partition(|s| CONFINES.iter().any(|word| s.key.starts_with(word)));
        for setting in others {
            notes.add(setting.line, format!("`{}={}` is not carried over", setting.key, setting.value));
        }
        if let Some(first) = confines.first() {
            let all: Vec<String> =
                confines.iter().map(|s| format!("`{}={}` (line {})", s.key, s.value, s.line)).collect();
            notes.add(
                first.line,
                format!("what the service is confined to is not carried over: {}", all.join(", ")),
            );
        }
    }
}

impl Setting {
    /// The value as a switch.
    pub(crate) fn is_on(&self) -> bool {
        matches!(self.value.to_ascii_lowercase().as_str(), "1" | "yes" | "y" | "true" | "t" | "on")
    }
}

/// Conditions about the machine, without `Condition` and `Assert` in front.
const MACHINE: &[&str] = &[
    "ACPower",
    "Architecture",
    "CPUFeature",
    "Capability",
    "ControlGroupController",
    "Firmware",
    "Host",
    "KernelCommandLine",
    "KernelVersion",
    "Security",
    "Virtualization",
];

/// How settings begin that confine a service.
const CONFINES: &[&str] = &[
    "Ambient",
    "CapabilityBounding",
    "DevicePolicy",
    "DynamicUser",
    "InaccessiblePaths",
    "LockPersonality",
    "MemoryDeny",
    "NoNewPrivileges",
    "Private",
    "ProcSubset",
    "Protect",
    "ReadOnlyPaths",
    "ReadWritePaths",
    "RemoveIPC",
    "Restrict",
    "SystemCall",
];

/// Units of systemd.time(7), in microseconds; a month is 30.44 days, a year 365.25.
const UNITS: &[(&[&str], f64)] = &[
    (&["us", "usec", "µs", "μs"], 1.0),
    (&["ms", "msec"], 1e3),
    (&["s", "sec", "second", "seconds", ""], 1e6),
    (&["m", "min", "minute", "minutes"], 6e7),
    (&["h", "hr", "hour", "hours"], 3.6e9),
    (&["d", "day", "days"], 8.64e10),
    (&["w", "week", "weeks"], 6.048e11),
    (&["M", "month", "months"], 2_629_800.0 * 1e6),
    (&["y", "year", "years"], 31_557_600.0 * 1e6),
];

/// A span of time. `None` in `Ok` is `infinity`.
pub(crate) fn span(text: &str) -> Result<Option<Span>, String> {
    let text = text.trim();
    if text == "infinity" {
        return Ok(None);
    }
    let refuse = || format!("`{text}` is not a span of time: write as in `90`, `5min 20s` or `1d`");
    let mut total = 0.0;
    let mut rest = text;
    if rest.is_empty() {
        return Err(refuse());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let number: f64 = rest[..digits].parse().map_err(|_| refuse())?;
        let after = rest[digits..].trim_start();
        let letters = after.find(|c: char| !c.is_alphabetic()).unwrap_or(after.len());
        let unit = UNITS.iter().find(|(names, _)| names.contains(&&after[..letters])).ok_or_else(refuse)?;
        total += number * unit.1;
        rest = after[letters..].trim_start();
    }
    // Longer than a definition file takes is as good as never, and a mistake.
    if total > 1e16 {
        return Err(refuse());
    }
    Ok(Some(std::time::Duration::from_micros(total.round() as u64).into()))
}

/// Words of a setting: quotes hold them together, and C's escapes stand for what they do there.
pub(crate) fn words(text: &str) -> Vec<String> {
    let mut all = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (None, '\'' | '"') if word.is_none() => {
                quote = Some(c);
                word = Some(String::new());
            }
            (_, '\\') => {
                let word = word.get_or_insert_default();
                match chars.next() {
                    Some('n') => word.push('\n'),
                    Some('t') => word.push('\t'),
                    Some('r') => word.push('\r'),
                    Some('s') => word.push(' '),
                    Some(other) => word.push(other),
                    None => word.push('\\'),
                }
            }
            (None, c) if c.is_whitespace() => all.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    all.extend(word);
    all
}

/// The names that specifiers stand for.
pub(crate) struct Specifiers<'a> {
    /// The unit's name, with its suffix.
    pub(crate) unit: &'a str,
}

impl Specifiers<'_> {
    /// A value with its specifiers written out. What is known only on the machine stays, with a note.
    pub(crate) fn expand(&self, text: &str, line: u32, notes: &mut Notes) -> String {
        let stem = self.unit.rsplit_once('.').map_or(self.unit, |(stem, _)| stem);
        let (prefix, instance) = stem.split_once('@').unwrap_or((stem, ""));
        let mut out = String::new();
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            if c != '%' {
                out.push(c);
                continue;
            }
            match chars.next() {
                Some('%') | None => out.push('%'),
                Some('n') => out.push_str(self.unit),
                Some('N') => out.push_str(stem),
                Some('p' | 'P') => out.push_str(prefix),
                Some('i') => out.push_str(instance),
                Some('I') => out.push_str(&instance.replace('-', "/")),
                Some('t') => out.push_str("/run"),
                Some('S') => out.push_str("/var/lib"),
                Some('C') => out.push_str("/var/cache"),
                Some('L') => out.push_str("/var/log"),
                Some('E') => out.push_str("/etc"),
                Some('T') => out.push_str("/tmp"),
                Some('V') => out.push_str("/var/tmp"),
                Some(other) => {
                    notes.add(line, format!("`%{other}` is known to systemd only and stands here as it is"));
                    out.push('%');
                    out.push(other);
                }
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_those_of_systemd() {
        for (text, seconds) in [
            ("90", 90),
            ("5min 20s", 320),
            ("1h30m", 5400),
            ("1d", 86400),
            ("1.5h", 5400),
            ("2 weeks", 1_209_600),
        ] {
            assert_eq!(span(text).unwrap(), Some(Span::from_secs(seconds)), "{text}");
        }
        assert_eq!(span("infinity").unwrap(), None);
        assert!(span("soon").is_err() && span("").is_err() && span("5 parsecs").is_err());
    }

    #[test]
    fn words_are_cut_as_systemd_does() {
        assert_eq!(words(r#"/bin/a "b c" d\x 'e "f"'  g"#), ["/bin/a", "b c", "dx", "e \"f\"", "g"]);
    }
}
