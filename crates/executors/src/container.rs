//! `container`: a step in a container of Docker, Podman or whatever else speaks Docker's protocol.
//!
//! ```yaml
//! - uses: container
//!   run: wc -l < /data/in.csv > /data/out.txt
//!   with: { image: "docker.io/library/alpine:3.20", volumes: ["./data:/data"], limits: { memory: 256M, cpu: 0.5 } }
//! ```
//!
//! The container is made, attached to, started, waited for, looked at and removed, in this order: an engine that
//! removes containers by itself may lose the exit code. It is removed whatever happens; what a killed node left is found
//! by its label and removed when the next node starts ([`left`]).
//!
//! `$OSTLER_OUTPUT` and `$OSTLER_SCRATCH` are mounted from the attempt's folder, so they are there when the engine is on
//! this machine.

mod engine;
mod image;
mod left;
mod settings;

use std::{
    os::unix::fs::PermissionsExt,
    path::Path,
    pin::{Pin, pin},
    time::Duration,
};

use bollard::{
    Docker,
    container::LogOutput,
    errors::Error,
    models::ContainerCreateBody,
    query_parameters::{
        AttachContainerOptions, CreateContainerOptions, KillContainerOptions, RemoveContainerOptions,
        StopContainerOptions, WaitContainerOptions,
    },
};
use futures::{Stream, StreamExt};
use ostler_execution::{CancelReason, ExecContext, ExecEnd, ExecOutcome, ExecRequest, Executor};
use ostler_model::{ErrorClass, TypedError};
use serde_json::Value;
use tokio::io::AsyncWriteExt;

use self::{engine::Engine, settings::Settings};
use crate::{
    call::Call,
    process::{Environment, Scratch, Watch, Workshop, end_of, grace},
    spawner::Exit,
};

/// How long the engine may take to do what is done at once.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long output may come after the end of a container.
const AFTERMATH: Duration = Duration::from_secs(5);
/// Longer than any container: what is waited for is ended by the call's token.
const EVER: Duration = Duration::from_secs(10 * 365 * 86_400);

/// Where the attempt's file and folder are inside.
const OUTPUT: &str = "/ostler/output";
const SCRATCH: &str = "/ostler/scratch";

/// Runs containers.
pub struct Container {
    workshop: Workshop,
}

impl Container {
    pub(crate) fn new(workshop: Workshop) -> Self {
        Self { workshop }
    }

    async fn run(&self, call: &Call) -> Result<ExecEnd, TypedError> {
        let settings = Settings::of(call)?;
        let ready = async {
            let engine = Engine::connect(settings.engine()).await?;
            image::make_ready(&engine.docker, &settings, call).await?;
            Ok::<_, TypedError>(engine)
        };
        let engine = match call.unless_cancelled(ready).await {
            Err(_) => return Ok(ExecEnd::interrupted()),
            Ok(engine) => engine?,
        };
        let scratch = self.workshop.scratch.take(None).map_err(|e| failed("the attempt's folder", &e))?;
        let mounts = if engine.is_here { mounts(&scratch)? } else { Vec::new() };
        let inside = engine.is_here.then_some((OUTPUT, SCRATCH));
        let environment = Environment::inside(&call.request, &call.folder(), inside)?;
        let token = left::mark(self.workshop.scratch.base(), &engine.address)
            .map_err(|e| failed("the mark of a container", &e))?;
        let body = settings.body(call, environment, mounts, &token, engine.is_here)?;
        let mut attempt = Attempt { docker: engine.docker, name: name(&call.request), is_there: true };
        let end = attempt.run(call, body, &settings, &scratch.output()).await;
        attempt.remove(call).await;
        end
    }
}

/// What is mounted of the attempt's folder.
fn mounts(scratch: &Scratch) -> Result<Vec<String>, TypedError> {
    // Whoever is at work inside may write; nobody else gets past the folder around them.
    let open = |path: &Path, mode: u32| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode));
    let (output, folder) = (scratch.output(), scratch.folder());
    std::fs::write(&output, "")
        .and_then(|()| open(&output, 0o666))
        .and_then(|()| open(&folder, 0o777))
        .map_err(|e| failed("the attempt's folder", &e))?;
    Ok(vec![format!("{}:{OUTPUT}", output.display()), format!("{}:{SCRATCH}", folder.display())])
}

