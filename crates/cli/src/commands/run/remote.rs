//! Runs on a server: started there, shown here as if they were here.

use std::{
    io::Write,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use ostler_api::{Api, BulkFilter, LogLine, LogRequest, LogStream, RunView, Started, TaskRef};
use ostler_client::{Blocking, Server};
use ostler_model::Uid;

use super::{
    Run, Target,
    outcome::{exit_code, tell},
    prepare::{detach, prepare, request},
};
use crate::{
    commands::{Global, serve::signals},
    context,
    error::CliError,
    live::Lines,
    remote,
    when::When,
};

/// How long one answer is waited for; then the next is asked for.
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs that are followed at a time; others are shown when their turn comes.
const FOLLOWED: usize = 32;

pub(super) fn run(
    global: &Global,
    run: &Run,
    target: Target,
    when: Option<When>,
    server: &Server,
) -> Result<u8, CliError> {
    if matches!(when, Some(When::Trigger(_))) {
        return Err(CliError::usage("`--when` belongs to this machine; a server fires what is pushed to it")
            .hint("write the rhythm into a file under `on: schedule:` and `ostler push` it"));
    }
    let api = Arc::new(remote::connect(server)?);
    let (tasks, inputs) = prepare(&*api, run, target)?;
    if run.detach {
        return detach(global, run, &*api, &tasks, inputs);
    }
    let started = api.start_many(tasks.iter().map(|task| request(run, task, &inputs)).collect())?;
    let mut refused = false;
    let mut followed = Vec::new();
    for (task, started) in tasks.iter().zip(&started) {
        match started {
            Started::Started { id } => followed.push((*id, task.clone())),
            Started::AlreadyRunning { id } => {
                refused = true;
                eprintln!("{task} runs already: {id}");
            }
            Started::Repeated { id } => {
                eprintln!("{task} was started before with this key: {id}");
                followed.push((*id, task.clone()));
            }
            Started::Skipped { .. } => {}
        }
    }
    let lines = match (global.output.is_machine(), tasks.len() > 1) {
        (true, _) => Lines::Hidden,
        (false, true) => Lines::Labelled,
        (false, false) => Lines::Raw,
    };
    let interrupted = context::runtime()?.block_on(follow_all(&api, followed, lines))?;
    let mut runs: Vec<RunView> = Vec::with_capacity(started.len());
    for started in &started {
        runs.push(api.run(started.id())?);
    }
    let code = exit_code(&runs, refused, interrupted, run.exit_code == "payload");
    tell(runs, refused, global.output);
    Ok(code)
}

/// Shows what runs write until all have ended; the first Ctrl-C asks them to end, the second leaves them alone.
async fn follow_all(api: &Arc<Blocking>, runs: Vec<(Uid, TaskRef)>, lines: Lines) -> Result<bool, CliError> {
    let ids: Vec<Uid> = runs.iter().map(|(id, _)| *id).collect();
    let waiting = Arc::new(Mutex::new(runs.into_iter()));
    let mut followers = tokio::task::JoinSet::new();
    for _ in 0..FOLLOWED.min(ids.len()) {
        let (api, waiting) = (api.clone(), waiting.clone());
        followers.spawn_blocking(move || -> Result<(), CliError> {
            loop {
                let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).next();
                let Some((id, task)) = next else { return Ok(()) };
                follow(&*api, id, &task, lines)?;
            }
        });
    }
    let mut signals = signals();
    let mut interrupted = false;
    loop {
        tokio::select! {
            ended = followers.join_next() => match ended {
                None => return Ok(interrupted),
                Some(Ok(ended)) => ended?,
                Some(Err(error)) => return Err(CliError::usage(format!("a run could not be followed: {error}"))),
            },
            () = signals.next() => {
                if interrupted {
                    // What follows cannot be waited for: it may be in the middle of an answer.
                    std::process::exit(i32::from(crate::error::CANCELLED));
                }
                interrupted = true;
                eprintln!("ending what runs; once more to leave it alone");
                let which = BulkFilter { ids: ids.clone(), reason: "Ctrl-C".into(), ..BulkFilter::default() };
                let api = api.clone();
                let asked = tokio::task::spawn_blocking(move || api.cancel(&which)).await;
                if let Ok(Err(error)) = asked {
                    eprintln!("error: {error}");
                }
            }
        }
    }
}

/// Shows what one run writes until it has ended.
fn follow(api: &dyn Api, id: Uid, task: &TaskRef, lines: Lines) -> Result<(), CliError> {
    let mut asked = LogRequest::default();
    loop {
        let page = api.logs(id, &asked, PATIENCE)?;
        if lines != Lines::Hidden {
            page.items.iter().for_each(|line| show(line, task, lines));
        }
        if page.complete {
            return Ok(());
        }
        asked.after = Some(page.next);
    }
}

fn show(line: &LogLine, task: &TaskRef, lines: Lines) {
    let label = match (lines, &line.step) {
        (Lines::Labelled, Some(step)) => format!("{}/{step} | ", task.task),
        (Lines::Labelled, None) => format!("{} | ", task.task),
        _ => String::new(),
    };
    let text = format!("{label}{}\n", line.line);
    // A reader that has gone away (`| head`) is no error of the run.
    let _ = match line.stream {
        LogStream::Stdout => std::io::stdout().lock().write_all(text.as_bytes()),
        LogStream::Stderr | LogStream::System => std::io::stderr().lock().write_all(text.as_bytes()),
    };
}
