//! Files, folders and texts.

use std::{
    collections::BTreeMap,
    io::Read,
    path::{Path, PathBuf},
};

use ostler_model::definition::Timetable;
use serde_json::Value;

use crate::{
    Diagnostic, Diagnostics, Format,
    diagnostic::Problem,
    formats::{self, Script},
    lower::{Context, Origin, Settings, looks_like_definitions, lower, lower_script},
    namespace::ephemeral_namespace,
    source::Source,
};

/// What files are read with: what the machine is and can do.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// The executors by name, with the JSON Schema of their settings (`with`). Without any, every name is taken.
    pub executors: BTreeMap<String, Value>,
    /// The zone of schedules in files that name none.
    pub machine_zone: String,
    /// Name of the host, for the namespace of files that name none.
    pub host: String,
    /// Name of the user, for the namespace of files that name none.
    pub user: String,
    /// Larger files are refused before they are read.
    pub max_bytes: u64,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            executors: BTreeMap::new(),
            machine_zone: "UTC".into(),
            host: "localhost".into(),
            user: String::new(),
            max_bytes: 16 << 20,
        }
    }
}

/// What was read.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// One for each file, sorted by path.
    pub timetables: Vec<Timetable>,
    /// What is probably not meant.
    pub warnings: Vec<Diagnostic>,
    /// What is worth knowing: expressions that another dialect reads otherwise, files of a folder that were left out.
    pub notes: Vec<Diagnostic>,
}

impl Loaded {
    fn and(&mut self, mut other: Self) {
        self.timetables.append(&mut other.timetables);
        self.warnings.append(&mut other.warnings);
        self.notes.append(&mut other.notes);
    }
}

/// Reads a file, the definition files of a folder (not of the folders in it), or standard input (`-`).
///
/// # Errors
/// Everything that is wrong, in all files.
pub fn load_path(path: &Path, options: &LoadOptions) -> Result<Loaded, Diagnostics> {
    let settings = Settings::new(&options.executors);
    if path.as_os_str() == "-" {
        let text = read_limited(std::io::stdin().lock(), "-", options)?;
        return load(&text, "-", Format::sniff(&text), None, options, &settings);
    }
    if path.is_dir() { folder(path, options, &settings) } else { one_file(path, options, &settings, false) }
}

/// Reads a text. `name` stands in errors; a path's folder is not looked at.
///
/// # Errors
/// Everything that is wrong.
pub fn load_text(
    text: &[u8],
    name: &str,
    format: Format,
    options: &LoadOptions,
) -> Result<Loaded, Diagnostics> {
    if text.len() as u64 > options.max_bytes {
        return Err(too_large(name, options));
    }
    load(text, name, format, None, options, &Settings::new(&options.executors))
}

/// Reads a text as if it stood in a file at an absolute path: relative paths in it start from that file's folder.
/// Nothing is read from there.
///
/// # Errors
/// Everything that is wrong.
pub fn load_text_at(
    text: &[u8],
    path: &Path,
    format: Format,
    options: &LoadOptions,
) -> Result<Loaded, Diagnostics> {
    let name = path.display().to_string();
    if text.len() as u64 > options.max_bytes {
        return Err(too_large(&name, options));
    }
    load(text, &name, format, Some(path), options, &Settings::new(&options.executors))
}

fn folder(path: &Path, options: &LoadOptions, settings: &Settings) -> Result<Loaded, Diagnostics> {
    let name = path.display().to_string();
    let cannot =
        |e: std::io::Error| Diagnostic::of_file(&name, "file", format!("the folder cannot be read: {e}"));
    let mut files: Vec<PathBuf> = Vec::new();
    for entry in path.read_dir().map_err(cannot)? {
        let entry = entry.map_err(cannot)?;
        let is_hidden = entry.file_name().to_string_lossy().starts_with('.');
        if !is_hidden && Format::of_path(&entry.path()).is_some() && entry.path().is_file() {
            files.push(entry.path());
        }
    }
    files.sort();
    let mut loaded = Loaded::default();
    let mut wrong = Vec::new();
    for file in &files {
        match one_file(file, options, settings, true) {
            Ok(more) => loaded.and(more),
            Err(more) => wrong.extend(more.items),
        }
    }
    wrong.extend(twice(&loaded.timetables));
    if wrong.is_empty() && loaded.timetables.is_empty() {
        let found = Diagnostic::of_file(&name, "empty", "the folder has no definition files");
        wrong
            .push(found.with_help(
                "they end in .yaml, .yml, .json, .toml or .py; folders in it are not looked into",
            ));
    }
    if wrong.is_empty() { Ok(loaded) } else { Err(Diagnostics { items: wrong }) }
}

