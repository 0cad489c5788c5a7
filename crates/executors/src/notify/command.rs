//! A notification by a command of the task's own.

use ostler_execution::{Cancel, CancelReason, ExecOutcome};
use ostler_model::TypedError;
use serde_json::{Value, json};

use super::{Delivery, PATIENCE, wrong};
use crate::{
    call::Call,
    process::{Command, Workshop},
};

/// The program and its arguments.
pub(super) fn argv(words: &[Value]) -> Result<Vec<String>, TypedError> {
    let argv = words.iter().map(crate::shell::word).collect::<Result<Vec<_>, _>>()?;
    if argv.first().is_none_or(|program| program.is_empty()) {
        return Err(wrong("`command` names no program; write `command: [program, argument]`"));
    }
    Ok(argv)
}

/// Runs it with the call's standard input; `None` when `cancel` fired before its end.
pub(super) async fn run(
    workshop: &Workshop,
    call: &Call,
    cancel: &Cancel,
    argv: Vec<String>,
) -> Option<Delivery> {
    let program = argv[0].clone();
    let ending = async {
        let reason = tokio::select! {
            biased;
            reason = cancel.fired() => reason,
            () = tokio::time::sleep(PATIENCE) => CancelReason::TimedOut,
        };
        call.cancel.fire(reason);
        cancel.killed().await;
        call.cancel.fire(CancelReason::Kill);
        std::future::pending().await
    };
    let ended = tokio::select! {
        biased;
        never = ending => never,
        ended = workshop.run_step(call, Command::plain(argv)) => ended,
    };
    let end = match ended {
        Ok(end) => end,
        Err(error) => return Some(Delivery { output: Value::Null, fault: Some(error) }),
    };
    let output = end.exit_code.map_or(Value::Null, |code| json!({ "exit_code": code }));
    match end.outcome {
        ExecOutcome::Succeeded => {
            call.remark(&format!("command: {program} ended well"));
            Some(Delivery::made(output))
        }
        ExecOutcome::Failed(error) => Some(Delivery { output, fault: Some(error) }),
        ExecOutcome::Interrupted if cancel.reason().is_some() => None,
        ExecOutcome::Interrupted => Some(Delivery { output, ..Delivery::late() }),
    }
}
