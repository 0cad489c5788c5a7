//! One command from its start to its end.

use std::{
    collections::VecDeque,
    fs::{self, File},
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use ostler_execution::{CancelReason, ExecEnd, ExecOutcome, OUTPUT_LIMIT, Stream};
use ostler_model::TypedError;
use serde_json::{Map, Value, json};
use tokio::{io::AsyncReadExt, net::unix::pipe};

use super::{
    commands,
    environment::Environment,
    lines::{Cut, Lines},
    outputs,
    scratch::{Scratch, Shelf},
    settings::{Capture, ExitCodes, Meaning, ProcessSettings},
};
use crate::{
    call::Call,
    spawner::{Exit, SpawnError, SpawnSpec, Spawner, find_program},
};

/// Between the polite signal and the kill, unless the task says otherwise.
const GRACE: Duration = Duration::from_secs(10);
/// Lines of standard error on the record of a failure.
const TAIL_LINES: usize = 20;
const TAIL_LINE: usize = 2000;
/// After the end of a command no more than a full pipe is read: who still holds the pipe is not of the command.
const AFTERMATH: usize = 1 << 20;

/// What processes need.
#[derive(Clone)]
pub(crate) struct Workshop {
    pub(crate) spawner: Spawner,
    /// Where folders of attempts are made.
    pub(crate) scratch: Arc<Shelf>,
}

/// What to run.
pub(crate) struct Command {
    /// Program and arguments.
    pub(crate) argv: Vec<String>,
    /// A file to be written before, in the attempt's folder, whose path becomes the last argument.
    pub(crate) script: Option<(&'static str, String)>,
    pub(crate) settings: ProcessSettings,
}

impl Command {
    /// Without any settings.
    pub(crate) fn plain(argv: Vec<String>) -> Self {
        Self { argv, script: None, settings: ProcessSettings::default() }
    }
}

/// How a helper of ours ended.
pub(crate) struct Aside {
    pub(crate) exit: Exit,
    /// Its standard output.
    pub(crate) text: String,
    /// Its last lines of standard error.
    pub(crate) tail: Vec<String>,
}

impl Workshop {
    /// Runs a command as a step: the exit code decides, outputs come from `$OSTLER_OUTPUT` and captured text.
    pub(crate) async fn run_step(&self, call: &Call, command: Command) -> Result<ExecEnd, TypedError> {
        let settings = &command.settings;
        let prepared = Prepared::new(self, call, settings)?;
        let request = &call.request;
        let user = settings.user()?;
        let mut argv = command.argv;
        if let Some((name, text)) = command.script {
            let path = prepared.scratch.file(name);
            let written = fs::write(&path, text).and_then(|()| {
                user.map_or(Ok(()), |u| std::os::unix::fs::chown(&path, Some(u.uid), Some(u.gid)))
            });
            written.map_err(|error| io_error("the script", &error))?;
            argv.push(path.to_string_lossy().into_owned());
        }
        let spec = SpawnSpec {
            user,
            umask: settings.umask()?,
            limits: settings.limits()?,
            stdin: prepared.stdin(request.stdin.as_deref())?,
            ..spec(&argv, &prepared.environment, prepared.cwd.clone())?
        };
        if call.cancel.reason().is_some() {
            return Ok(ExecEnd::interrupted());
        }
        let mut watch = Watch::new(call, settings.capture());
        let (exit, cut_short) = watch.until_end(&self.spawner, spec, &argv[0]).await?;

        let exit_code = if let Exit::Code(code) = exit { Some(code) } else { None };
        let good = cut_short.is_none() && exit == Exit::Code(0);
        let (output, tail) = watch.finish_with(good, &prepared.output_file())?;
        if cut_short.is_some() {
            return Ok(ExecEnd { exit_code, ..ExecEnd::interrupted() });
        }
        Ok(end_of(exit, &settings.exit_codes, output, &tail))
    }

    /// Runs a helper of ours: its standard output is kept, its standard error goes to the log as our remarks.
    pub(crate) async fn run_aside(&self, call: &Call, command: Command) -> Result<Aside, TypedError> {
        let cwd = call.request.working_directory.as_ref().map(PathBuf::from);
        let environment = Environment::declared(&call.request, cwd.as_deref())?.for_installers();
        let spec = spec(&command.argv, &environment, cwd)?;
        let mut watch = Watch { aside: true, ..Watch::new(call, Some(Capture::Text)) };
        let (exit, _) = watch.until_end(&self.spawner, spec, &command.argv[0]).await?;
        watch.end_lines();
        let text = String::from_utf8_lossy(&watch.captured).into_owned();
        Ok(Aside { exit, text, tail: watch.tail.into() })
    }
}

/// The end of a command by its exit.
pub(crate) fn end_of(
    exit: Exit,
    codes: &ExitCodes,
    mut output: Map<String, Value>,
    tail: &[String],
) -> ExecEnd {
    let exit_code = if let Exit::Code(code) = exit { Some(code) } else { None };
    let good = |output| ExecEnd { outcome: ExecOutcome::Succeeded, output: Value::Object(output), exit_code };
    let class = match exit_code.map(|code| codes.meaning(code)) {
        None => None,
        Some(Meaning::Success) => return good(output),
        Some(Meaning::Skipped) => {
            output.insert("skipped".into(), true.into());
            return good(output);
        }
        Some(Meaning::Failure(class)) => Some(class),
    };
    let mut error = exit_failure(exit, tail);
    if let Some(class) = class {
        error.class = ostler_model::ErrorClass(class);
    }
    ExecEnd { output: Value::Object(output), ..ExecEnd::failed(error) }
}

fn io_error(what: &str, error: &io::Error) -> TypedError {
    TypedError::new("spawn", format!("{what}: {error}"))
}

fn spec(argv: &[String], environment: &Environment, cwd: Option<PathBuf>) -> Result<SpawnSpec, TypedError> {
    let Some((name, args)) = argv.split_first() else {
        return Err(TypedError::new("settings", "there is no command to run"));
    };
    let search = environment.variables.get("PATH").map_or("", String::as_str);
    let program = find_program(name, search, cwd.as_deref()).map_err(|error| spawn_error(name, &error))?;
    Ok(SpawnSpec {
        program,
        arg0: Some(name.clone()),
        args: args.to_vec(),
        env: environment.variables.clone().into_iter().collect(),
        cwd,
        ..SpawnSpec::default()
    })
}

/// The folder, files and environment of an attempt.
pub(crate) struct Prepared {
    scratch: Scratch,
    cwd: Option<PathBuf>,
    pub(crate) environment: Environment,
}

impl Prepared {
    pub(crate) fn new(
        workshop: &Workshop,
        call: &Call,
        settings: &ProcessSettings,
    ) -> Result<Self, TypedError> {
        let cwd = call.request.working_directory.as_ref().map(PathBuf::from);
        if let Some(cwd) = cwd.as_ref().filter(|cwd| !cwd.is_dir()) {
            return Err(TypedError::new(
                "spawn",
                format!("the working directory {} does not exist", cwd.display()),
            ));
        }
        let scratch = workshop.scratch.take(settings.user()?).map_err(|error| {
            io_error(&format!("the scratch folder in {}", workshop.scratch.base().display()), &error)
        })?;
        let environment = Environment::of(&call.request, cwd.as_deref(), &scratch)?;
        Ok(Self { scratch, cwd, environment })
    }

    pub(crate) fn output_file(&self) -> PathBuf {
        self.scratch.output()
    }

    /// Standard input is a file: it can neither block the child nor us.
    pub(crate) fn stdin(&self, text: Option<&str>) -> Result<Option<OwnedFd>, TypedError> {
        let Some(text) = text else { return Ok(None) };
        let open = || {
            let path = self.scratch.file("stdin");
            fs::write(&path, text)?;
            let file = File::open(&path)?;
            fs::remove_file(&path)?;
            Ok(file.into())
        };
        open().map(Some).map_err(|error| io_error("standard input", &error))
    }

    /// A file for what an interpreter says before it can talk to us.
    pub(crate) fn startup_file(&self) -> Result<OwnedFd, TypedError> {
        let file = File::create(self.scratch.file("startup"));
        file.map(Into::into).map_err(|error| io_error("a file for errors", &error))
    }

    /// What it said.
    pub(crate) fn startup_text(&self) -> String {
        fs::read_to_string(self.scratch.file("startup")).unwrap_or_default()
    }
}

/// Reads what a command writes and acts on it.
pub(crate) struct Watch<'c> {
    call: &'c Call,
    capture: Option<Capture>,
    /// A helper of ours: keep its standard output to ourselves.
    aside: bool,
    captured: Vec<u8>,
    too_much: bool,
    pub(crate) outputs: Map<String, Value>,
    tail: VecDeque<String>,
    stdout: Lines,
    stderr: Lines,
}

impl<'c> Watch<'c> {
    pub(crate) fn new(call: &'c Call, capture: Option<Capture>) -> Self {
        Self {
            call,
            capture,
            aside: false,
            captured: Vec::new(),
            too_much: false,
            outputs: Map::new(),
            tail: VecDeque::new(),
            stdout: Lines::default(),
            stderr: Lines::default(),
        }
    }

    /// A pipe whose writing end the child gets.
    pub(crate) fn pipe() -> io::Result<(pipe::Receiver, OwnedFd)> {
        let (read, write) = io::pipe()?;
        Ok((pipe::Receiver::from_owned_fd(read.into())?, write.into()))
    }

    /// Starts a command and reads it to its end.
    async fn until_end(
        &mut self,
        spawner: &Spawner,
        spec: SpawnSpec,
        name: &str,
    ) -> Result<(Exit, Option<CancelReason>), TypedError> {
        let (mut stdout, stdout_end) = Self::pipe().map_err(|error| io_error("a pipe", &error))?;
        let (mut stderr, stderr_end) = Self::pipe().map_err(|error| io_error("a pipe", &error))?;
        let spec = SpawnSpec { stdout: Some(stdout_end), stderr: Some(stderr_end), ..spec };
        let mut child = spawner.spawn(spec).await.map_err(|error| spawn_error(name, &error))?;

        let grace = grace(self.call);
        let (mut out, mut err) = (vec![0; 64 * 1024], vec![0; 16 * 1024]);
        let (mut out_open, mut err_open) = (true, true);
        let (mut cut_short, mut killed) = (None, false);
        let exit = loop {
            tokio::select! {
                read = stdout.read(&mut out), if out_open => {
                    let read = read.unwrap_or(0);
                    out_open = read > 0;
                    self.stdout(&out[..read]);
                }
                read = stderr.read(&mut err), if err_open => {
                    let read = read.unwrap_or(0);
                    err_open = read > 0;
                    self.stderr(&err[..read]);
                }
                exit = child.wait() => break exit.map_err(|error| TypedError::new("spawner", error.to_string()))?,
                reason = self.call.cancel.fired(), if cut_short.is_none() => {
                    cut_short = Some(reason);
                    killed = reason == CancelReason::Kill;
                    child.end_with_grace(if killed { Duration::ZERO } else { grace });
                }
                () = self.call.cancel.killed(), if cut_short.is_some() && !killed => {
                    killed = true;
                    child.end_with_grace(Duration::ZERO);
                }
            }
        };
        self.drain(out_open.then_some(&stdout), err_open.then_some(&stderr));
        Ok((exit, cut_short))
    }

    /// Reads what is in the pipes now, but does not wait for their end: whoever still holds them is not of the call.
    pub(crate) fn drain(&mut self, stdout: Option<&pipe::Receiver>, stderr: Option<&pipe::Receiver>) {
        let mut chunk = vec![0; 64 * 1024];
        for (pipe, is_stdout) in [(stdout, true), (stderr, false)] {
            let mut left = if pipe.is_some() { AFTERMATH } else { 0 };
            // The pipes are non-blocking, and a plain read needs no news of readiness.
            while let Some(read) =
                pipe.and_then(|pipe| rustix::io::read(pipe, &mut chunk).ok()).filter(|n| *n > 0 && left > 0)
            {
                left = left.saturating_sub(read);
                if is_stdout { self.stdout(&chunk[..read]) } else { self.stderr(&chunk[..read]) }
            }
        }
    }

    pub(crate) fn stdout(&mut self, bytes: &[u8]) {
        let mut lines = std::mem::take(&mut self.stdout);
        lines.feed(bytes, |cut| self.cut_stdout(cut));
        self.stdout = lines;
    }

    pub(crate) fn stderr(&mut self, bytes: &[u8]) {
        let mut lines = std::mem::take(&mut self.stderr);
        lines.feed(bytes, |cut| self.cut_stderr(cut));
        self.stderr = lines;
    }

    fn end_lines(&mut self) {
        let mut lines = std::mem::take(&mut self.stdout);
        lines.finish(|cut| self.cut_stdout(cut));
        let mut lines = std::mem::take(&mut self.stderr);
        lines.finish(|cut| self.cut_stderr(cut));
    }

    fn cut_stdout(&mut self, cut: Cut<'_>) {
        let (bytes, end): (_, &[u8]) = match cut {
            Cut::Line(line) => (line, b"\n"),
            Cut::Piece(piece) => (piece, b""),
        };
        match cut {
            _ if self.aside => {}
            Cut::Line(line) => match commands::parse(line) {
                Some(command) => return self.obey(command),
                None => self.call.line(Stream::Stdout, line),
            },
            Cut::Piece(piece) => self.call.piece(Stream::Stdout, piece),
        }
        if self.capture.is_some() && !self.too_much {
            self.captured.extend_from_slice(bytes);
            self.captured.extend_from_slice(end);
            self.too_much = self.captured.len() > OUTPUT_LIMIT;
        }
    }

    fn cut_stderr(&mut self, cut: Cut<'_>) {
        let stream = if self.aside { Stream::System } else { Stream::Stderr };
        match cut {
            Cut::Line(line) => {
                self.call.line(stream, line);
                if self.tail.len() == TAIL_LINES {
                    self.tail.pop_front();
                }
                self.tail.push_back(String::from_utf8_lossy(&line[..line.len().min(TAIL_LINE)]).into_owned());
            }
            Cut::Piece(piece) => self.call.piece(stream, piece),
        }
    }

    fn obey(&mut self, command: commands::Command) {
        match command {
            commands::Command::Progress(progress) => self.call.report(progress),
            commands::Command::Output(name, value) => {
                outputs::put(&mut self.outputs, &name, &value, self.call.request.output_schema.as_ref());
            }
            commands::Command::Mask(secret) => self.call.mask(&secret),
        }
    }

    /// The outputs, and the last lines of standard error.
    pub(crate) fn finish_with(
        mut self,
        ended_well: bool,
        file: &Path,
    ) -> Result<(Map<String, Value>, Vec<String>), TypedError> {
        self.end_lines();
        // Of a command that failed, its own error is what people want to see, not that of its outputs.
        match outputs::read(file, self.call.request.output_schema.as_ref()) {
            Ok(read) => self.outputs.extend(read),
            Err(error) if ended_well => return Err(error),
            Err(_) => {}
        }
        match self.captured() {
            Ok(Some(stdout)) => {
                self.outputs.insert("stdout".into(), stdout);
            }
            Ok(None) => {}
            Err(error) if ended_well => return Err(error),
            Err(_) => {}
        }
        Ok((self.outputs, self.tail.into()))
    }

    /// The last lines of standard error, when nothing else counts.
    pub(crate) fn finish_quietly(mut self) -> Vec<String> {
        self.end_lines();
        self.tail.into()
    }

    fn captured(&self) -> Result<Option<Value>, TypedError> {
        let Some(capture) = self.capture else { return Ok(None) };
        if self.too_much {
            let text = format!(
                "the captured standard output has more than {OUTPUT_LIMIT} bytes; write it to a file instead"
            );
            return Err(TypedError::new("output", text));
        }
        let text = String::from_utf8_lossy(&self.captured);
        Ok(Some(match capture {
            Capture::Text => json!(text.trim_end_matches('\n')),
            Capture::Lines => json!(text.lines().collect::<Vec<_>>()),
            Capture::Json => serde_json::from_str(&text).map_err(|error| {
                TypedError::new(
                    "output",
                    format!("standard output is not the JSON that `capture: json` asks for: {error}"),
                )
            })?,
        }))
    }
}

/// How long a call has between the polite signal and the kill.
pub(crate) fn grace(call: &Call) -> Duration {
    if call.request.grace.is_zero() { GRACE } else { call.request.grace }
}

/// The error of a command that ended badly.
pub(crate) fn exit_failure(exit: Exit, tail: &[String]) -> TypedError {
    let (class, text, exit_code) = match exit {
        Exit::Code(code) => {
            (format!("exit:{code}"), format!("the command ended with exit code {code}"), Some(code))
        }
        Exit::Signal(signal) => {
            let name = signal_name(signal);
            (format!("signal:{name}"), format!("the command was ended by signal {name}"), None)
        }
    };
    let message = match tail.iter().rev().find(|line| !line.trim().is_empty()) {
        Some(last) => format!("{text}: {last}"),
        None => text,
    };
    let detail = (!tail.is_empty()).then(|| tail.join("\n"));
    TypedError { detail, exit_code, ..TypedError::new(&class, message) }
}

/// `KILL`, `SEGV`; the number for those without a name.
fn signal_name(signal: i32) -> String {
    const NAMES: [&str; 31] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
        "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
        "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
    ];
    usize::try_from(signal - 1)
        .ok()
        .and_then(|at| NAMES.get(at))
        .map_or_else(|| signal.to_string(), |n| (*n).into())
}

