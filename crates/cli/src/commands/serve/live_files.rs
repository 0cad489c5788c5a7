//! Live files: what a `serve` was given is looked at again and again and pushed when it has changed.
//!
//! A broken edit is told and changes nothing. A file that vanishes from a folder takes its tasks with it (they become
//! missing); a file or folder that was named and vanishes as a whole changes nothing, since editors replace files and
//! mounts come and go: a file with `tasks: []` takes them.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use ostler_api::ScheduleCounts;
use ostler_clock::{Clock, SystemClock};
use ostler_model::definition::Timetable;
use ostler_service::{Actor, Service};

use crate::{
    error::CliError,
    sources::{Look, Source},
};

/// How often files are looked at. A change counts when two looks agree on it, so that nothing is read half-written.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// How often at least: what has changed is pushed after two looks, and has two seconds for it.
const LOOK_AT_LEAST: Duration = Duration::from_secs(1);

/// A look is followed by a pause of so many times its own length, within these bounds: folders of thousands of files
/// cost no more than a part of one core in so many.
const PAUSES: u32 = 200;

/// One source with what is known of it.
pub struct LiveSource {
    source: Source,
    /// As it was when it was last read.
    known: Look,
    /// As it was at the last look.
    seen: Option<Look>,
    /// What of it is pushed: origin and namespace of each file.
    pushed: BTreeMap<String, Timetable>,
    vanished: bool,
    /// What was last said to be wrong with it, while it is.
    trouble: Option<String>,
    due: Duration,
}

impl LiveSource {
    /// Reads a source for the first time; what is wrong ends the command.
    pub fn open(source: Source) -> Result<Self, CliError> {
        let (loaded, known) = source.load()?;
        let pushed = by_origin(loaded.timetables);
        Ok(Self { source, known, seen: None, pushed, vanished: false, trouble: None, due: Duration::ZERO })
    }

    /// What it holds.
    pub fn timetables(&self) -> impl Iterator<Item = &Timetable> {
        self.pushed.values()
    }

    /// Whether it has changed and another look is to say whether that is all.
    fn is_restless(&self) -> bool {
        self.seen.as_ref().is_some_and(|seen| *seen != self.known)
    }

    /// Looks, and pushes what has changed.
    fn look(&mut self, service: &Service, actor: &Actor) {
        if self.source.is_local() {
            match self.source.look() {
                Ok(look) => {
                    self.vanished = false;
                    let is_new = look != self.known;
                    let is_steady = self.seen.as_ref() == Some(&look);
                    self.seen = Some(look);
                    if !(is_new && is_steady) {
                        return;
                    }
                }
                Err(error) => {
                    if !std::mem::replace(&mut self.vanished, true) {
                        tracing::error!(source = %self.source, %error, "definitions cannot be looked at; what was pushed stays");
                    }
                    return;
                }
            }
        }
        self.read(service, actor);
    }

    fn read(&mut self, service: &Service, actor: &Actor) {
        match self.source.load() {
            Ok((_, look)) if look == self.known => self.trouble = None,
            Ok((loaded, look)) => {
                self.known = look;
                self.trouble = None;
                let now = by_origin(loaded.timetables);
                let gone = self.pushed.iter().filter(|(origin, _)| !now.contains_key(*origin));
                let emptied: Vec<_> = gone
                    .map(|(_, t)| Timetable {
                        tasks: Vec::new(),
                        presets: Vec::new(),
                        sinks: Vec::new(),
                        ..t.clone()
                    })
                    .collect();
                for timetable in now.values().chain(&emptied) {
                    push(service, actor, timetable);
                }
                self.pushed = now;
            }
            Err(error) => {
                // Told once: not again until it has changed once more, or is wrong in another way.
                if let Some(seen) = &self.seen {
                    self.known = seen.clone();
                }
                let found =
                    error.diagnostics.as_ref().map_or_else(String::new, |d| format!("\n{}", d.render(false)));
                let words = format!("{}{found}", error.message);
                if self.source.is_local() || self.trouble.as_ref() != Some(&words) {
                    tracing::error!(source = %self.source, "the change was not taken, what was pushed stays: {words}");
                }
                self.trouble = Some(words);
            }
        }
    }
}

fn by_origin(timetables: Vec<Timetable>) -> BTreeMap<String, Timetable> {
    timetables.into_iter().map(|t| (t.origin.clone(), t)).collect()
}

/// Makes the definitions of one file what the file says.
pub fn push(service: &Service, actor: &Actor, timetable: &Timetable) {
    match service.push(actor, timetable) {
        Ok(pushed) => {
            let is_same = pushed.added.is_empty()
                && pushed.changed.is_empty()
                && pushed.missing.is_empty()
                && pushed.relinked.is_empty()
                && pushed.sinks == ScheduleCounts::default();
            if !is_same {
                tracing::warn!(
                    origin = %timetable.origin,
                    added = ?pushed.added,
                    changed = ?pushed.changed,
                    missing = ?pushed.missing,
                    back = ?pushed.relinked,
                    sinks = pushed.sinks.made + pushed.sinks.changed + pushed.sinks.ended,
                    "definitions have changed"
                );
            }
        }
        Err(error) => tracing::error!(origin = %timetable.origin, %error, "definitions were not stored"),
    }
}

/// Looks at sources until it is told to stop. Runs on a thread of its own: it reads files and documents.
pub fn watch(
    mut sources: Vec<LiveSource>,
    poll: Duration,
    service: Service,
    actor: Actor,
) -> std::io::Result<Watch> {
    sources.retain(|s| s.source.is_local() || matches!(s.source, Source::Remote(_)));
    let stop = Arc::new(AtomicBool::new(sources.is_empty()));
    let stopped = stop.clone();
    let thread = std::thread::Builder::new().name("ostler-files".into()).spawn(move || {
        while !stopped.load(Ordering::Acquire) {
            let at = SystemClock.elapsed();
            for source in &mut sources {
                if source.source.is_local() || at >= source.due {
                    source.look(&service, &actor);
                    source.due = at + poll;
                }
            }
            let took = SystemClock.elapsed().saturating_sub(at);
            let is_restless = sources.iter().any(LiveSource::is_restless);
            let longest = if is_restless { LOOK_EVERY } else { LOOK_AT_LEAST };
            std::thread::park_timeout((took * PAUSES).clamp(LOOK_EVERY, longest));
        }
    })?;
    Ok(Watch { stop, thread })
}

/// A watch at work.
pub struct Watch {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<()>,
}

impl Watch {
    /// Ends it. A document that is being fetched is not waited for.
    pub fn stop(self) {
        self.stop.store(true, Ordering::Release);
        self.thread.thread().unpark();
    }
}
