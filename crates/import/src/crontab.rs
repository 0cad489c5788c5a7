//! Crontabs: what crontab(5) says, with what Debian's cron and cronie add to it.
//!
//! Variables hold for the lines below them. `CRON_TZ` is the zone of the schedules and `RANDOM_DELAY` their jitter;
//! `TZ` is an ordinary variable of the commands, as cron has it.

use ostler_calendar::{CronError, check_cron};
use ostler_model::{Span, trigger::Dialect};
use serde_json::{Value, json};

use crate::{
    File, ImportError, Imported, Note, Options,
    command::{has_several_commands, is_variable, program},
    document::{Document, Entries, Notes, Task, literal, put, script, zone_error},
    line,
};

/// Shells that Ostler starts with `-e`, which cron does not.
const SHELLS: &[&str] = &["sh", "bash", "dash", "ash", "ksh", "zsh", "mksh"];

/// Turns a crontab into a definition file.
///
/// # Errors
/// Every line that is neither a comment nor a variable nor a schedule with a command.
pub fn crontab(file: &File, options: &Options) -> Result<Imported, ImportError> {
    let mut document = Document::new(format!("the crontab {}", file.name), options)?;
    let mut reader = Reader { file: &file.name, system: options.system, state: State::default() };
    let mut comments: Vec<&str> = Vec::new();
    let mut wrong: Vec<Note> = Vec::new();
    let mut head = Notes::of(&file.name);
    for (index, text) in file.utf8()?.lines().enumerate() {
        let (number, text) = (line(index), text.trim());
        if let Some(comment) = text.strip_prefix('#') {
            comments.push(comment);
            continue;
        }
        let above = std::mem::take(&mut comments);
        if text.is_empty() {
            continue;
        }
        let done = match variable(text) {
            Some((name, value)) => reader.set(number, name, value, &mut head),
            None => reader.entry(number, text, &above, &mut document),
        };
        if let Err(error) = done {
            wrong.extend(error.items);
        }
    }
    if !wrong.is_empty() {
        return Err(ImportError { items: wrong });
    }
    if document.tasks.iter().any(|task| !task.body.contains_key("working_directory")) {
        let words = "cron starts commands in the home directory of the user, Ostler in the folder of the file: \
                     set `working_directory` where a command counts on it";
        head.add(0, words);
    }
    document.notes = head.items;
    Ok(document.finish(options))
}

/// What the variables so far say.
#[derive(Default)]
struct State {
    env: Entries,
    shell: Option<String>,
    home: Option<String>,
    zone: Option<String>,
    jitter: Option<Span>,
}

struct Reader<'a> {
    file: &'a str,
    system: bool,
    state: State,
}

