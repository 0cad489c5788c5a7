//! APScheduler 3: lists of jobs as Flask-APScheduler has them (`JOBS = [{...}]`, in Python or JSON), and the calls of
//! `add_job`, `scheduled_job` and `task` in Python sources. Sources are read, never run.

use std::collections::BTreeMap;

use ostler_timetable::{Tree, TreeKind, read_yaml};

use crate::{
    File, ImportError, Imported, Options,
    apscheduler_job::{Job, Setup},
    document::{Document, Notes},
    python::{Arguments, Kind, Node, Source},
};

/// Names of lists of jobs in configurations.
const LISTS: [&str; 2] = ["JOBS", "SCHEDULER_JOBS"];

/// Turns lists of jobs into a definition file, one task for each job.
///
/// # Errors
/// What cannot be read, a trigger that APScheduler would refuse, a function without a module, no job at all.
pub fn apscheduler(files: &[File], options: &Options) -> Result<Imported, ImportError> {
    let names: Vec<&str> = files.iter().map(|f| f.name.as_str()).collect();
    let mut document = Document::new(format!("the APScheduler jobs of {}", names.join(", ")), options)?;
    let mut wrong = Vec::new();
    for file in files {
        let text = file.utf8()?;
        let is_json = text.trim_start().starts_with(['{', '[']);
        let found = if is_json { of_json(file)? } else { of_python(text) };
        if found.jobs.is_empty() {
            let words = "there are no jobs: neither a list `JOBS` or `SCHEDULER_JOBS` nor a call of `add_job`, `scheduled_job` or `task`";
            return Err(ImportError::at(&file.name, 0, words));
        }
        let mut head = Notes::of(&file.name);
        let setup = Setup::read(file, &found.settings, &mut head)?;
        for (place, fields) in found.jobs {
            let job = Job { file, line: place, setup: &setup, modules: &found.modules };
            match job.task(fields, &mut document.ids) {
                Ok(task) => document.tasks.push(task),
                Err(error) => wrong.extend(error.items),
            }
        }
        document.notes.extend(head.items);
    }
    if !wrong.is_empty() {
        return Err(ImportError { items: wrong });
    }
    let mut head = Notes::of(names.first().copied().unwrap_or_default());
    head.add(0, "each function is called in a process of its own: its module must be found from the folder of this file (or `PYTHONPATH`), and what the application has set up is not there");
    document.notes.splice(0..0, head.items);
    Ok(document.finish(options))
}

/// A job with the line on which it begins.
type Found = (u32, Vec<(String, Node)>);

/// What stands in a file.
#[derive(Default)]
struct Contents {
    jobs: Vec<Found>,
    /// `SCHEDULER_TIMEZONE` and its kin, in small letters.
    settings: BTreeMap<String, Node>,
    /// What names of a source stand for: `module:name`, or `module` for one that is imported whole.
    modules: BTreeMap<String, String>,
}

impl Contents {
    /// Takes the jobs of a list.
    fn list(&mut self, node: Node) {
        if let Kind::List(items) = node.kind {
            for item in items {
                let fields = match item.kind {
                    Kind::Map(entries) => entries,
                    // `dict(id='x', func='a:b')`
                    Kind::Call(name, given) if name == "dict" => given.named,
                    other => vec![("job".to_owned(), Node { kind: other, line: item.line })],
                };
                self.jobs.push((item.line, fields));
            }
        }
    }

    /// Takes a setting of the scheduler.
    fn set(&mut self, name: &str, node: Node) {
        let name = name.to_ascii_lowercase();
        self.settings.insert(name.strip_prefix("scheduler_").unwrap_or(&name).to_owned(), node);
    }
}

fn is_setting(name: &str) -> bool {
    matches!(name, "SCHEDULER_TIMEZONE" | "SCHEDULER_JOB_DEFAULTS")
}

/// A list, or a map with one in it.
fn of_json(file: &File) -> Result<Contents, ImportError> {
    let tree = read_yaml(&file.text, &file.name)?;
    let mut found = Contents::default();
    match node(&tree).kind {
        Kind::Map(entries) => {
            for (key, value) in entries {
                match key.as_str() {
                    key if LISTS.contains(&key) || key == "jobs" => found.list(value),
                    key if is_setting(key) => found.set(key, value),
                    _ => {}
                }
            }
        }
        list => found.list(Node { kind: list, line: tree.line }),
    }
    Ok(found)
}

fn node(tree: &Tree) -> Node {
    let kind = match &tree.kind {
        TreeKind::Null => Kind::Null,
        TreeKind::Bool(value, _) => Kind::Bool(*value),
        TreeKind::Number(number, _) => Kind::Number(number.clone()),
        TreeKind::Text(text) => Kind::Text(text.clone()),
        TreeKind::List(items) => Kind::List(items.iter().map(node).collect()),
        TreeKind::Map(entries) => {
            Kind::Map(entries.iter().map(|e| (e.key.clone(), node(&e.value))).collect())
        }
    };
    Node { kind, line: tree.line }
}

