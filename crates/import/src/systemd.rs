//! systemd timers with the services that they start.

use ostler_calendar::{Calendars, Trigger};
use ostler_model::{Span, trigger::Rhythm};
use serde_json::{Value, json};

use crate::{
    File, ImportError, Imported, Options,
    command::{is_variable, quoted},
    document::{Document, Entries, Notes, Task, literal, put, script, trigger},
    unit::{Setting, Specifiers, Unit, span, words},
};

/// Settings that lose nothing by being left out: order among units, what Ostler does anyway.
const IGNORED: &[(&str, &[&str])] = &[
    ("Unit", &["Documentation", "After", "Before", "Wants", "DefaultDependencies", "PartOf"]),
    ("Timer", &["AccuracySec", "FixedRandomDelay", "RemainAfterElapse"]),
    (
        "Service",
        &[
            "StandardOutput",
            "StandardError",
            "StandardInput",
            "SyslogIdentifier",
            "KillMode",
            "RemainAfterExit",
        ],
    ),
];

/// Turns timers into a definition file, one task for each. `find` gives a unit by the timer that starts it and by its
/// name: the file of this name beside the timer.
///
/// # Errors
/// What is not a unit file or not a span or calendar expression, and services that are not found.
pub fn systemd(
    timers: &[File],
    find: &dyn Fn(&File, &str) -> Option<File>,
    options: &Options,
) -> Result<Imported, ImportError> {
    let names: Vec<&str> = timers.iter().map(|t| t.name.as_str()).collect();
    let mut document = Document::new(format!("the systemd timers {}", names.join(", ")), options)?;
    for timer in timers {
        let task = one(timer, find, &mut document)?;
        document.tasks.push(task);
    }
    Ok(document.finish(options))
}

fn one(
    file: &File,
    find: &dyn Fn(&File, &str) -> Option<File>,
    document: &mut Document,
) -> Result<Task, ImportError> {
    let mut timer = Unit::read(file)?;
    let base = file.name.rsplit(['/', '\\']).next().unwrap_or_default().to_owned();
    let own = Specifiers { unit: &base };
    let mut notes = Notes::of(&file.name);
    let default = format!("{}.service", file.stem());
    let (unit, unit_line) = match timer.last("Timer", "Unit") {
        Some(setting) => (own.expand(&setting.value, setting.line, &mut notes), setting.line),
        None => (default, 0),
    };
    if unit.contains(['/', '\\']) {
        let words = format!("`Unit={unit}` is not the name of a unit");
        return Err(ImportError::at(&file.name, unit_line, words));
    }
    if file.stem().ends_with('@') {
        notes.add(
            0,
            "the timer is a template: import it under the name of an instance, or `%i` stands for nothing",
        );
    }
    // An instance is described by its template.
    let template = unit.split_once('@').map(|(prefix, _)| format!("{prefix}@.service"));
    let found = find(file, &unit).or_else(|| find(file, &template?));
    let Some(service) = found else {
        let words = format!("there is no service `{unit}` beside the timer");
        return Err(ImportError::at(&file.name, unit_line, words));
    };
    let mut task = Task { notes, ..Task::default() };
    put(&mut task.meta, "id", document.ids.take(file.stem(), "timer"));
    let mut unit_file = Unit::read(&service)?;
    let description =
        [&mut unit_file, &mut timer].map(|u| u.last("Unit", "Description")).into_iter().flatten().next();
    let schedules = schedules(file, &mut timer, &mut task.notes)?;
    for unit in [&mut timer, &mut unit_file] {
        for (section, keys) in IGNORED {
            keys.iter().for_each(|key| drop(unit.take(section, key)));
        }
        unit.settings.retain(|s| s.section != "Install" && !s.section.starts_with("X-"));
    }
    let mut is_guarded = timer.guards(&mut task.notes);
    timer.rest(&mut task.notes);
    let names = Specifiers { unit: &unit };
    let mut work = Work { file: &service, names, notes: Notes::of(&service.name), unit: unit_file };
    is_guarded |= work.unit.guards(&mut work.notes);
    let body = work.body()?;
    if let Some(description) = description {
        let text = work.names.expand(&description.value, description.line, &mut work.notes);
        put(&mut task.meta, "description", text);
    }
    if is_guarded {
        put(&mut task.meta, "enabled", false);
    }
    if !schedules.is_empty() {
        put(&mut task.body, "on", json!({ "schedule": schedules }));
    }
    task.body.extend(body);
    let Work { notes, unit, .. } = work;
    task.notes.items.extend(notes.items);
    let mut rest = Notes::of(&service.name);
    unit.rest(&mut rest);
    task.notes.items.extend(rest.items);
    Ok(task)
}