impl Reader<'_> {
    fn error(&self, line: u32, words: impl Into<String>) -> ImportError {
        ImportError::at(self.file, line, words)
    }

    fn set(&mut self, line: u32, name: &str, value: String, head: &mut Notes) -> Result<(), ImportError> {
        match name {
            "SHELL" => self.state.shell = Some(value).filter(|v| !v.is_empty() && v != "/bin/sh"),
            "CRON_TZ" => {
                if let Some(error) = zone_error(&value).filter(|_| !value.is_empty()) {
                    return Err(self.error(line, format!("CRON_TZ: {error}")));
                }
                self.state.zone = Some(value).filter(|v| !v.is_empty());
            }
            "RANDOM_DELAY" => {
                let minutes: u32 = value.trim().parse().map_err(|_| {
                    self.error(line, format!("RANDOM_DELAY: `{value}` is not a number of minutes"))
                })?;
                self.state.jitter = (minutes > 0).then(|| Span::from_secs(u64::from(minutes) * 60));
            }
            "MAILTO" if value.is_empty() => {}
            "MAILTO" => head.add(
                line,
                format!("cron mails what the commands print to `{value}`; Ostler keeps it as the log of each run: add `on_failure` steps to be told"),
            ),
            "MAILFROM" | "CONTENT_TYPE" | "CONTENT_TRANSFER_ENCODING" => {
                head.add(line, format!("`{name}` is about cron's mails and is left out"));
            }
            "START_HOURS_RANGE" => {
                head.add(line, "`START_HOURS_RANGE` is left out: write the hours into the schedules");
            }
            _ => {
                if name == "HOME" {
                    self.state.home = Some(value.clone()).filter(|v| !v.is_empty());
                }
                self.state.env.insert(name.to_owned(), literal(&value).into());
            }
        }
        Ok(())
    }

    fn entry(
        &self,
        line: u32,
        text: &str,
        above: &[&str],
        document: &mut Document,
    ) -> Result<(), ImportError> {
        let mut task = Task { notes: Notes::of(self.file), ..Task::default() };
        let (expression, rest) = split_schedule(text).map_err(|words| self.error(line, words))?;
        let mut schedule = self.schedule(line, &expression, &mut task.notes)?;
        put(&mut schedule, "timezone", self.state.zone.clone());
        let (user, rest) = match self.system {
            true => cut(rest).map(|(user, rest)| (Some(user), rest)).unwrap_or_default(),
            false => (None, rest),
        };
        let (command, stdin) = percent(rest);
        if command.trim().is_empty() {
            let words = match (self.system, user) {
                (true, Some(user)) => format!("the line has no command after the user `{user}`"),
                _ => "the line has no command".into(),
            };
            return Err(self.error(line, words));
        }
        let command = command.trim();
        if !self.system && command.starts_with("root ") {
            let words = "the command begins with `root`: if that is the user, import with `--system`";
            task.notes.add(line, words);
        }
        put(&mut task.meta, "id", document.ids.take(&program(command), "task"));
        put(&mut task.meta, "description", description(above));
        put(&mut task.body, "on", json!({ "schedule": [schedule] }));
        put(&mut task.body, "env", self.state.env.clone());
        put(&mut task.body, "working_directory", self.state.home.as_deref().map(literal));
        put(&mut task.body, "shell", self.state.shell.as_deref().map(literal));
        if let Some(user) = user {
            let words = format!(
                "cron runs it as `{user}`; so does Ostler when `ostler serve` runs as root: else take `user` out"
            );
            task.notes.add(line, words);
            put(&mut task.body, "with", json!({ "user": literal(user) }));
        }
        put(&mut task.body, "stdin", stdin.as_deref().map(literal));
        let shell = self.state.shell.as_deref().unwrap_or("sh");
        let shell = shell.rsplit('/').next().unwrap_or(shell);
        // Ostler's shell ends at the first command that fails; cron's goes on.
        let prefix = if SHELLS.contains(&shell) && has_several_commands(command) { "set +e\n" } else { "" };
        task.body.insert("run".into(), script(&literal(&format!("{prefix}{command}"))).into());
        document.tasks.push(task);
        Ok(())
    }

    fn schedule(&self, line: u32, expression: &str, notes: &mut Notes) -> Result<Entries, ImportError> {
        let mut entries = Entries::new();
        if expression.eq_ignore_ascii_case("@reboot") {
            notes
                .add(line, "cron runs it when the machine starts, Ostler each time an `ostler serve` starts");
            entries.insert("reboot".into(), true.into());
            return Ok(entries);
        }
        let (expression, random) = random_minute(expression);
        if let Some(span) = random {
            let words = format!(
                "the minute is drawn once by cron; here each firing is moved by up to {span}, as `jitter` says"
            );
            notes.add(line, words);
        }
        let mut expression = expression;
        // cron takes a step that goes over the end of its range; each correction leaves one such step less.
        for _ in 0..expression.len() {
            match check_cron(&expression, Dialect::Vixie) {
                Ok(_) => break,
                Err(error) => match without_step(&expression, &error) {
                    Some(other) => {
                        notes.add(
                            line,
                            format!("`{expression}` is written as `{other}`, which is how cron reads it"),
                        );
                        expression = other;
                    }
                    None => return Err(self.error(line, format!("cron `{expression}`: {error}"))),
                },
            }
        }
        entries.insert("cron".into(), expression.into());
        let jitter = random.or(self.state.jitter);
        put(&mut entries, "jitter", jitter.map_or(Value::Null, |span| span.to_string().into()));
        // cron makes up for nothing.
        entries.insert("missed".into(), "skip".into());
        Ok(entries)
    }
}

/// `NAME = value`, with quotes around either.
fn variable(text: &str) -> Option<(&str, String)> {
    let (name, value) = text.split_once('=')?;
    let (name, value) = (unquoted(name.trim()), unquoted(value.trim()));
    is_variable(name).then(|| (name, value.to_owned()))
}

fn unquoted(text: &str) -> &str {
    ['"', '\''].into_iter().find_map(|quote| text.strip_prefix(quote)?.strip_suffix(quote)).unwrap_or(text)
}

/// The first word and what follows it.
fn cut(text: &str) -> Option<(&str, &str)> {
    let text = text.trim_start();
    let end = text.find([' ', '\t']).unwrap_or(text.len());
    (end > 0).then(|| (&text[..end], text[end..].trim_start()))
}

