//! Sets limits on itself and becomes the command.
//!
//! Limits must hold from the first instruction of the command, but setting them in the spawner would bind the
//! spawner, and running code between fork and exec needs `unsafe`. So a command with limits is started as this
//! binary once more, which costs a second exec and only such commands pay it.

use std::{
    ffi::OsString,
    os::unix::process::CommandExt,
    process::{Command, ExitCode},
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::wire::Limits;

/// The argument after which the limits, the program and its arguments follow.
pub(super) const LAUNCH: &str = "--launch-with-limits";

/// The argument after which the soft limit of open files follows.
pub(super) const OPEN_FILES: &str = "--open-files";

/// Sets the soft limit of open files to what the arguments say, which all that is started inherits.
pub(super) fn limit_open_files(args: &[OsString]) {
    let value = args.iter().position(|arg| arg == OPEN_FILES).and_then(|at| args.get(at + 1));
    let Some(soft) = value.and_then(|text| text.to_str()?.parse::<u64>().ok()) else { return };
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let limit = Rlimit { current: Some(maximum.map_or(soft, |hard| soft.min(hard))), maximum };
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        eprintln!("ostler: the limit of open files stays as it is: {error}");
    }
}

/// Becomes the command; returns only when that failed.
pub(super) fn launch(args: &[OsString]) -> ExitCode {
    let [limits, program, args @ ..] = args else {
        eprintln!("ostler: nothing to launch");
        return ExitCode::from(126);
    };
    let limits =
        limits.to_str().and_then(|text| serde_json::from_str::<Limits>(text).ok()).unwrap_or_default();
    if let Err(error) = apply(&limits) {
        eprintln!("ostler: cannot set the limits: {error}");
        return ExitCode::from(126);
    }
    let error = Command::new(program).args(args).exec();
    eprintln!("ostler: cannot start {}: {error}", program.to_string_lossy());
    ExitCode::from(if error.kind() == std::io::ErrorKind::NotFound { 127 } else { 126 })
}

fn apply(limits: &Limits) -> rustix::io::Result<()> {
    let wanted = [
        (Resource::Cpu, limits.cpu_seconds),
        (Resource::As, limits.memory),
        (Resource::Nofile, limits.files),
        (Resource::Nproc, limits.processes),
        (Resource::Fsize, limits.file_size),
    ];
    for (resource, limit) in wanted {
        let Some(limit) = limit else { continue };
        // A hard limit a second above lets SIGXCPU be caught.
        let hard = if resource == Resource::Cpu { limit + 1 } else { limit };
        setrlimit(resource, Rlimit { current: Some(limit), maximum: Some(hard) })?;
    }
    Ok(())
}
