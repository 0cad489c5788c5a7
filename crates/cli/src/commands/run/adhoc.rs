//! Tasks made of what was typed.

use ostler_model::{
    Name,
    definition::{Expect, Policy, Source, StepDef, TaskDef, Timetable},
    digest::digest,
};
use serde_json::{Map, Value, json};

use crate::{context, error::CliError};

/// A shell line.
pub fn shell(line: &str) -> Result<Timetable, CliError> {
    make("cmd", line, step("shell", Some(line.to_owned()), Vec::new()))
}

/// What stands after `--`.
pub fn argv(argv: &[String]) -> Result<Timetable, CliError> {
    let first = &argv[0];
    let rest = || {
        std::iter::once(first.split_once(':').map_or("", |(_, r)| r))
            .chain(argv[1..].iter().map(String::as_str))
    };
    if first.starts_with("cmd:") {
        let line = rest().collect::<Vec<_>>().join(" ");
        return shell(line.trim());
    }
    if first.starts_with("python:") {
        let code = rest().collect::<Vec<_>>().join(" ");
        return make("python", code.trim(), step("python", Some(code.trim().to_owned()), Vec::new()));
    }
    let args = argv.iter().map(|a| Value::String(a.clone())).collect();
    make("exec", &argv.join(" "), step("exec", None, args))
}

fn step(uses: &str, run: Option<String>, args: Vec<Value>) -> StepDef {
    StepDef {
        id: Name::from_any("main"),
        name: None,
        uses: uses.to_owned(),
        // `$${{` is a literal `${{`: what was typed is code, not a template.
        run: run.map(|text| text.replace("${{", "$${{")),
        args: args
            .into_iter()
            .map(|a| match a {
                Value::String(text) => Value::String(text.replace("${{", "$${{")),
                other => other,
            })
            .collect(),
        kwargs: Map::new(),
        with: Map::new(),
        needs: Vec::new(),
        condition: None,
        env: std::collections::BTreeMap::new(),
        env_file: Vec::new(),
        // A command typed at a prompt sees what the prompt sees.
        inherit_env: vec!["*".to_owned()],
        runs_on: Vec::new(),
        working_directory: None,
        stdin: None,
        matrix: None,
        continue_on_error: false,
        retry: None,
        timeout: None,
        outputs: None,
        expect: Expect::default(),
        idempotent: None,
    }
}

/// A timetable with the one task, in the namespace of what this user types on this host. The same text in the same
/// folder is the same task, so its runs are one history.
fn make(kind: &str, text: &str, step: StepDef) -> Result<Timetable, CliError> {
    if text.is_empty() {
        return Err(CliError::usage("there is nothing to run: the command is empty"));
    }
    let folder = std::env::current_dir()
        .map_err(|e| CliError::usage(format!("the current folder cannot be used: {e}")))?
        .to_string_lossy()
        .into_owned();
    let short = &digest(&json!([kind, text, folder]))[..8];
    let task = TaskDef {
        id: Name::from_any(&format!("{kind}-{short}")),
        name: text.chars().take(80).collect(),
        description: String::new(),
        enabled: true,
        owner: None,
        tags: Vec::new(),
        authors: Vec::new(),
        source: Source { file: None, line: None, folder: Some(folder) },
        timezone: context::machine_zone(),
        inputs: None,
        outputs: None,
        policy: Policy::default(),
        activation: ostler_model::definition::Activation::default(),
        schedules: Vec::new(),
        triggers: Vec::new(),
        steps: vec![step],
        on_success: Vec::new(),
        on_failure: Vec::new(),
        expect: Expect::default(),
        calendars: std::collections::BTreeMap::new(),
    };
    let namespace = digest(&json!([ostler_embedded::host_name(), context::user(), "commands"]));
    Ok(Timetable {
        namespace: Name::from_any(&namespace),
        ephemeral: true,
        origin: "command line".to_owned(),
        calendars: std::collections::BTreeMap::new(),
        tasks: vec![task],
        presets: Vec::new(),
        sinks: Vec::new(),
    })
}
