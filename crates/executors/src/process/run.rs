//! One command from its start to its end.

use std::{
    collections::VecDeque,
    fs::{self, File},
    io::{self, ErrorKind},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    time::Duration,
};

use ostler_execution::{CancelReason, ExecEnd, ExecOutcome, OUTPUT_LIMIT, Stream};
use ostler_model::TypedError;
use serde_json::{Map, Value, json};
use tokio::{io::AsyncReadExt, net::unix::pipe};

use super::{
    commands, outputs,
    environment::Environment,
    lines::{Cut, Lines},
    scratch::Scratch,
    settings::{Capture, Meaning, ProcessSettings},
};
use crate::{
    call::Call,
    spawner::{Child, Exit, SpawnError, SpawnSpec, Spawner, find_program},
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
    pub(crate) scratch: PathBuf,
}

/// What to run.
pub(crate) struct Command {
    /// Program and arguments.
    pub(crate) argv: Vec<String>,
    /// A file to be written before, in the attempt's folder, whose path becomes the last argument.
    pub(crate) script: Option<(&'static str, String)>,
    /// Environment on top of the declared.
    pub(crate) env: Vec<(String, String)>,
    pub(crate) settings: ProcessSettings,
}

/// How a command ended.
pub(crate) struct Finished {
    pub(crate) exit: Exit,
    /// The cancel token fired while it ran.
    pub(crate) cut_short: Option<CancelReason>,
    pub(crate) outputs: Map<String, Value>,
    /// The last lines of standard error.
    pub(crate) tail: Vec<String>,
}

impl Workshop {
    /// Runs a command as a step: the exit code decides, outputs come from `$OSTLER_OUTPUT` and captured text.
    pub(crate) async fn run_step(&self, call: &Call, command: Command) -> Result<ExecEnd, TypedError> {
        let exit_codes = command.settings.exit_codes.clone();
        let finished = self.run(call, command).await?;
        let exit_code = match finished.exit {
            Exit::Code(code) => Some(code),
            Exit::Signal(_) => None,
        };
        if finished.cut_short.is_some() {
            return Ok(ExecEnd { exit_code, ..ExecEnd::interrupted() });
        }
        let mut output = finished.outputs.clone();
        match finished.exit {
            Exit::Signal(_) => return Err(exit_error(&finished, None)),
            Exit::Code(code) => match exit_codes.meaning(code) {
                Meaning::Success => {}
                Meaning::Skipped => {
                    output.insert("skipped".into(), true.into());
                }
                Meaning::Failure(class) => {
                    let error = exit_error(&finished, Some(&class));
                    return Ok(ExecEnd { output: Value::Object(output), ..ExecEnd::failed(error) });
                }
            },
        }
        Ok(ExecEnd { outcome: ExecOutcome::Succeeded, output: Value::Object(output), exit_code })
    }