/// Everything of a source that is about jobs, in its order.
fn of_python(text: &str) -> Contents {
    let mut found = Contents::default();
    let mut source = Source::new(text);
    // The job of the decorators above a function that has not come yet.
    let mut decorated: Vec<Found> = Vec::new();
    while let Some(c) = source.peek() {
        let (start, indent, before) = (source.at, source.indent(), source.before());
        if c == '#' {
            source.over_line();
        } else if let Some(text) = source.string() {
            // `app.config['JOBS'] = [...]`, `{'JOBS': [...]}`
            if let Some(name) = text {
                let back = source.at;
                source.spaces();
                let _ = source.take("]");
                source.spaces();
                if !setting(&mut source, &name, &mut found) {
                    source.at = back;
                }
            }
        } else if let Some(name) = source.name() {
            let last = name.rsplit('.').next().unwrap_or(name);
            let line = source.line();
            match name {
                "import" | "from" if indent.is_some() => imported(&mut source, name, &mut found),
                "def" => {
                    source.spaces();
                    let function = source.name().unwrap_or_default();
                    found.modules.entry(function.to_owned()).or_insert_with(|| format!(":{function}"));
                    for (line, mut fields) in decorated.drain(..) {
                        fields.insert(
                            0,
                            ("func".to_owned(), Node { kind: Kind::Code(function.to_owned()), line }),
                        );
                        found.jobs.push((line, fields));
                    }
                }
                _ if last == name && setting(&mut source, name, &mut found) => {}
                _ => {
                    source.spaces();
                    let is_call = source.peek() == Some('(');
                    let mut ahead = source.clone();
                    let given = if is_call { ahead.arguments() } else { None };
                    match (last, given) {
                        ("add_job", Some(given)) => {
                            found.jobs.push((
                                line,
                                call(given, &["func", "trigger", "args", "kwargs", "id", "name"]),
                            ));
                            source.at = ahead.at;
                        }
                        ("scheduled_job" | "task", Some(given)) if before == Some('@') => {
                            let fields = call(given, &["trigger", "args", "kwargs", "id", "name"]);
                            if last == "scheduled_job" || fields.iter().any(is_trigger) {
                                decorated.push((line, fields));
                            }
                            source.at = ahead.at;
                        }
                        (last, Some(given)) if last.ends_with("Scheduler") => {
                            for (key, value) in given.named {
                                if matches!(key.as_str(), "timezone" | "job_defaults") {
                                    found.set(&key, value);
                                }
                            }
                        }
                        _ => {}
                    }
                }
            }
        } else {
            source.bump();
        }
        // Whatever was read, the place moves on.
        if source.at == start {
            source.bump();
        }
    }
    found
}

/// Whether a field is a trigger of APScheduler; Celery has tasks, too.
fn is_trigger((key, value): &(String, Node)) -> bool {
    key == "trigger" && matches!(value.text(), Some("cron" | "interval" | "date"))
}

/// `NAME = value`, `NAME: type = value`, `'NAME': value`; false when it is none of them, or another name.
fn setting(source: &mut Source<'_>, name: &str, found: &mut Contents) -> bool {
    if !LISTS.contains(&name) && !is_setting(name) {
        return false;
    }
    source.spaces();
    if source.take(":") {
        // An annotation, or the value itself in a map.
        let back = source.at;
        let annotation = source.rest().split('\n').next().unwrap_or_default().split_once('=');
        match annotation.filter(|(kind, _)| !kind.contains(['{', '\'', '"', '('])) {
            Some((kind, _)) => source.at += kind.len() + 1,
            None => source.at = back,
        }
    } else if source.rest().starts_with("==") || !source.take("=") {
        return false;
    }
    let value = source.value();
    if LISTS.contains(&name) {
        found.list(value)
    } else {
        found.set(name, value)
    }
    true
}

/// The arguments of a call by their names.
fn call(given: Arguments, names: &[&str]) -> Vec<(String, Node)> {
    let line = given.plain.first().map_or(0, |node| node.line);
    let spread = given.spread.then(|| ("**".to_owned(), Node { kind: Kind::Null, line }));
    let plain = given.plain.into_iter().zip(names).map(|(value, name)| ((*name).to_owned(), value));
    plain.chain(given.named).chain(spread).collect()
}

/// `import a.b as c`, `from a import b as c, d`.
fn imported(source: &mut Source<'_>, word: &str, found: &mut Contents) {
    source.spaces();
    let dots = source.rest().len() - source.rest().trim_start_matches('.').len();
    source.at += dots;
    let module = source.name().unwrap_or_default().to_owned();
    let rest = source.rest();
    let statement = match rest
        .trim_start_matches([' ', '\t'])
        .strip_prefix("import")
        .map(|r| r.trim_start_matches(' '))
    {
        Some(names) if names.starts_with('(') => names[1..].split(')').next().unwrap_or_default(),
        Some(names) => names.split('\n').next().unwrap_or_default(),
        None => rest.split('\n').next().unwrap_or_default(),
    };
    let without = |text: &str| {
        text.lines().map(|l| l.split('#').next().unwrap_or_default()).collect::<Vec<_>>().join(" ")
    };
    let statement = without(statement);
    if word == "import" {
        let alias =
            statement.trim().strip_prefix("as ").map_or(module.clone(), |alias| alias.trim().to_owned());
        found.modules.insert(alias, module);
    } else if dots == 0 {
        for item in statement.split(',') {
            let mut words = item.split_whitespace();
            let (Some(name), rest) = (words.next(), words.collect::<Vec<_>>()) else { continue };
            let alias = if let ["as", alias] = rest.as_slice() { alias } else { name };
            found.modules.insert(alias.to_owned(), format!("{module}:{name}"));
        }
    }
    source.over_line();
}