/// A span, or an error at its line. `infinity` is none.
fn span_of(file: &File, setting: &Setting) -> Result<Option<Span>, ImportError> {
    span(&setting.value)
        .map_err(|e| ImportError::at(&file.name, setting.line, format!("`{}`: {e}", setting.key)))
}

fn schedules(file: &File, timer: &mut Unit, notes: &mut Notes) -> Result<Vec<Value>, ImportError> {
    let mut all = Vec::new();
    let persistent = timer.last("Timer", "Persistent").is_some_and(|s| s.is_on());
    let jitter = match timer.last("Timer", "RandomizedDelaySec") {
        Some(setting) => span_of(file, &setting)?.filter(|s| !s.is_zero()).map(|s| (s, setting.line)),
        None => None,
    };
    let finish = |mut entries: Entries, missed: &str| {
        put(&mut entries, "jitter", jitter.map_or(Value::Null, |(s, _)| s.to_string().into()));
        put(&mut entries, "missed", missed);
        // A unit that is active is not started again.
        entries.insert("overlap".into(), "skip".into());
        Value::Object(entries)
    };
    for setting in timer.take("Timer", "OnCalendar") {
        let spec = trigger(Rhythm::Calendar(setting.value.clone()), None);
        if let Err(error) = Trigger::compile(&spec, "UTC", &Calendars::default(), 0) {
            return Err(ImportError::at(&file.name, setting.line, format!("OnCalendar: {error}")));
        }
        let entries = Entries::from_iter([("calendar".to_owned(), setting.value.into())]);
        all.push(finish(entries, if persistent { "latest" } else { "skip" }));
    }
    let mut boots = false;
    for key in ["OnBootSec", "OnStartupSec", "OnActiveSec"] {
        for setting in timer.take("Timer", key) {
            if span_of(file, &setting)?.is_some_and(|s| !s.is_zero()) {
                let words = format!(
                    "`{key}={}`: Ostler starts it when an `ostler serve` starts, without waiting",
                    setting.value
                );
                notes.add(setting.line, words);
            }
            boots = true;
        }
    }
    if boots {
        all.push(json!({ "reboot": true, "overlap": "skip" }));
    }
    for (key, pace) in [("OnUnitActiveSec", "precise"), ("OnUnitInactiveSec", "spaced")] {
        for setting in timer.take("Timer", key) {
            let Some(every) = span_of(file, &setting)?.filter(|s| s.as_micros() >= 1_000) else {
                notes.add(
                    setting.line,
                    format!("`{key}={}` is no interval that Ostler can keep", setting.value),
                );
                continue;
            };
            let mut entries = Entries::from_iter([("every".to_owned(), every.to_string().into())]);
            if pace == "spaced" {
                put(&mut entries, "pace", pace);
            }
            match jitter {
                Some((span, line)) if span >= every => {
                    notes.add(line, format!("the random delay of {span} is left out where it is longer than the interval of {every}"));
                    put(&mut entries, "missed", "skip");
                    entries.insert("overlap".into(), "skip".into());
                    all.push(Value::Object(entries));
                }
                _ => all.push(finish(entries, "skip")),
            }
        }
    }
    for key in ["OnClockChange", "OnTimezoneChange"] {
        if let Some(setting) = timer.last("Timer", key).filter(Setting::is_on) {
            notes.add(setting.line, format!("`{key}` starts nothing in Ostler"));
        }
    }
    if all.is_empty() {
        notes.add(0, "the timer says nothing that Ostler could go by; the task has no schedule");
    }
    Ok(all)
}

/// What a service does.
struct Work<'a> {
    file: &'a File,
    names: Specifiers<'a>,
    notes: Notes,
    unit: Unit,
}