    /// Runs a command to its end and reads its outputs.
    pub(crate) async fn run(&self, call: &Call, command: Command) -> Result<Finished, TypedError> {
        let request = &call.request;
        let cwd = request.working_directory.as_ref().map(PathBuf::from);
        if let Some(cwd) = cwd.as_ref().filter(|cwd| !cwd.is_dir()) {
            return Err(TypedError::new("spawn", format!("the working directory {} does not exist", cwd.display())));
        }
        let settings = &command.settings;
        let user = settings.user()?;
        let io_error = |what: &str, error: io::Error| TypedError::new("spawn", format!("{what}: {error}"));
        let scratch = Scratch::make(&self.scratch, user).map_err(|e| io_error("the scratch folder", e))?;
        let mut environment = Environment::of(request, cwd.as_deref(), &scratch)?;
        environment.variables.extend(command.env);

        let mut argv = command.argv;
        if let Some((name, text)) = command.script {
            let path = scratch.file(name);
            fs::write(&path, text).map_err(|e| io_error("the script", e))?;
            if let Some(user) = user {
                std::os::unix::fs::chown(&path, Some(user.uid), Some(user.gid)).map_err(|e| io_error("the script", e))?;
            }
            argv.push(path.to_string_lossy().into_owned());
        }
        let Some((name, args)) = argv.split_first() else {
            return Err(TypedError::new("settings", "there is no command to run"));
        };
        let search = environment.variables.get("PATH").cloned().unwrap_or_default();
        let program = find_program(name, &search, cwd.as_deref()).map_err(|e| spawn_error(name, &e))?;
        let stdin = stdin_file(&scratch, request.stdin.as_deref()).map_err(|e| io_error("standard input", e))?;
        let (stdout, stdout_end) = pipe_end().map_err(|e| io_error("a pipe", e))?;
        let (stderr, stderr_end) = pipe_end().map_err(|e| io_error("a pipe", e))?;
        let spec = SpawnSpec {
            program,
            arg0: Some(name.clone()),
            args: args.to_vec(),
            env: environment.variables.into_iter().collect(),
            cwd,
            user,
            umask: settings.umask()?,
            limits: settings.limits()?,
            stdin,
            stdout: Some(stdout_end),
            stderr: Some(stderr_end),
            channel: None,
        };
        if let Some(reason) = call.cancel.reason() {
            return Ok(Finished { exit: Exit::Code(-1), cut_short: Some(reason), outputs: Map::new(), tail: Vec::new() });
        }
        let child = self.spawner.spawn(spec).await.map_err(|e| spawn_error(name, &e))?;
        let mut watch = Watch::new(call, settings.capture());
        let (exit, cut_short) = watch.until_end(child, stdout, stderr).await?;
        watch.finish(exit, cut_short, &scratch.output())
    }
}

/// A pipe whose writing end the child gets.
fn pipe_end() -> io::Result<(pipe::Receiver, OwnedFd)> {
    let (read, write) = io::pipe()?;
    Ok((pipe::Receiver::from_owned_fd(read.into())?, write.into()))
}

/// Standard input is a file: it can neither block the child nor us.
fn stdin_file(scratch: &Scratch, text: Option<&str>) -> io::Result<Option<OwnedFd>> {
    let Some(text) = text else { return Ok(None) };
    let path = scratch.file("stdin");
    fs::write(&path, text)?;
    let file = File::open(&path)?;
    fs::remove_file(&path)?;
    Ok(Some(file.into()))
}

/// Reads what a command writes and acts on it.
struct Watch<'c> {
    call: &'c Call,
    capture: Option<Capture>,
    captured: Vec<u8>,
    too_much: bool,
    outputs: Map<String, Value>,
    tail: VecDeque<String>,
    lines: [Lines; 2],
}

impl<'c> Watch<'c> {
    fn new(call: &'c Call, capture: Option<Capture>) -> Self {
        Self {
            call,
            capture,
            captured: Vec::new(),
            too_much: false,
            outputs: Map::new(),
            tail: VecDeque::new(),
            lines: Default::default(),
        }
    }

