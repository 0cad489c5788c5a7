//! `python`: a function, a file or a snippet, called with JSON and answering with JSON.
//!
//! ```yaml
//! - uses: python
//!   with: { entrypoint: "shop.reports:daily" }   # a function of an importable module; also: file + function
//!   kwargs: { day: "${{ inputs.day }}" }
//! - uses: python
//!   run: |
//!     print(len(inputs["rows"]))
//!     return {"count": len(inputs["rows"])}
//! ```
//!
//! A function gets `args` and `kwargs`, or, without both, those inputs that it has parameters for. A file without
//! `function` has its `run` called if it defines one at its top level, and is run as a script otherwise. A snippet
//! finds the dict `inputs` and answers by `return`, or by setting `output` or `result`. Coroutines are awaited.
//! `import ostler` gives `progress`, `output`, `mask` and `inputs` (unless a package of that name is installed).
//!
//! **Warm workers.** Entrypoints run in processes that are kept: same interpreter, working directory, declared
//! environment, user and limits mean the same pool. What differs from run to run (`OSTLER_*`, `INPUT_*`) is set for the
//! call and restored. A worker takes one call at a time and goes when it is told to end, when its code changed on disk,
//! when a call left threads or processes behind, after 10 000 calls or a minute without one. Module-level state
//! survives from call to call; `with: { warm: false }` gives every call a fresh process, which is the default for
//! files and snippets, and always so for scripts, steps with `stdin` and steps with dependencies unless `warm: true`.
//!
//! **Dependencies** come from a PEP 723 block in the file or snippet, or from `with.dependencies`. Each distinct set of
//! (interpreter, dependencies, index options) has one environment under the node's cache, built once by uv when it is
//! installed and by venv and pip otherwise.

mod interpreter;
mod pool;
mod script;
mod worker;

use std::path::PathBuf;

use interpreter::Interpreters;
use ostler_execution::{ExecContext, ExecEnd, ExecOutcome, ExecRequest, Executor};
use ostler_model::TypedError;
use pool::{Key, Pool};
use script::Needs;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use worker::{Answer, Told, Worker, WorkerSpec};

use crate::{
    call::Call,
    files,
    process::{Environment, Prepared, ProcessSettings, Watch, Workshop, common_schema, exit_failure},
    spawner::SpawnSpec,
};

/// Runs Python.
pub struct Python {
    workshop: Workshop,
    interpreters: Interpreters,
    cache: PathBuf,
    pool: Pool,
}

#[derive(Deserialize)]
struct Settings {
    entrypoint: Option<String>,
    file: Option<String>,
    function: Option<String>,
    python: Option<String>,
    #[serde(default)]
    dependencies: Vec<String>,
    requires_python: Option<String>,
    #[serde(default)]
    find_links: Vec<String>,
    index_url: Option<String>,
    #[serde(default)]
    extra_index_url: Vec<String>,
    no_index: Option<bool>,
    warm: Option<bool>,
    #[serde(flatten)]
    process: ProcessSettings,
}

/// What is called.
enum Target {
    Entrypoint(String),
    File(PathBuf, String),
    Script(PathBuf),
    Snippet(String),
}

impl Python {
    pub(crate) fn new(workshop: Workshop, cache: PathBuf) -> Self {
        let cache = cache.join("python");
        let interpreters = Interpreters::new(workshop.clone(), &cache);
        Self { workshop, interpreters, cache, pool: Pool::default() }
    }