/// Ids that stand in two files of one namespace. Files that name none count as one: they are started by id alone.
fn twice(timetables: &[Timetable]) -> Vec<Diagnostic> {
    let mut seen: BTreeMap<(&str, &str, &str), &str> = BTreeMap::new();
    let mut wrong = Vec::new();
    for timetable in timetables {
        let namespace = if timetable.ephemeral { "" } else { timetable.namespace.as_str() };
        let tasks = timetable.tasks.iter().map(|t| ("task", &t.id, t.source.line));
        let presets = timetable.presets.iter().map(|p| ("preset", &p.id, None));
        let sinks = timetable.sinks.iter().map(|s| ("sink", &s.id, None));
        for (what, id, line) in tasks.chain(presets).chain(sinks) {
            if let Some(first) = seen.insert((namespace, what, id.as_str()), &timetable.origin) {
                let message = format!("the {what} `{id}` is in `{first}` too");
                let mut found = Diagnostic::of_file(&timetable.origin, "duplicate-id", message);
                found.line = line.unwrap_or(0);
                found.column = u32::from(line.is_some());
                wrong.push(found.with_help("give them different ids, or the files different namespaces"));
            }
        }
    }
    wrong
}

fn one_file(
    path: &Path,
    options: &LoadOptions,
    settings: &Settings,
    in_folder: bool,
) -> Result<Loaded, Diagnostics> {
    let name = path.display().to_string();
    let cannot =
        |e: std::io::Error| Diagnostic::of_file(&name, "file", format!("the file cannot be read: {e}"));
    let format = Format::of_path(path).ok_or_else(|| {
        Diagnostic::of_file(&name, "format", "the name does not say what form the file has")
            .with_help("definition files end in .yaml, .yml, .json, .toml or .py")
    })?;
    let file = std::fs::File::open(path).map_err(cannot)?;
    let length = file.metadata().map_err(cannot)?.len();
    if length > options.max_bytes {
        return Err(too_large(&name, options));
    }
    let text = read_limited(file, &name, options)?;
    if in_folder && !is_meant(&text, format) {
        // Scripts beside the definitions that use them are nothing to tell.
        if format == Format::Python {
            return Ok(Loaded::default());
        }
        let note =
            Diagnostic::of_file(&name, "left-out", "this file of the folder has no tasks and was left out");
        return Ok(Loaded { notes: vec![note], ..Loaded::default() });
    }
    let absolute = std::path::absolute(path).map_err(cannot)?;
    load(&text, &name, format, Some(&absolute), options, settings)
}

/// Whether a file of a folder is a definition file; one that cannot be read is, so that it is told.
fn is_meant(text: &[u8], format: Format) -> bool {
    let Ok(text) = std::str::from_utf8(text) else { return format != Format::Python };
    if format == Format::Python {
        return text.lines().any(|line| line.trim_end() == "# /// task");
    }
    let source = Source::new("", text);
    formats::read(&source, format).map_or_else(
        |_| text.contains("tasks") || text.contains("timetable"),
        |node| looks_like_definitions(&node),
    )
}

fn too_large(name: &str, options: &LoadOptions) -> Diagnostics {
    let message = format!("the file is larger than {} MiB", options.max_bytes >> 20);
    Diagnostic::of_file(name, "too-large", message)
        .with_help("definitions are written by people; is it another file?")
        .into()
}

fn read_limited(from: impl Read, name: &str, options: &LoadOptions) -> Result<Vec<u8>, Diagnostics> {
    let mut text = Vec::new();
    from.take(options.max_bytes + 1)
        .read_to_end(&mut text)
        .map_err(|e| Diagnostic::of_file(name, "file", format!("the file cannot be read: {e}")))?;
    if text.len() as u64 > options.max_bytes { Err(too_large(name, options)) } else { Ok(text) }
}

fn load(
    bytes: &[u8],
    name: &str,
    format: Format,
    absolute: Option<&Path>,
    options: &LoadOptions,
    settings: &Settings,
) -> Result<Loaded, Diagnostics> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let valid = std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default();
            let source = Source::new(name, valid);
            let problem =
                Problem::new("utf-8", &(valid.len()..valid.len()), "the file is not UTF-8 from here on");
            return Err(Diagnostic::new(&source, problem.help("save it as UTF-8")).into());
        }
    };
    let source = Source::new(name, text);
    let folder = absolute.and_then(Path::parent);
    let resource = absolute.map_or_else(
        || if name == "-" { "global".into() } else { name.to_owned() },
        |p| p.display().to_string(),
    );
    let origin = Origin {
        origin: absolute.map_or_else(|| name.to_owned(), |p| p.display().to_string()),
        file: absolute.map(|p| p.display().to_string()),
        ephemeral: ephemeral_namespace(&options.host, &options.user, &resource),
    };
    let cx = Context::new(&source, options, folder, settings);
    let read = if format == Format::Python {
        Script::read(&source).map(|script| lower_script(&cx, &script, name, &origin))
    } else {
        formats::read(&source, format).map(|root| lower(&cx, &root, &origin))
    };
    let told = |problems: Vec<Problem>| {
        problems.into_iter().map(|p| Diagnostic::new(&source, p)).collect::<Vec<_>>()
    };
    let timetable = read.map_err(|problems| Diagnostics { items: told(problems) })?;
    let found = cx.found();
    match timetable {
        Some(timetable) if found.errors.is_empty() => Ok(Loaded {
            timetables: vec![timetable],
            warnings: told(found.warnings),
            notes: told(found.notes),
        }),
        _ => Err(Diagnostics { items: told(found.errors) }),
    }
}