/// The schedule of a line, its fields one space apart, and what follows.
fn split_schedule(text: &str) -> Result<(String, &str), String> {
    let count = match text {
        _ if !text.starts_with('@') => 5,
        _ if text.split_whitespace().next().is_some_and(|word| word.eq_ignore_ascii_case("@every")) => 2,
        _ => 1,
    };
    let mut fields: Vec<&str> = Vec::new();
    let mut rest = text;
    while fields.len() < count {
        let Some((field, after)) = cut(rest) else {
            return Err(format!(
                "`{text}` is neither a variable nor a schedule: a schedule has 5 fields or begins with `@`, and a command follows"
            ));
        };
        fields.push(field);
        rest = after;
    }
    // A `-` in front keeps cron from logging the line.
    if let Some(first) = fields.first_mut() {
        *first = first.strip_prefix('-').filter(|f| !f.is_empty()).unwrap_or(first);
    }
    Ok((fields.join(" "), rest))
}

/// `0~30` in the minute (cronie, OpenBSD): the first minute, and how far from it the others lie.
fn random_minute(expression: &str) -> (String, Option<Span>) {
    let read = || {
        let (minute, rest) = expression.split_once(' ')?;
        let (from, to) = minute.split_once('~')?;
        let from: u8 = if from.is_empty() { 0 } else { from.parse().ok()? };
        let to: u8 = if to.is_empty() { 59 } else { to.parse().ok()? };
        let span = Span::from_secs(u64::from(to.checked_sub(from)?) * 60);
        (to < 60).then(|| (format!("{from} {rest}"), Some(span).filter(|s| !s.is_zero())))
    };
    read().unwrap_or_else(|| (expression.to_owned(), None))
}

/// The expression with the part whose step is too wide cut down to its start.
fn without_step(expression: &str, error: &CronError) -> Option<String> {
    let CronError::Step { value, at, .. } = error else { return None };
    let (body, step) = value.split_once('/')?;
    let step: u32 = step.parse().ok()?;
    let start = body.split('-').next().filter(|start| step > 0 && !start.is_empty())?;
    let field = expression.get(..at.start)?.matches(' ').count();
    let start = match start {
        // Days and months begin with 1, minutes, hours and weekdays with 0.
        "*" if matches!(field, 2 | 3) => "1",
        "*" => "0",
        other => other,
    };
    Some(format!("{}{start}{}", expression.get(..at.start)?, expression.get(at.end..)?))
}

/// What cron makes of `%`: the first begins standard input, further ones end its lines; `\%` is a percent sign.
fn percent(text: &str) -> (String, Option<String>) {
    let mut command = String::new();
    let mut stdin: Option<String> = None;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let part = stdin.as_mut().unwrap_or(&mut command);
        match c {
            '\\' if chars.peek() == Some(&'%') => part.extend(chars.next()),
            // A backslash keeps what follows it, another backslash too, from being looked at.
            '\\' => {
                part.push(c);
                part.extend(chars.next());
            }
            '%' => match stdin.as_mut() {
                Some(text) => text.push('\n'),
                None => stdin = Some(String::new()),
            },
            c => part.push(c),
        }
    }
    if let Some(text) = stdin.as_mut().filter(|t| !t.is_empty() && !t.ends_with('\n')) {
        text.push('\n');
    }
    (command, stdin.filter(|t| !t.is_empty()))
}

/// The comment above a line, as far as it is about that line: no legends of the fields, no jobs that were switched off.
fn description(above: &[&str]) -> String {
    let is_about = |text: &&str| {
        let words: Vec<&str> = text.split_whitespace().collect();
        let is_drawing =
            !text.chars().any(char::is_alphanumeric) || text.starts_with(['|', '.', '*', '+', '┌', '│']);
        let is_legend = words.iter().any(|w| w.eq_ignore_ascii_case("dom"))
            && words.iter().any(|w| w.eq_ignore_ascii_case("dow"));
        let is_job = words.len() > 5 && check_cron(&words[..5].join(" "), Dialect::Vixie).is_ok()
            || words.len() > 1 && words[0].starts_with('@') && check_cron(words[0], Dialect::Vixie).is_ok();
        !is_drawing && !is_legend && !is_job && variable(text).is_none()
    };
    let lines: Vec<&str> = above
        .iter()
        .map(|l| l.trim_matches(|c: char| c == '#' || c.is_whitespace()))
        .filter(is_about)
        .collect();
    lines.join(" ")
}
