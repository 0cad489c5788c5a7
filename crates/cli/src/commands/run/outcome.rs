//! What came of runs: said to people and programs, and as an exit code.

use std::io::IsTerminal;

use comfy_table::Cell;
use ostler_api::RunView;
use ostler_model::RunState;
use serde::Serialize;

use crate::{
    context,
    error::{CANCELLED, CONFLICT, FAILED, TIMED_OUT},
    output::{self, Output},
};

/// What `run` prints as its one document.
#[derive(Serialize)]
struct Summary {
    ok: bool,
    runs: Vec<RunView>,
}

/// Says what came of runs.
pub(super) fn tell(runs: Vec<RunView>, refused: bool, form: Output) {
    let ok = runs.iter().all(RunView::is_good) && !refused;
    let summary = Summary { ok, runs };
    if form.is_machine() {
        output::print(&form.text(&summary));
    } else if let [only] = summary.runs.as_slice() {
        tell_one(only);
    } else {
        output::print(&tell_many(&summary.runs));
    }
}

pub(super) fn exit_code(runs: &[RunView], refused: bool, interrupted: bool, payload: bool) -> u8 {
    if let (true, [only]) = (payload, runs)
        && let Some(code) = only.exit_code
    {
        return u8::try_from(code).unwrap_or(FAILED);
    }
    let bad: Vec<_> = runs.iter().filter(|r| !r.is_good()).collect();
    if interrupted && bad.iter().any(|r| r.state == RunState::Cancelled) {
        return CANCELLED;
    }
    match bad.as_slice() {
        [] if refused => CONFLICT,
        [] => 0,
        bad if bad.iter().all(|r| r.state == RunState::TimedOut) => TIMED_OUT,
        bad if bad.iter().all(|r| r.state == RunState::Cancelled) => CANCELLED,
        bad if bad.iter().all(|r| r.state == RunState::Skipped) => CONFLICT,
        _ => FAILED,
    }
}

/// One line on standard error: standard output is the payload's.
fn tell_one(run: &RunView) {
    if run.is_good() && run.state == RunState::Succeeded && !std::io::stderr().is_terminal() {
        return;
    }
    let remark = crate::commands::runs::remark(run);
    let dash = if remark.is_empty() { "" } else { ": " };
    eprintln!("{} {} in {}{dash}{remark}", run.id, run.state, output::duration(run.duration_ms));
    if let Some(detail) = run.error.as_ref().filter(|_| !run.is_good()).and_then(|e| e.detail.as_ref()) {
        eprintln!("{detail}");
    }
}

fn tell_many(runs: &[RunView]) -> String {
    let now = context::now();
    let rows = runs
        .iter()
        .map(|run| {
            vec![
                Cell::new(&run.task),
                output::state(run.state, run.is_good()),
                Cell::new(if run.is_good() { "ok" } else { "NOT OK" }),
                Cell::new(output::moment(run.started_at, now)),
                Cell::new(output::duration(run.duration_ms)),
                Cell::new(if run.kind == "flow" {
                    format!("{} steps", run.steps.len())
                } else {
                    run.attempts.to_string()
                }),
                Cell::new(crate::commands::runs::remark(run)),
            ]
        })
        .collect();
    let good = runs.iter().filter(|r| r.is_good()).count();
    let table = output::table(&["task", "state", "", "started", "took", "attempts", "what"], rows);
    format!("\n{table}\n\n{good} of {} ended as they should", runs.len())
}
