//! Files that triggers listen to: looked at again and again, and told when they have come to rest.
//!
//! What a trigger has seen is in its record, so nothing that changed while no `serve` ran is missed, and nothing is told
//! twice.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    sync::mpsc,
    thread::JoinHandle,
    time::{Duration, SystemTime},
};

use ostler_embedded::Changes;
use ostler_engine::fields::{FileMark, SeenFiles};
use ostler_model::{MachineId, definition::EventSource};
use ostler_service::{Service, ServiceError, Watched};

/// How often files are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// After how long what was told and is not on record is told once more: a pause makes a trigger deaf.
const TELL_AGAIN: Duration = Duration::from_secs(10);

/// Files of one trigger at most; what is beyond is not looked at, and that is told.
const MOST: usize = 10_000;

/// A thread that looks at files until it is dropped.
pub struct FileTriggers {
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl FileTriggers {
    pub fn start(service: Service, mut changes: Changes) -> std::io::Result<Self> {
        let (stop, stopped) = mpsc::channel();
        let thread = std::thread::Builder::new().name("file triggers".into()).spawn(move || {
            let mut looks = HashMap::new();
            let mut watched = None;
            while stopped.recv_timeout(LOOK_EVERY) == Err(mpsc::RecvTimeoutError::Timeout) {
                // Who listens, and what they have seen, is the same for as long as nobody writes.
                if changes.may_be() {
                    watched = None;
                }
                if let Err(error) = look(&service, &mut watched, &mut looks) {
                    watched = None;
                    tracing::warn!(%error, "files that triggers listen to were not looked at");
                }
            }
        })?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for FileTriggers {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What was found at the last look, and since when it has been so.
#[derive(Default)]
struct LastLook {
    files: BTreeMap<String, (FileMark, SystemTime)>,
    /// What was told last, and when.
    told: Option<(SeenFiles, SystemTime)>,
    crowded: bool,
}

/// Looks once at the files of those who listen, who are asked for where they are not known.
fn look(
    service: &Service,
    watched: &mut Option<Vec<Watched>>,
    looks: &mut HashMap<MachineId, LastLook>,
) -> Result<(), ServiceError> {
    let watched = match watched {
        Some(watched) => watched,
        None => watched.insert(service.watched_files()?),
    };
    looks.retain(|id, _| watched.iter().any(|w| w.id == *id));
    for trigger in &*watched {
        let EventSource::File { path, settle, .. } = &trigger.definition.source else { continue };
        let last = looks.entry(trigger.id).or_default();
        let found = find(trigger, path, &mut last.crowded);
        let now = moment();
        let mut files = BTreeMap::new();
        for (path, mark) in found {
            let since = match last.files.remove(&path) {
                Some((same, since)) if same == mark => since,
                _ => now,
            };
            files.insert(path, (mark, since));
        }
        last.files = files;
        let news = news(trigger, last, settle.as_duration(), now);
        // An empty folder is a first look too: what comes then is new.
        let is_worth = trigger.seen.is_none() || news != SeenFiles::default();
        let is_told = last.told.as_ref().is_some_and(|(told, at)| {
            *told == news && now.duration_since(*at).unwrap_or_default() < TELL_AGAIN
        });
        if is_worth && !is_told {
            service.saw_files(trigger.id, &news)?;
            last.told = Some((news, now));
        }
    }
    Ok(())
}

/// What is there that the record does not have.
fn news(trigger: &Watched, last: &LastLook, settle: Duration, now: SystemTime) -> SeenFiles {
    let rests = |since: &SystemTime| now.duration_since(*since).unwrap_or_default() >= settle;
    // Where files that are there already do not count, the first look takes everything as it is.
    let takes_all = trigger.seen.is_none()
        && matches!(trigger.definition.source, EventSource::File { existing: false, .. });
    let seen = trigger.seen.as_ref();
    let is_news = |path: &String, mark: &FileMark| seen.is_none_or(|seen| seen.get(path) != Some(mark));
    let files =
        last.files.iter().filter(|(path, (mark, since))| is_news(path, mark) && (takes_all || rests(since)));
    let gone = seen.into_iter().flat_map(BTreeMap::keys).filter(|path| !last.files.contains_key(*path));
    SeenFiles {
        files: files.map(|(path, (mark, _))| (path.clone(), mark.clone())).collect(),
        gone: gone.cloned().collect(),
    }
}

fn find(trigger: &Watched, path: &str, crowded: &mut bool) -> BTreeMap<String, FileMark> {
    let folder = trigger.folder.as_deref().map_or_else(PathBuf::new, PathBuf::from);
    let pattern = match Path::new(path).is_absolute() {
        true => path.to_owned(),
        false => format!("{}/{path}", glob::Pattern::escape(&folder.to_string_lossy())),
    };
    let options = glob::MatchOptions {
        case_sensitive: true,
        require_literal_separator: true,
        require_literal_leading_dot: true,
    };
    let Ok(paths) = glob::glob_with(&pattern, options) else { return BTreeMap::new() };
    let mut found = BTreeMap::new();
    for path in paths.flatten() {
        let Ok(data) = std::fs::metadata(&path) else { continue };
        if !data.is_file() {
            continue;
        }
        if found.len() == MOST {
            if !std::mem::replace(crowded, true) {
                tracing::warn!(%pattern, "more than {MOST} files; a trigger listens to the first of them");
            }
            break;
        }
        let modified = data.modified().ok().and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok());
        let modified = modified.map_or(0, |d| i64::try_from(d.as_micros()).unwrap_or(i64::MAX));
        found.insert(path.to_string_lossy().into_owned(), FileMark { size: data.len(), modified });
    }
    found
}

#[expect(clippy::disallowed_methods, reason = "how long a file has rested is no engine's time")]
fn moment() -> SystemTime {
    SystemTime::now()
}
