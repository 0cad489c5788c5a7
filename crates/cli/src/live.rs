//! Shows runs while they go: lines of output, progress, and a table at the end.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    io::Write,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use ostler_embedded::LineObserver;
use ostler_engine::Notice;
use ostler_execution::{Progress, Stream};
use ostler_model::MachineId;
use tokio::sync::mpsc;

/// How lines of output reach the terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lines {
    /// As they are: one run, for people and pipes.
    Raw,
    /// With `task | ` before each.
    Labelled,
    /// Not at all: standard output is one document.
    Hidden,
}

/// Shows runs while they go.
pub struct Live {
    lines: Lines,
    bars: MultiProgress,
    state: Mutex<State>,
    ended: mpsc::UnboundedSender<MachineId>,
}

#[derive(Default)]
struct State {
    /// Bars of runs that are shown, by their top machine.
    bars: HashMap<MachineId, ProgressBar>,
    /// The top machine of each part.
    tops: HashMap<MachineId, MachineId>,
    /// Names of the runs whose end is waited for.
    names: BTreeMap<MachineId, String>,
    /// Ends that came before anyone asked.
    early: HashSet<MachineId>,
}

impl Live {
    /// Shows runs this way; bars only on a terminal. The receiver gets the ids of top machines that have ended.
    pub fn new(lines: Lines, bars: bool) -> (Self, mpsc::UnboundedReceiver<MachineId>) {
        let (ended, receiver) = mpsc::unbounded_channel();
        let bars = if bars {
            MultiProgress::new()
        } else {
            MultiProgress::with_draw_target(indicatif::ProgressDrawTarget::hidden())
        };
        (Self { lines, bars, state: Mutex::default(), ended }, receiver)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows a run from now on.
    pub fn follow(&self, id: MachineId, name: &str) {
        let mut state = self.state();
        if state.early.remove(&id) {
            let _ = self.ended.send(id);
            return;
        }
        let bar = self.bars.add(ProgressBar::new_spinner());
        if let Ok(style) = ProgressStyle::with_template("{spinner:.cyan} {prefix} {wide_msg:.dim} {elapsed}")
        {
            bar.set_style(style);
        }
        bar.set_prefix(name.to_owned());
        bar.set_message("queued");
        if !self.bars.is_hidden() {
            bar.enable_steady_tick(Duration::from_millis(100));
        }
        state.bars.insert(id, bar);
        state.names.insert(id, name.to_owned());
    }

    /// What the node tells.
    pub fn notice(&self, notice: &Notice) {
        match notice {
            Notice::Executing { id, parent, attempt, step, .. } => {
                let top = parent.unwrap_or(*id);
                let mut state = self.state();
                state.tops.insert(*id, top);
                if let Some(bar) = state.bars.get(&top) {
                    let again = if *attempt > 1 { format!(", attempt {attempt}") } else { String::new() };
                    bar.set_message(if parent.is_some() {
                        format!("step {step}{again}")
                    } else {
                        format!("running{again}")
                    });
                }
            }
            Notice::Committed { id, parent, ended, event, body, .. } => {
                let mut state = self.state();
                if let (Some(_), None) = (ended, parent) {
                    match state.bars.remove(id) {
                        Some(bar) => {
                            bar.finish_and_clear();
                            let _ = self.ended.send(*id);
                        }
                        None => {
                            state.early.insert(*id);
                        }
                    }
                } else if event == "attempt_failed" {
                    let top = parent.unwrap_or(*id);
                    let body: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
                    let message = body["error"]["message"].as_str().unwrap_or_default();
                    if let Some(bar) = state.bars.get(&top) {
                        bar.set_message(format!("attempt {} failed: {message}", body["attempt"]));
                    }
                }
            }
            Notice::Executed { .. } | Notice::Lost { .. } | Notice::Stored { .. } | Notice::Turned { .. } => {
            }
            Notice::LeaseLost => tracing::error!("the lease is lost: what this node held is others' now"),
            Notice::StoreTrouble(error) => tracing::warn!(%error, "the store refused; trying again"),
            Notice::Stale { id } => tracing::warn!(machine = id.0, "a commit came too late and was refused"),
        }
    }

    /// Takes all bars away.
    pub fn clear(&self) {
        let _ = self.bars.clear();
    }
}

impl LineObserver for Live {
    fn line(&self, _: MachineId, task: &str, step: &str, stream: Stream, line: &[u8]) {
        if self.lines == Lines::Hidden {
            return;
        }
        self.bars.suspend(|| {
            let label = match (self.lines, step == task || step.is_empty()) {
                (Lines::Labelled, true) => format!("{task} | "),
                (Lines::Labelled, false) => format!("{task}/{step} | "),
                _ => String::new(),
            };
            // A reader that has gone away (`| head`) is no error of the run.
            let write = |out: &mut dyn Write| {
                let _ = out.write_all(label.as_bytes());
                let _ = out.write_all(line);
                let _ = out.write_all(b"\n");
                let _ = out.flush();
            };
            match stream {
                Stream::Stdout => write(&mut std::io::stdout().lock()),
                Stream::Stderr | Stream::System => write(&mut std::io::stderr().lock()),
            }
        });
    }

    fn progress(&self, run: MachineId, progress: &Progress) {
        let state = self.state();
        let top = state.tops.get(&run).copied().unwrap_or(run);
        if let Some(bar) = state.bars.get(&top) {
            let count = match (progress.done, progress.total) {
                (Some(done), Some(total)) => format!("{done}/{total} "),
                (Some(done), None) => format!("{done} "),
                _ => String::new(),
            };
            bar.set_message(format!("{count}{}", progress.message.as_deref().unwrap_or_default()));
        }
    }
}