/// The name of an attempt's container: known before it is made, so that one can be removed whose making was cut short.
fn name(request: &ExecRequest) -> String {
    let run = request.run.map_or_else(|| request.machine.0.to_string(), |run| run.to_string());
    format!("ostler-{run}-{}-{}", request.attempt, request.fence)
}

/// One container.
struct Attempt {
    docker: Docker,
    name: String,
    /// It may be there, so it has to be removed.
    is_there: bool,
}

impl Attempt {
    async fn run(
        &self,
        call: &Call,
        body: ContainerCreateBody,
        settings: &Settings,
        outputs: &Path,
    ) -> Result<ExecEnd, TypedError> {
        let started = match call.unless_cancelled(self.start(call, body)).await {
            Err(_) => return Ok(ExecEnd::interrupted()),
            Ok(started) => started?,
        };
        let mut watch = Watch::new(call, settings.capture());
        let cut_short = self.until_end(call, started, &mut watch).await?;
        let state = within(self.docker.inspect_container(&self.name, None)).await?.state.unwrap_or_default();
        let code = state.exit_code.and_then(|code| i32::try_from(code).ok());
        let (output, tail) = watch.finish_with(cut_short.is_none() && code == Some(0), outputs)?;
        if cut_short.is_some() {
            return Ok(ExecEnd { exit_code: code, ..ExecEnd::interrupted() });
        }
        let Some(code) = code else {
            return Err(TypedError::new("container", "the engine knows no exit code of the container"));
        };
        let mut end = end_of(Exit::Code(code), settings.exit_codes(), output, &tail);
        if let (ExecOutcome::Failed(error), Some(true)) = (&mut end.outcome, state.oom_killed) {
            error.message += "; it ran out of the memory that `limits.memory` gives it";
        }
        Ok(end)
    }

    /// Makes and starts it, its output attached.
    async fn start(&self, call: &Call, body: ContainerCreateBody) -> Result<Attached, TypedError> {
        let options = CreateContainerOptions { name: Some(self.name.clone()), ..Default::default() };
        let made = within(self.docker.create_container(Some(options), body)).await?;
        for warning in made.warnings {
            call.remark(&format!("the engine warns: {warning}"));
        }
        let stdin = call.request.stdin.clone();
        let options = AttachContainerOptions {
            stream: true,
            stdin: stdin.is_some(),
            stdout: true,
            stderr: true,
            ..Default::default()
        };
        // What keeps a program from starting is its own fault, and stays as it is. Podman says so at the attaching.
        let unfit = |error: TypedError| match error.class.0.as_str() {
            "container" => TypedError { class: ErrorClass::new("spawn"), ..error },
            _ => error,
        };
        let attached =
            within(self.docker.attach_container(&self.name, Some(options))).await.map_err(unfit)?;
        within(self.docker.start_container(&self.name, None)).await.map_err(unfit)?;
        let mut input = attached.input;
        let feed = async move {
            if let Some(text) = stdin {
                let _ = input.write_all(text.as_bytes()).await;
                let _ = input.shutdown().await;
            }
            // Open to the end: some engines take its closing for the end of the output.
            std::future::pending().await
        };
        Ok(Attached { output: attached.output, feed: Box::pin(feed) })
    }

