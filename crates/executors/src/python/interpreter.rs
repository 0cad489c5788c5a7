//! Which Python runs the code: found on the PATH of the step, or built for its dependencies and kept.

use std::{
    collections::HashMap,
    fs::{self, File},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use ostler_model::TypedError;
use rustix::fs::FlockOperation;
use serde::Deserialize;
use serde_json::json;

use super::script::{Needs, meets};
use crate::{
    call::Call,
    process::{Command, Environment, Workshop},
    spawner::{Exit, find_program},
};

/// Prints what must be known of an interpreter.
const PROBE: &str = "import importlib.util as u, json, platform, sys\n\
                     print(json.dumps({'version': platform.python_version(), 'prefix': sys.prefix, 'executable': sys.executable, 'pip': u.find_spec('pip') is not None}))";
/// Names under which an interpreter may be found, after `python3` and `python`.
const NEWEST_MINOR: u32 = 16;
const OLDEST_MINOR: u32 = 9;

#[derive(Clone, Debug, Deserialize)]
struct Probed {
    version: String,
    prefix: String,
    /// The program itself: what was found may be a shim that takes its time.
    executable: PathBuf,
    pip: bool,
}

/// Finds and makes interpreters.
pub(super) struct Interpreters {
    workshop: Workshop,
    envs: PathBuf,
    known: Mutex<HashMap<(PathBuf, u64), Probed>>,
}

impl Interpreters {
    pub(super) fn new(workshop: Workshop, cache: &Path) -> Self {
        Self { workshop, envs: cache.join("envs"), known: Mutex::default() }
    }

    /// The interpreter for these needs; builds its environment when it is the first to need it.
    pub(super) async fn find(
        &self,
        call: &Call,
        environment: &Environment,
        named: Option<&str>,
        needs: &Needs,
    ) -> Result<PathBuf, TypedError> {
        let cwd = call.folder();
        let search = environment.variables.get("PATH").map_or("", String::as_str);
        let wanted = needs.requires_python.as_deref();
        if let Some(name) = named {
            // `python: "3.12"` is short for `python3.12`.
            let name = if name.starts_with(|c: char| c.is_ascii_digit()) {
                format!("python{name}")
            } else {
                name.into()
            };
            let path =
                find_program(&name, search, Some(&cwd)).map_err(|error| missing(&error.to_string()))?;
            let probed = self.probe(call, &path).await?;
            return self.with_dependencies(call, path, probed, needs, search).await;
        }
        let mut names = vec!["python3".to_owned(), "python".to_owned()];
        if wanted.is_some() {
            names.extend((OLDEST_MINOR..=NEWEST_MINOR).rev().map(|minor| format!("python3.{minor}")));
        }
        let mut seen = None;
        for name in names {
            let Ok(path) = find_program(&name, search, Some(&cwd)) else { continue };
            let Ok(probed) = self.probe(call, &path).await else { continue };
            if wanted.is_none_or(|wanted| meets(&probed.version, wanted)) {
                return self.with_dependencies(call, path, probed, needs, search).await;
            }
            seen.get_or_insert(probed.version);
        }
        Err(match (seen, wanted) {
            (Some(version), Some(wanted)) => {
                missing(&format!("Python {version} was found, but the code needs {wanted}"))
            }
            _ => missing("`python3` was not found in PATH"),
        })
    }

    async fn probe(&self, call: &Call, path: &Path) -> Result<Probed, TypedError> {
        use std::os::unix::fs::MetadataExt;
        let stamp = fs::metadata(path)
            .map_or(0, |m| m.ino() ^ m.mtime_nsec().unsigned_abs() ^ m.mtime().unsigned_abs());
        let key = (path.to_path_buf(), stamp);
        if let Some(known) = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Ok(known.clone());
        }
        let argv = vec![path.to_string_lossy().into_owned(), "-I".into(), "-c".into(), PROBE.into()];
        let finished = self.workshop.run_aside(call, Command::plain(argv)).await?;
        let probed: Probed = serde_json::from_str(&finished.text).map_err(|_| {
            missing(&format!("{} is not a working Python: {}", path.display(), finished.tail.join(" ")))
        })?;
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(key, probed.clone());
        Ok(probed)
    }

    async fn with_dependencies(
        &self,
        call: &Call,
        base: PathBuf,
        probed: Probed,
        needs: &Needs,
        search: &str,
    ) -> Result<PathBuf, TypedError> {
        if let Some(wanted) =
            needs.requires_python.as_deref().filter(|wanted| !meets(&probed.version, wanted))
        {
            return Err(missing(&format!(
                "{} is Python {}, but the code needs {wanted}",
                base.display(),
                probed.version
            )));
        }
        let base = if probed.executable.is_absolute() { probed.executable.clone() } else { base };
        if needs.dependencies.is_empty() {
            return Ok(base);
        }
        let digest = digest(&probed, needs);
        let folder = self.envs.join(&digest[..24]);
        let python = folder.join("bin/python");
        let ready = folder.join(".ostler-ready");
        if ready.exists() {
            return Ok(python);
        }
        let io_error =
            |error: std::io::Error| environment_error(format!("{}: {error}", self.envs.display()), None);
        fs::create_dir_all(&self.envs).map_err(io_error)?;
        let lock_path = self.envs.join(format!("{}.lock", &digest[..24]));
        call.remark(&format!("preparing Python {} with {}", probed.version, needs.dependencies.join(", ")));
        let locked = tokio::task::spawn_blocking(move || {
            let lock = File::create(&lock_path)?;
            rustix::fs::flock(&lock, FlockOperation::LockExclusive)?;
            Ok(lock)
        });
        // Another run may build for minutes; the thread that waits ends by itself when that one is done.
        let _lock = match call.unless_cancelled(locked).await {
            Ok(lock) => lock.map_err(|e| io_error(e.into()))?.map_err(io_error)?,
            Err(_) => {
                return Err(TypedError::new(
                    "cancelled",
                    "cancelled while another run prepared the environment",
                ));
            }
        };
        if ready.exists() {
            return Ok(python);
        }
        let _ = fs::remove_dir_all(&folder);
        self.build(call, &base, &probed, needs, &folder, search).await?;
        fs::write(&ready, json!({"python": probed.version, "dependencies": needs.dependencies}).to_string())
            .map_err(io_error)?;
        Ok(python)
    }

    async fn build(
        &self,
        call: &Call,
        base: &Path,
        probed: &Probed,
        needs: &Needs,
        folder: &Path,
        search: &str,
    ) -> Result<(), TypedError> {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let (base, folder_text, inner) = (text(base), text(folder), text(&folder.join("bin/python")));
        let words = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
        let uv = find_program("uv", search, None).ok().map(|path| text(&path));
        let (make, mut install) = match &uv {
            Some(uv) => (
                words(&[uv, "venv", "--quiet", "--python", &base, &folder_text]),
                words(&[uv, "pip", "install", "--quiet", "--python", &inner]),
            ),
            // A venv without pip is made in a tenth of the time; the pip of the base installs into it.
            None if probed.pip => (
                words(&[&base, "-I", "-m", "venv", "--without-pip", &folder_text]),
                words(&[&base, "-I", "-m", "pip", "--python", &inner, "install"]),
            ),
            None => (
                words(&[&base, "-I", "-m", "venv", &folder_text]),
                words(&[&inner, "-I", "-m", "pip", "install"]),
            ),
        };
        if uv.is_none() {
            install.extend(words(&["--quiet", "--no-input", "--disable-pip-version-check"]));
        }
        for folder in &needs.find_links {
            install.extend(["--find-links".into(), text(folder)]);
        }
        let made = self.workshop.run_aside(call, Command::plain(make)).await?;
        if made.exit != Exit::Code(0) {
            let hint = "; Debian and Ubuntu have venv in the package `python3-venv`, or install uv";
            return Err(environment_error(
                format!("a virtual environment could not be made{hint}"),
                Some(made.tail),
            ));
        }
        // Without a word about an index, wheels that are all there locally are taken without asking the network.
        let local = needs.no_index || (!needs.find_links.is_empty() && needs.index_url.is_none());
        if local {
            let mut offline = install.clone();
            offline.push("--no-index".into());
            offline.extend(needs.dependencies.clone());
            let installed = self.workshop.run_aside(call, Command::plain(offline)).await?;
            if installed.exit == Exit::Code(0) {
                return Ok(());
            }
            if needs.no_index {
                return Err(environment_error(
                    "the dependencies could not be installed without an index".into(),
                    Some(installed.tail),
                ));
            }
        }
        if let Some(url) = &needs.index_url {
            install.extend(["--index-url".into(), url.clone()]);
        }
        for url in &needs.extra_index_url {
            install.extend(["--extra-index-url".into(), url.clone()]);
        }
        install.extend(needs.dependencies.clone());
        let installed = self.workshop.run_aside(call, Command::plain(install)).await?;
        if installed.exit == Exit::Code(0) {
            return Ok(());
        }
        Err(environment_error(
            format!("the dependencies {} could not be installed", needs.dependencies.join(", ")),
            Some(installed.tail),
        ))
    }
}