    async fn run(&self, call: &Call) -> Result<ExecEnd, TypedError> {
        let settings: Settings = call.settings()?;
        let request = &call.request;
        let root = call.folder();
        let (target, needs) = target(call, &settings)?;
        let prepared = Prepared::new(&self.workshop, call, &settings.process)?;
        let declared = Environment::declared(request, Some(&root))?;
        let python = self.interpreters.find(call, &declared, settings.python.as_deref(), &needs).await;
        if call.cancel.reason().is_some() {
            return Ok(ExecEnd::interrupted());
        }
        let python = python?;

        let is_script = matches!(target, Target::Script(_));
        let by_default = matches!(target, Target::Entrypoint(_)) && needs.dependencies.is_empty();
        let warm = settings.warm.unwrap_or(by_default) && !is_script && request.stdin.is_none();
        let of_attempt: Map<String, Value> = prepared
            .environment
            .variables
            .iter()
            .filter(|(name, value)| declared.variables.get(*name) != Some(*value))
            .map(|(name, value)| (name.clone(), value.clone().into()))
            .collect();
        let body = body(call, &target, warm, of_attempt);

        let key = Key {
            python: python.clone(),
            cwd: root.clone(),
            environment: declared.variables.clone(),
            process: json!([request.with.get("user"), request.with.get("umask"), request.with.get("limits")])
                .to_string(),
        };
        let mut watch = Watch::new(call, settings.process.capture());
        loop {
            let kept = if warm { self.pool.take(&key) } else { None };
            let was_kept = kept.is_some();
            let mut worker = match kept {
                Some(worker) if worker.waits() => worker,
                Some(_) => continue,
                None => self.start(call, &key, &settings.process, &prepared).await?,
            };
            match worker.perform(call, &mut watch, &body).await? {
                Answer::Ended { told, reusable } => {
                    if reusable && warm {
                        self.pool.put(key, worker);
                    }
                    return finish(watch, told, &prepared);
                }
                Answer::CutShort => return Ok(ExecEnd::interrupted()),
                Answer::NotBegun if was_kept => {}
                Answer::NotBegun => {
                    let text = format!("{} did not take the call", key.python.display());
                    return Err(TypedError::new("spawn", text));
                }
                Answer::Died(exit) => {
                    let said = prepared.startup_text();
                    if let Some(last) = said.lines().last() {
                        let text = format!("{} did not start: {last}", key.python.display());
                        return Err(TypedError { detail: Some(said), ..TypedError::new("spawn", text) });
                    }
                    return Err(exit_failure(exit, &watch.finish_quietly()));
                }
            }
        }
    }

    async fn start(
        &self,
        call: &Call,
        key: &Key,
        process: &ProcessSettings,
        prepared: &Prepared,
    ) -> Result<Worker, TypedError> {
        let library = worker::library(&self.cache)
            .map_err(|error| TypedError::new("spawn", format!("{}: {error}", self.cache.display())))?;
        let mut env = key.environment.clone();
        // What the interpreter itself prints, before and after our worker's time, in UTF-8 and at once.
        env.entry("PYTHONUTF8".into()).or_insert_with(|| "1".into());
        let spawn = SpawnSpec {
            env: env.into_iter().collect(),
            cwd: Some(key.cwd.clone()),
            user: process.user()?,
            umask: process.umask()?,
            limits: process.limits()?,
            stdin: prepared.stdin(call.request.stdin.as_deref())?,
            stderr: Some(prepared.startup_file()?),
            ..SpawnSpec::default()
        };
        let spec = WorkerSpec { python: key.python.clone(), library, spawn };
        Worker::start(&self.workshop.spawner, spec)
            .await
            .map_err(|error| TypedError::new("spawn", error.to_string()))
    }
}

fn target(call: &Call, settings: &Settings) -> Result<(Target, Needs), TypedError> {
    let request = &call.request;
    let root = call.folder();
    let fault = |text: &str| TypedError::new("settings", text);
    let code = request.run_text.as_ref().filter(|code| !code.trim().is_empty());
    let (target, mut needs) = match (&settings.entrypoint, &settings.file, code) {
        (Some(entrypoint), None, None) => (Target::Entrypoint(entrypoint.clone()), Needs::default()),
        (None, Some(file), None) => {
            let path = files::confine(&root, file).map_err(|fault| TypedError::new("settings", fault))?;
            let text = std::fs::read_to_string(&path)
                .map_err(|error| TypedError::new("spawn", format!("{}: {error}", path.display())))?;
            let needs = script::needs(&text, path.parent().unwrap_or(&root))?;
            let defines_run =
                text.lines().any(|line| line.starts_with("def run(") || line.starts_with("async def run("));
            let function = settings.function.clone().or_else(|| defines_run.then(|| "run".into()));
            (function.map_or(Target::Script(path.clone()), |function| Target::File(path, function)), needs)
        }
        (None, None, Some(code)) => (Target::Snippet(code.clone()), script::needs(code, &root)?),
        (None, None, None) => {
            return Err(fault("`python` needs code in `run`, or `with.entrypoint`, or `with.file`"));
        }
        _ => return Err(fault("`python` takes one of `run`, `with.entrypoint` and `with.file`")),
    };
    if settings.function.is_some() && settings.file.is_none() {
        return Err(fault("`with.function` goes with `with.file`"));
    }
    needs.dependencies.extend(settings.dependencies.clone());
    needs.find_links.extend(settings.find_links.iter().map(|path| root.join(path)));
    needs.extra_index_url.extend(settings.extra_index_url.clone());
    needs.index_url = settings.index_url.clone().or(needs.index_url);
    needs.no_index = settings.no_index.unwrap_or(needs.no_index);
    needs.requires_python = settings.requires_python.clone().or(needs.requires_python);
    Ok((target, needs))
}