    /// Hands its output on until it has ended; tells why it was ended, if it was.
    async fn until_end(
        &self,
        call: &Call,
        attached: Attached,
        watch: &mut Watch<'_>,
    ) -> Result<Option<CancelReason>, TypedError> {
        let Attached { mut output, mut feed } = attached;
        let patient = self.docker.clone().with_timeout(EVER);
        let condition = WaitContainerOptions { condition: "not-running".into() };
        let mut waiting = patient.wait_container(&self.name, Some(condition));
        let mut stopping = pin!(async {
            let reason = call.cancel.fired().await;
            if reason != CancelReason::Kill {
                let seconds = i32::try_from(grace(call).as_secs().max(1)).unwrap_or(i32::MAX);
                let options = StopContainerOptions { t: Some(seconds), ..Default::default() };
                tokio::select! {
                    _ = patient.stop_container(&self.name, Some(options)) => {}
                    () = call.cancel.killed() => {}
                }
            }
            let options = KillContainerOptions { signal: "SIGKILL".into() };
            let _ = self.docker.kill_container(&self.name, Some(options)).await;
            // It has ended, or the engine does not do what it is told.
            tokio::time::sleep(PATIENCE).await;
        });
        let mut is_open = true;
        loop {
            tokio::select! {
                chunk = output.next(), if is_open => is_open = hand_on(chunk, watch),
                ended = waiting.next() => {
                    match ended {
                        // An exit code other than nought is an error to the client of this protocol.
                        None | Some(Ok(_) | Err(Error::DockerContainerWaitError { .. })) => break,
                        Some(Err(error)) => return Err(told(&error)),
                    }
                }
                () = &mut stopping => {
                    return Err(TypedError::new("container", "the engine has not ended the container"));
                }
                () = &mut feed => {}
            }
        }
        let rest = async {
            while is_open {
                is_open = hand_on(output.next().await, watch);
            }
        };
        let _ = tokio::time::timeout(AFTERMATH, rest).await;
        Ok(call.cancel.reason())
    }

    async fn remove(&mut self, call: &Call) {
        match within(self.docker.remove_container(&self.name, Some(by_force()))).await {
            Err(error) if !error.message.contains("404") => {
                call.remark(&format!("the container {} is left: {}", self.name, error.message));
            }
            _ => self.is_there = false,
        }
    }
}

impl Drop for Attempt {
    /// For a call that nobody waits for any more.
    fn drop(&mut self) {
        if let (true, Ok(runtime)) = (self.is_there, tokio::runtime::Handle::try_current()) {
            let (docker, name) = (self.docker.clone(), std::mem::take(&mut self.name));
            runtime.spawn(async move { docker.remove_container(&name, Some(by_force())).await });
        }
    }
}

/// The ways in and out of a container.
struct Attached {
    output: Pin<Box<dyn Stream<Item = Result<LogOutput, Error>> + Send>>,
    feed: Pin<Box<dyn Future<Output = ()> + Send>>,
}

/// Whether there may be more.
fn hand_on(chunk: Option<Result<LogOutput, Error>>, watch: &mut Watch<'_>) -> bool {
    match chunk {
        Some(Ok(LogOutput::StdErr { message })) => watch.stderr(&message),
        Some(Ok(LogOutput::StdOut { message } | LogOutput::Console { message })) => watch.stdout(&message),
        Some(Ok(LogOutput::StdIn { .. })) => {}
        Some(Err(_)) | None => return false,
    }
    true
}

fn by_force() -> RemoveContainerOptions {
    RemoveContainerOptions { force: true, v: true, ..Default::default() }
}

/// What the engine does at once.
async fn within<T>(work: impl Future<Output = Result<T, Error>>) -> Result<T, TypedError> {
    match tokio::time::timeout(PATIENCE, work).await {
        Ok(done) => done.map_err(|error| told(&error)),
        Err(_) => {
            let text = format!("the engine does not answer for {} s", PATIENCE.as_secs());
            Err(TypedError::new("container.engine", text))
        }
    }
}

/// An error in the engine's words.
fn told(error: &Error) -> TypedError {
    match error {
        Error::DockerResponseServerError { status_code, message } => {
            TypedError::new("container", format!("the engine answers {status_code}: {}", message.trim()))
        }
        other => {
            let mut cause: &dyn std::error::Error = other;
            while let Some(deeper) = cause.source() {
                cause = deeper;
            }
            TypedError::new("container.engine", format!("the engine cannot be talked to: {cause}"))
        }
    }
}

fn failed(what: &str, error: &std::io::Error) -> TypedError {
    TypedError::new("spawn", format!("{what}: {error}"))
}

#[async_trait::async_trait]
impl Executor for Container {
    fn name(&self) -> &'static str {
        "container"
    }

    fn settings(&self) -> Value {
        settings::schema()
    }

    async fn clear_away(&self) {
        left::clear_away(self.workshop.scratch.base()).await;
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
