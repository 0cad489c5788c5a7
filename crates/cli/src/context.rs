//! What commands share: the store they work on, files they read, who asks.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use jiff::Timestamp;
use ostler_api::Api;
use ostler_clock::{Clock, SystemClock};
use ostler_embedded::{Embedded, Place};
use ostler_service::Actor;
use ostler_timetable::{LoadOptions, Loaded};

use crate::{
    commands::Global,
    error::{CliError, USAGE},
    sources::Source,
};

/// Files that are taken when none is named.
const DEFAULT_FILES: [&str; 2] = ["ostler.yaml", "supertask.yaml"];

/// Where the store is.
pub fn place(global: &Global) -> Place {
    global.store.as_deref().map_or_else(Place::default_place, Place::of)
}

/// What answers a command that looks or writes and does not run anything: a server, where one is named, else the
/// store.
pub fn api(global: &Global) -> Result<Box<dyn Api>, CliError> {
    api_as(global, actor())
}

/// The same, of the store as somebody else; a server knows its callers by their tokens.
pub fn api_as(global: &Global, actor: Actor) -> Result<Box<dyn Api>, CliError> {
    match crate::remote::server(global)? {
        Some(server) => Ok(Box::new(crate::remote::connect(&server)?)),
        None => Ok(Box::new(Embedded::open(place(global), Arc::new(SystemClock))?.local(actor))),
    }
}

/// Whether an option stands on the command line.
pub fn is_option_given(flag: &str) -> bool {
    std::env::args()
        .take_while(|a| a != "--")
        .any(|a| a == flag || a.strip_prefix(flag).is_some_and(|r| r.starts_with('=')))
}

/// What time it is here.
pub fn now() -> Timestamp {
    SystemClock.now()
}

/// Who asks.
pub fn actor() -> Actor {
    Actor::local(&user())
}

/// The name of the user.
pub fn user() -> String {
    ["USER", "LOGNAME"]
        .iter()
        .find_map(|name| std::env::var(name).ok().filter(|v| !v.is_empty()))
        .unwrap_or_else(|| format!("uid{}", ostler_embedded::user_id()))
}

/// The file that is taken when none is named.
pub fn default_file() -> Result<PathBuf, CliError> {
    DEFAULT_FILES.iter().map(PathBuf::from).find(|path| path.exists()).ok_or_else(|| {
        CliError::new(
            USAGE,
            "bad_input",
            format!("no file was named, and this folder has no {}", DEFAULT_FILES.join(" or ")),
        )
        .hint("name one, or write a first one with `ostler init`")
    })
}

/// What definition files are read with.
pub fn load_options() -> LoadOptions {
    LoadOptions {
        executors: ostler_executors::settings(),
        machine_zone: machine_zone(),
        host: ostler_embedded::host_name(),
        user: user(),
        ..LoadOptions::default()
    }
}

/// The zone of this machine.
pub fn machine_zone() -> String {
    linked_zone().unwrap_or_else(|| jiff::tz::TimeZone::system().iana_name().unwrap_or("UTC").to_owned())
}

/// The name that `/etc/localtime` leads to, without a look at the zone itself: that reads all folders of the zone
/// database first, which a command that asks for no time need not wait for.
fn linked_zone() -> Option<String> {
    if std::env::var_os("TZ").is_some() {
        return None;
    }
    let file = std::fs::read_link("/etc/localtime").ok()?;
    let (_, name) = file.to_str()?.split_once("zoneinfo/")?;
    Some(name.to_owned())
}

/// Reads a definition file, a folder of them, a document at an https address, or standard input (`-`).
pub fn load(path: &Path) -> Result<Loaded, CliError> {
    Ok(Source::parse(path)?.load()?.0)
}

/// Starts logging to standard error.
pub fn start_logging(global: &Global) -> Result<(), CliError> {
    let filter = tracing_subscriber::EnvFilter::try_new(&global.log_level)
        .map_err(|e| CliError::usage(format!("`--log-level {}`: {e}", global.log_level)))?;
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    // A second call (tests) keeps the first.
    let _ = if global.output.is_machine() { builder.json().try_init() } else { builder.try_init() };
    Ok(())
}

/// The file of secrets.
pub fn secrets_file() -> PathBuf {
    ostler_embedded::config_dir().join("secrets.env")
}

/// The secrets of this process.
pub fn secrets() -> Result<Arc<ostler_embedded::LocalSecrets>, CliError> {
    let loaded = ostler_embedded::LocalSecrets::load(Some(&secrets_file()), std::env::vars());
    loaded.map(Arc::new).map_err(|e| CliError::usage(e.to_string()))
}

/// The executors of this process. What they start gets `files` as its soft limit of open files, when this process has
/// changed its own.
pub fn executors(files: Option<u64>) -> Result<ostler_execution::Executors, CliError> {
    let program = std::env::current_exe().map_err(|e| {
        CliError::usage(format!("this program cannot find itself, which it must to start others: {e}"))
    })?;
    let spawner = ostler_executors::SpawnerProgram { path: program, args: vec!["__spawner".into()] };
    Ok(ostler_executors::standard(ostler_executors::ExecutorConfig {
        spawner: match files {
            Some(soft) => spawner.with_open_files(soft),
            None => spawner,
        },
        cache: ostler_embedded::cache_dir(),
        clock: Arc::new(SystemClock),
        ..Default::default()
    }))
}

/// The runtime that nodes run in.
pub fn runtime() -> Result<tokio::runtime::Runtime, CliError> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|e| CliError::new(crate::error::STORE, "process", format!("no threads: {e}")))
}