    async fn until_end(
        &mut self,
        mut child: Child,
        mut stdout: pipe::Receiver,
        mut stderr: pipe::Receiver,
    ) -> Result<(Exit, Option<CancelReason>), TypedError> {
        let grace = if self.call.request.grace.is_zero() { GRACE } else { self.call.request.grace };
        let (mut out, mut err) = (vec![0; 64 * 1024], vec![0; 16 * 1024]);
        let (mut out_open, mut err_open) = (true, true);
        let (mut cut_short, mut killed) = (None, false);
        let exit = loop {
            tokio::select! {
                read = stdout.read(&mut out), if out_open => {
                    let read = read.unwrap_or(0);
                    out_open = read > 0;
                    self.take(Stream::Stdout, &out[..read]);
                }
                read = stderr.read(&mut err), if err_open => {
                    let read = read.unwrap_or(0);
                    err_open = read > 0;
                    self.take(Stream::Stderr, &err[..read]);
                }
                exit = child.wait() => break exit.map_err(|e| TypedError::new("spawner", e.to_string()))?,
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
        for (stream, pipe, open) in [(Stream::Stdout, &stdout, out_open), (Stream::Stderr, &stderr, err_open)] {
            let mut left = if open { AFTERMATH } else { 0 };
            while left > 0 {
                match pipe.try_read(&mut out) {
                    Ok(0) => break,
                    Ok(read) => {
                        left = left.saturating_sub(read);
                        self.take(stream, &out[..read]);
                    }
                    // The pipe is empty; or readiness was not known yet, and then a plain read tells.
                    Err(error) if error.kind() == ErrorKind::WouldBlock => match rustix::io::read(pipe, &mut out) {
                        Ok(read) if read > 0 => {
                            left = left.saturating_sub(read);
                            self.take(stream, &out[..read]);
                        }
                        _ => break,
                    },
                    Err(_) => break,
                }
            }
        }
        Ok((exit, cut_short))
    }

    fn take(&mut self, stream: Stream, bytes: &[u8]) {
        let mut lines = std::mem::take(&mut self.lines[usize::from(stream == Stream::Stderr)]);
        lines.feed(bytes, |cut| self.cut(stream, cut));
        self.lines[usize::from(stream == Stream::Stderr)] = lines;
    }

    fn cut(&mut self, stream: Stream, cut: Cut<'_>) {
        match (stream, cut) {
            (Stream::Stdout, Cut::Line(line)) => {
                if let Some(command) = commands::parse(line) {
                    return self.obey(command);
                }
                self.call.line(stream, line);
                self.keep(line, b"\n");
            }
            (Stream::Stdout, Cut::Piece(piece)) => {
                self.call.piece(stream, piece);
                self.keep(piece, b"");
            }
            (_, Cut::Line(line)) => {
                self.call.line(stream, line);
                if self.tail.len() == TAIL_LINES {
                    self.tail.pop_front();
                }
                self.tail.push_back(String::from_utf8_lossy(&line[..line.len().min(TAIL_LINE)]).into_owned());
            }
            (_, Cut::Piece(piece)) => self.call.piece(stream, piece),
        }
    }

    fn keep(&mut self, bytes: &[u8], end: &[u8]) {
        if self.capture.is_some() && !self.too_much {
            self.captured.extend_from_slice(bytes);
            self.captured.extend_from_slice(end);
            self.too_much = self.captured.len() > OUTPUT_LIMIT;
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

    fn finish(mut self, exit: Exit, cut_short: Option<CancelReason>, file: &Path) -> Result<Finished, TypedError> {
        for stream in [Stream::Stdout, Stream::Stderr] {
            let mut lines = std::mem::take(&mut self.lines[usize::from(stream == Stream::Stderr)]);
            lines.finish(|cut| self.cut(stream, cut));
        }
        let ended_well = cut_short.is_none() && exit == Exit::Code(0);
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
        Ok(Finished { exit, cut_short, outputs: self.outputs, tail: self.tail.into() })
    }

    fn captured(&self) -> Result<Option<Value>, TypedError> {
        let Some(capture) = self.capture else { return Ok(None) };
        if self.too_much {
            let text = format!("the captured standard output has more than {OUTPUT_LIMIT} bytes; write it to a file instead");
            return Err(TypedError::new("output", text));
        }
        let text = String::from_utf8_lossy(&self.captured);
        Ok(Some(match capture {
            Capture::Text => json!(text.trim_end_matches('\n')),
            Capture::Lines => json!(text.lines().collect::<Vec<_>>()),
            Capture::Json => serde_json::from_str(&text).map_err(|error| {
                TypedError::new("output", format!("standard output is not the JSON that `capture: json` asks for: {error}"))
            })?,
        }))
    }
}

/// The error of a command that ended badly.
pub(crate) fn exit_error(finished: &Finished, class: Option<&str>) -> TypedError {
    let (own, text, exit_code) = match finished.exit {
        Exit::Code(code) => (format!("exit:{code}"), format!("the command ended with exit code {code}"), Some(code)),
        Exit::Signal(signal) => {
            let name = signal_name(signal);
            (format!("signal:{name}"), format!("the command was ended by signal {name}"), None)
        }
    };
    let message = match finished.tail.iter().rev().find(|line| !line.trim().is_empty()) {
        Some(last) => format!("{text}: {last}"),
        None => text,
    };
    let detail = (!finished.tail.is_empty()).then(|| finished.tail.join("\n"));
    TypedError { detail, exit_code, ..TypedError::new(class.unwrap_or(&own), message) }
}

/// `KILL`, `SEGV`; the number for those without a name.
pub(crate) fn signal_name(signal: i32) -> String {
    const NAMES: [&str; 31] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM",
        "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF",
        "WINCH", "IO", "PWR", "SYS",
    ];
    usize::try_from(signal - 1).ok().and_then(|at| NAMES.get(at)).map_or_else(|| signal.to_string(), |n| (*n).into())
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
        (SpawnError::Refused { errno: Some(8), .. }, _) => "; a script needs a first line like `#!/bin/sh`".into(),
        (SpawnError::Refused { errno: Some(13), .. }, _) => "; is it executable? `chmod +x` makes it so".into(),
        _ => String::new(),
    };
    let class = if matches!(error, SpawnError::Lost) { "spawner" } else { "spawn" };
    TypedError::new(class, format!("{error}{hint}"))
}
