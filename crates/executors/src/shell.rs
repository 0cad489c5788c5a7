//! `shell`: a script for a shell. `exec`: a program with arguments, no shell in between.
//!
//! ```yaml
//! - uses: shell
//!   run: |
//!     echo "rows=$(wc -l < "$INPUT_FILE")" >> "$OSTLER_OUTPUT"
//!   with: { shell: bash, limits: { memory: 1G, cpu: 10m } }
//! - uses: exec
//!   args: [rsync, -a, /srv/, backup:/srv/]
//!   with: { exit_codes: { success: [0, 24] } }
//! ```

use ostler_execution::{ExecContext, ExecEnd, ExecRequest, Executor};
use ostler_model::TypedError;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    call::Call,
    process::{Command, ProcessSettings, Workshop, common_schema},
};

/// Linux takes single arguments below 128 KiB; longer scripts go by a file.
const LONGEST_SCRIPT: usize = 100 * 1024;

/// Runs a script by `sh -e -c`, or by the shell of `with.shell`.
pub struct Shell {
    pub(crate) workshop: Workshop,
}

/// Runs a program with arguments.
pub struct Exec {
    pub(crate) workshop: Workshop,
}

#[derive(Deserialize)]
struct ShellSettings {
    shell: Option<OneOrMany>,
    #[serde(flatten)]
    process: ProcessSettings,
}

#[derive(Deserialize)]
struct ExecSettings {
    argv: Option<Vec<Value>>,
    #[serde(flatten)]
    process: ProcessSettings,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl Shell {
    async fn run(&self, call: &Call) -> Result<ExecEnd, TypedError> {
        let settings: ShellSettings = call.settings()?;
        let request = &call.request;
        let script = request.run_text.clone().filter(|text| !text.trim().is_empty()).ok_or_else(|| {
            TypedError::new(
                "settings",
                "`shell` needs a script in `run`; to start a program without a shell, use `exec`",
            )
        })?;
        no_kwargs(call)?;
        let (mut argv, known) = match settings.shell {
            None => (vec!["sh".into(), "-e".into()], true),
            Some(OneOrMany::One(shell)) => {
                let name = shell.rsplit('/').next().unwrap_or_default();
                let known = ["sh", "bash", "dash", "ash", "ksh", "zsh", "mksh"].contains(&name);
                (if known { vec![shell, "-e".into()] } else { vec![shell] }, known)
            }
            Some(OneOrMany::Many(argv)) => (argv, false),
        };
        let many = request.with.get("shell").is_some_and(Value::is_array);
        let args = request.args.iter().map(word).collect::<Result<Vec<_>, _>>()?;
        let mut by_file = None;
        if script.len() > LONGEST_SCRIPT && known && args.is_empty() {
            by_file = Some(("script", script));
        } else {
            if !many {
                argv.push("-c".into());
            }
            argv.push(script);
            if !args.is_empty() {
                // `$0` of the script; the arguments are `$1` and so on.
                argv.push(request.step.clone());
                argv.extend(args);
            }
        }
        let command = Command { argv, script: by_file, settings: settings.process };
        self.workshop.run_step(call, command).await
    }
}

impl Exec {
    async fn run(&self, call: &Call) -> Result<ExecEnd, TypedError> {
        let settings: ExecSettings = call.settings()?;
        no_kwargs(call)?;
        if call.request.run_text.as_ref().is_some_and(|text| !text.trim().is_empty()) {
            let text = "`exec` takes the program and its arguments from `args`; a command line in `run` needs `uses: shell`";
            return Err(TypedError::new("settings", text));
        }
        let words = settings.argv.unwrap_or_default();
        let argv = words.iter().chain(&call.request.args).map(word).collect::<Result<Vec<_>, _>>()?;
        if argv.is_empty() {
            return Err(TypedError::new(
                "settings",
                "`exec` needs a program: `args: [program, argument, ...]`",
            ));
        }
        self.workshop.run_step(call, Command { argv, script: None, settings: settings.process }).await
    }
}

fn no_kwargs(call: &Call) -> Result<(), TypedError> {
    if call.request.kwargs.is_empty() {
        return Ok(());
    }
    let text =
        format!("`{}` takes no `kwargs`; hand values over by `env`, `args` or `stdin`", call.request.uses);
    Err(TypedError::new("settings", text))
}

/// An argument as a text: lists and objects as JSON.
pub(crate) fn word(value: &Value) -> Result<String, TypedError> {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    if text.contains('\0') {
        return Err(TypedError::new("settings", "an argument holds a NUL character"));
    }
    Ok(text)
}

#[async_trait::async_trait]
impl Executor for Shell {
    fn name(&self) -> &'static str {
        "shell"
    }

    fn keep_until(&self, boot: std::time::Duration) {
        self.workshop.spawner.keep_until(boot);
    }

    fn settings(&self) -> Value {
        shell_schema()
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

#[async_trait::async_trait]
impl Executor for Exec {
    fn name(&self) -> &'static str {
        "exec"
    }

    fn keep_until(&self, boot: std::time::Duration) {
        self.workshop.spawner.keep_until(boot);
    }

    fn settings(&self) -> Value {
        exec_schema()
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

pub(crate) fn shell_schema() -> Value {
    common_schema(
        "Settings of a shell step.",
        json!({
            "shell": {
                "oneOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}],
                "description": "The shell; default `sh`. A name runs `NAME -e -c SCRIPT` (without -e where the shell has none); a list gets the script as its last argument.",
            },
        }),
    )
}

pub(crate) fn exec_schema() -> Value {
    common_schema(
        "Settings of an exec step.",
        json!({
            "argv": {"type": "array", "items": {"type": ["string", "number", "boolean"]}, "description": "The program and its first arguments; `args` follow."},
        }),
    )
}