/// The error of a command that did not start, with what would help.
fn spawn_error(name: &str, error: &SpawnError) -> TypedError {
    let program = Path::new(name).file_name().and_then(|n| n.to_str()).unwrap_or(name);
    let hint = match (error, program) {
        (SpawnError::NotFound { .. }, "bash" | "zsh" | "fish" | "ksh" | "dash") => format!(
            "; install it (`apt install {program}`, `dnf install {program}`, `apk add {program}`) or use `shell: sh`"
        ),
        (SpawnError::NotFound { .. }, "python" | "python3") => {
            "; install Python 3.9 or newer, or name an interpreter with `with.python`".into()
        }
        (SpawnError::NotFound { .. }, "node") => "; install Node.js".into(),
        (SpawnError::NotFound { path: Some(_), .. }, _) => "; install it, or give its whole path".into(),
        (SpawnError::Refused { errno: Some(7), .. }, _) => {
            "; the arguments or the environment are too long, hand them over by `stdin` or a file".into()
        }
        (SpawnError::Refused { errno: Some(8), .. }, _) => {
            "; a script needs a first line like `#!/bin/sh`".into()
        }
        (SpawnError::Refused { errno: Some(13), .. }, _) => {
            "; is it executable? `chmod +x` makes it so".into()
        }
        _ => String::new(),
    };
    let class = if matches!(error, SpawnError::Lost) { "spawner" } else { "spawn" };
    TypedError::new(class, format!("{error}{hint}"))
}