impl Work<'_> {
    fn expand(&mut self, setting: &Setting) -> String {
        self.names.expand(&setting.value, setting.line, &mut self.notes)
    }

    fn body(&mut self) -> Result<Entries, ImportError> {
        let mut body = Entries::new();
        let mut steps = Vec::new();
        for key in ["ExecStartPre", "ExecStart", "ExecStartPost"] {
            for setting in self.unit.take("Service", key) {
                steps.extend(self.commands(&setting)?);
            }
        }
        if steps.is_empty() {
            return Err(ImportError::at(&self.file.name, 0, "the service has no `ExecStart`"));
        }
        self.policy(&mut body, steps.len())?;
        self.environment(&mut body);
        let mut directory = Entries::new();
        if let Some(setting) = self.unit.last("Service", "WorkingDirectory") {
            let path = self.expand(&setting);
            match path.trim_start_matches('-') {
                "~" => {
                    self.notes.add(setting.line, "`WorkingDirectory=~`: write the home directory of the user")
                }
                path => put(&mut directory, "working_directory", literal(path)),
            }
        }
        let with = self.settings();
        if steps.len() == 1 {
            body.extend(directory);
            put(&mut body, "with", with);
            body.extend(steps.swap_remove(0));
        } else {
            put(&mut body, "defaults", directory);
            for step in &mut steps {
                put(step, "with", with.clone());
            }
            body.insert("steps".into(), steps.into_iter().map(Value::Object).collect());
        }
        Ok(body)
    }

    fn policy(&mut self, body: &mut Entries, steps: usize) -> Result<(), ImportError> {
        let kind = self.unit.last("Service", "Type");
        let is_oneshot = kind.as_ref().is_some_and(|k| k.value == "oneshot");
        if let Some(kind) = kind.filter(|k| !matches!(k.value.as_str(), "oneshot" | "simple" | "exec")) {
            let words = format!("`Type={}`: a run ends when the process that was started ends", kind.value);
            self.notes.add(kind.line, words);
        }
        let start = self.unit.last("Service", "TimeoutStartSec");
        let both = self.unit.last("Service", "TimeoutSec");
        let run = self.unit.last("Service", "RuntimeMaxSec");
        // The start of a oneshot service is all of it; that of others is over at once.
        let bound = run.or(start.or(both).filter(|_| is_oneshot));
        let bound = bound.map(|s| span_of(self.file, &s)).transpose()?.flatten();
        if let Some(span) = bound.filter(|s| !s.is_zero()) {
            let text = span.to_string();
            put(body, "timeout", if steps == 1 { json!(text) } else { json!({ "total": text }) });
        }
        let stop = self.unit.last("Service", "TimeoutStopSec");
        if let Some(span) = stop.map(|s| span_of(self.file, &s)).transpose()?.flatten() {
            put(body, "grace", span.to_string());
        }
        Ok(())
    }

    fn environment(&mut self, body: &mut Entries) {
        let mut env = Entries::new();
        for setting in self.unit.take("Service", "Environment") {
            for word in words(&self.expand(&setting)) {
                match word.split_once('=').filter(|(name, _)| is_variable(name)) {
                    Some((name, value)) => drop(env.insert(name.to_owned(), literal(value).into())),
                    None => {
                        self.notes.add(setting.line, format!("`{word}` is not the assignment of a variable"))
                    }
                }
            }
        }
        put(body, "env", env);
        let mut files = Vec::new();
        for setting in self.unit.take("Service", "EnvironmentFile") {
            let path = self.expand(&setting);
            if let Some(path) = path.strip_prefix('-') {
                let words =
                    format!("systemd goes on without `{path}` where it is missing; here it must be there");
                self.notes.add(setting.line, words);
            }
            let path = path.trim_start_matches('-').to_owned();
            if path.starts_with('/')
                && !path.split(['/', '\\']).any(|part| part == "..")
                && !path.contains("${{")
            {
                files.push(path);
            } else {
                self.notes.add(
                    setting.line,
                    format!("`EnvironmentFile={path}` is not an absolute path and is left out"),
                );
            }
        }
        put(body, "env_file", files);
        let passed: Vec<String> =
            self.unit.take("Service", "PassEnvironment").iter().flat_map(|s| words(&s.value)).collect();
        put(body, "inherit_env", passed);
    }

    /// What the executor is told beside the command.
    fn settings(&mut self) -> Entries {
        let mut with = Entries::new();
        let group = self.unit.last("Service", "Group");
        match (self.unit.last("Service", "User"), group) {
            (Some(user), group) => {
                let name = self.expand(&user);
                let whole = group.map_or_else(|| name.clone(), |g| format!("{name}:{}", g.value));
                let words = format!(
                    "systemd runs it as `{whole}`; so does Ostler when `ostler serve` runs as root: else take `user` out"
                );
                self.notes.add(user.line, words);
                put(&mut with, "user", literal(&whole));
            }
            (None, Some(group)) => {
                self.notes.add(group.line, format!("`Group={}` is not carried over", group.value))
            }
            (None, None) => {}
        }
        if let Some(umask) = self.unit.last("Service", "UMask") {
            if !umask.value.is_empty()
                && umask.value.len() < 5
                && umask.value.bytes().all(|b| (b'0'..b'8').contains(&b))
            {
                put(&mut with, "umask", umask.value);
            } else {
                self.notes.add(umask.line, format!("`UMask={}` is not carried over", umask.value));
            }
        }
        let mut codes = vec![json!(0)];
        for setting in self.unit.take("Service", "SuccessExitStatus") {
            for word in words(&setting.value) {
                match word.parse::<u8>() {
                    Ok(code) => codes.push(code.into()),
                    Err(_) => self.notes.add(
                        setting.line,
                        format!("the exit status `{word}` is not a number and is left out"),
                    ),
                }
            }
        }
        if codes.len() > 1 {
            put(&mut with, "exit_codes", json!({ "success": codes }));
        }
        with
    }

    /// The steps of one `Exec…` line; a `;` by itself begins another command.
    fn commands(&mut self, setting: &Setting) -> Result<Vec<Entries>, ImportError> {
        let text = self.expand(setting);
        let words = words(&text);
        let mut steps = Vec::new();
        for command in words.split(|word| word == ";").filter(|c| !c.is_empty()) {
            steps.push(self.command(setting, command)?);
        }
        Ok(steps)
    }

    fn command(&mut self, setting: &Setting, words: &[String]) -> Result<Entries, ImportError> {
        let mut step = Entries::new();
        let mut words = words.to_vec();
        let first = words.first().cloned().unwrap_or_default();
        let program = first.trim_start_matches(['-', '@', ':', '+', '!', '|']);
        let prefix = &first[..first.len() - program.len()];
        if program.is_empty() {
            return Err(ImportError::at(
                &self.file.name,
                setting.line,
                format!("`{}` names no program", setting.key),
            ));
        }
        words[0] = program.to_owned();
        if prefix.contains('@') && words.len() > 1 {
            let name = words.remove(1);
            self.notes
                .add(setting.line, format!("the program's own name `{name}` (`@`) is not carried over"));
        }
        if prefix.contains(['+', '!']) {
            self.notes.add(setting.line, "the full privileges (`+`, `!`) are not carried over");
        }
        if prefix.contains('-') {
            put(&mut step, "continue-on-error", true);
        }
        let has_variables = !prefix.contains(':') && words.iter().any(|w| w.contains('$'));
        if has_variables {
            let line = words.iter().map(|w| shell_word(w)).collect::<Vec<_>>().join(" ");
            step.insert("run".into(), script(&literal(&line)).into());
        } else {
            put(&mut step, "uses", "exec");
            step.insert("args".into(), words.iter().map(|w| Value::String(literal(w))).collect());
        }
        Ok(step)
    }
}

/// A word in which systemd fills in variables, for a shell: `$NAME` by itself is split at spaces, `${NAME}` is not.
fn shell_word(word: &str) -> String {
    if word.strip_prefix('$').is_some_and(is_variable) {
        return word.to_owned();
    }
    if !word.contains('$') {
        return quoted(word);
    }
    let mut out = String::from("\"");
    let mut rest = word;
    while let Some(at) = rest.find(['$', '"', '\\', '`']) {
        out.push_str(&rest[..at]);
        let tail = &rest[at..];
        let name =
            tail.strip_prefix("${").and_then(|t| t.split_once('}')).filter(|(name, _)| is_variable(name));
        match name {
            Some((name, after)) => {
                out.push_str(&format!("${{{name}}}"));
                rest = after;
            }
            None => {
                let bare = tail.starts_with('$')
                    && tail[1..].starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
                if !bare {
                    out.push('\\');
                }
                out.push_str(&tail[..1]);
                // `$$` is one dollar sign.
                rest = tail[1..].strip_prefix('$').filter(|_| tail.starts_with("$$")).unwrap_or(&tail[1..]);
            }
        }
    }
    out.push_str(rest);
    out.push('"');
    out
}