fn body(call: &Call, target: &Target, warm: bool, env: Map<String, Value>) -> Vec<u8> {
    let request = &call.request;
    let inputs = if request.inputs.is_null() { json!({}) } else { request.inputs.clone() };
    let mut body = json!({
        "warm": warm, "env": env, "inputs": inputs, "args": request.args, "kwargs": request.kwargs,
    });
    let own = match target {
        Target::Entrypoint(target) => json!({"kind": "entrypoint", "target": target}),
        Target::File(path, function) => json!({"kind": "file", "target": path, "function": function}),
        Target::Script(path) => json!({"kind": "script", "target": path}),
        Target::Snippet(code) => json!({"kind": "snippet", "code": code}),
    };
    if let (Value::Object(body), Value::Object(own)) = (&mut body, own) {
        body.extend(own);
    }
    body.to_string().into_bytes()
}

/// The result and what was handed on beside it.
fn finish(watch: Watch<'_>, told: Told, prepared: &Prepared) -> Result<ExecEnd, TypedError> {
    let failed = told.class.is_some();
    let (mut outputs, tail) = watch.finish_with(!failed, &prepared.output_file())?;
    if let Some(class) = told.class {
        let detail = told.detail.or_else(|| (!tail.is_empty()).then(|| tail.join("\n")));
        let error = TypedError { detail, exit_code: told.exit_code, ..TypedError::new(&class, told.message) };
        return Ok(ExecEnd { output: Value::Object(outputs), ..ExecEnd::failed(error) });
    }
    let output = match told.result {
        Value::Null => Value::Object(outputs),
        Value::Object(result) => {
            outputs.extend(result);
            Value::Object(outputs)
        }
        other if outputs.is_empty() => other,
        other => {
            outputs.insert("result".into(), other);
            Value::Object(outputs)
        }
    };
    Ok(ExecEnd { outcome: ExecOutcome::Succeeded, output, exit_code: None })
}

#[async_trait::async_trait]
impl Executor for Python {
    fn name(&self) -> &'static str {
        "python"
    }

    fn keep_until(&self, boot: std::time::Duration) {
        self.workshop.spawner.keep_until(boot);
    }

    fn settings(&self) -> Value {
        schema()
    }

    async fn execute(&self, request: ExecRequest, context: ExecContext) -> ExecEnd {
        let call = match Call::open(request, context) {
            Ok(call) => call,
            Err(error) => return ExecEnd::failed(error),
        };
        let end = self.run(&call).await.unwrap_or_else(ExecEnd::failed);
        call.close(end)
    }
}

pub(crate) fn schema() -> Value {
    let texts = |what: &str| json!({"type": "array", "items": {"type": "string"}, "description": what});
    let text = |what: &str| json!({"type": "string", "description": what});
    common_schema(
        "Settings of a Python step.",
        json!({
            "entrypoint": text("The function to call, as `package.module:function`; modules are looked for in the working directory first."),
            "file": text("A Python file inside of the working directory."),
            "function": text("The function of `file` to call; default: `run`, if the file defines it at its top level, else the file is run as a script."),
            "python": text("The interpreter: a version as \"3.12\" (in quotes: 3.10 is the number 3.1), a name on the PATH, or a path; default `python3`."),
            "dependencies": texts("Packages beside those of the file's PEP 723 block, as in \"rich>=13\"."),
            "requires_python": text("Versions of Python that will do, as in \">=3.10\"."),
            "find_links": texts("Folders with wheels, relative to the working directory."),
            "index_url": text("The package index."),
            "extra_index_url": texts("More package indexes."),
            "no_index": {"type": "boolean", "description": "Take packages from `find_links` only."},
            "warm": {"type": "boolean", "description": "Keep the process for the next call; default: true for entrypoints without dependencies."},
        }),
    )
}