/// What makes two environments the same. Local wheels count with their size and time: one that was built anew under
/// the same name is another.
fn digest(probed: &Probed, needs: &Needs) -> String {
    let mut dependencies = needs.dependencies.clone();
    dependencies.sort();
    let mut files: Vec<PathBuf> = needs
        .find_links
        .iter()
        .flat_map(|folder| fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()))
        .collect();
    files.extend(dependencies.iter().filter_map(|d| {
        d.split_once("file://")
            .map(|(_, path)| PathBuf::from(path))
            .or_else(|| d.starts_with('/').then(|| d.into()))
    }));
    files.sort();
    let stamps: Vec<_> = files
        .iter()
        .filter_map(|path| {
            let found = fs::metadata(path).ok()?;
            let time = found.modified().ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
            Some(json!([path, found.len(), time.as_nanos().to_string()]))
        })
        .collect();
    let identity = json!([
        1,
        probed.version,
        probed.prefix,
        dependencies,
        needs.index_url,
        needs.extra_index_url,
        needs.no_index,
        stamps
    ]);
    blake3::hash(identity.to_string().as_bytes()).to_hex().to_string()
}

fn missing(what: &str) -> TypedError {
    TypedError::new(
        "spawn",
        format!("{what}; install Python 3.9 or newer, or name an interpreter with `with.python`"),
    )
}

fn environment_error(message: String, tail: Option<Vec<String>>) -> TypedError {
    let detail = tail.filter(|tail| !tail.is_empty()).map(|tail| tail.join("\n"));
    let message = match detail.as_ref().and_then(|d| d.lines().rev().find(|l| !l.trim().is_empty())) {
        Some(last) => format!("{message}: {last}"),
        None => message,
    };
    TypedError { detail, ..TypedError::new("python.environment", message) }
}
