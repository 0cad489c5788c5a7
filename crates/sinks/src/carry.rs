//! Carrying events out for one sink, from its cursor on.

use std::{sync::Arc, time::Duration};

use ostler_embedded::{Backoff, Doing, Held, Step, Unwritten, Work};
use ostler_store::{DutyNote, EventPage, Remark, event_cursor, event_number};
use tokio::{sync::watch, time::Instant};

use crate::{
    Outbox,
    event::{Filter, Outgoing},
    news::News,
    outlet::{Halt, Outlet},
};

/// Events read at a time.
const PAGE: u32 = 500;

/// What was acknowledged is on record so soon after the stream has come to rest, and at the latest after [`WRITE`].
const REST: Duration = Duration::from_millis(250);

/// How often the cursor is written while events are carried out.
const WRITE: Duration = Duration::from_secs(1);

/// The same while they are passed over only: what comes again then costs nobody anything.
const WRITE_SKIPS: Duration = Duration::from_secs(30);

/// After so long the news of a moment is read.
const GATHER: Duration = Duration::from_millis(20);

/// Pauses between tries: the first, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));

/// A sink that cannot work as it is written is tried again after so long, perhaps by another node.
const WRONG: Duration = Duration::from_secs(30);

/// Carries out events for a sink.
pub(crate) struct Carrier {
    pub(crate) store: Arc<Outbox>,
    pub(crate) news: News,
    pub(crate) salt: u64,
    /// What it works with, or why it cannot.
    pub(crate) ready: Result<(Filter, Outlet), String>,
}

impl Work for Carrier {
    fn run(self: Box<Self>, mut held: Held) -> Doing {
        Box::pin(async move {
            let Self { store, news, salt, ready } = *self;
            let mut record = Record::new(&held);
            let (filter, outlet) = match ready {
                Ok(ready) => ready,
                Err(words) => {
                    record.stands_still(words, held.now());
                    let _ = record.write(&mut held).await;
                    let _ = tokio::time::timeout(WRONG, held.ending()).await;
                    return;
                }
            };
            let heard = news.listen();
            let backoff = Backoff::new(PAUSES.0, PAUSES.1);
            let mut carrying = Carrying { store, news, heard, salt, filter, outlet, record, backoff };
            // It ends when the duty is another's; what was taken and is not on record is for them to send again.
            let ended = carrying.carry(&mut held).await;
            if let Err(error) = ended {
                tracing::debug!(duty = held.duty(), %error, "events are carried out elsewhere");
            }
        })
    }
}

/// How far the sink is, and what of that is on record.
struct Record {
    /// Everything up to it is acknowledged or passed over.
    at: i64,
    note: DutyNote,
    written: (i64, DutyNote),
    /// Since when there is something that is not on record, and when it last grew.
    since: Option<(Instant, Instant)>,
}

impl Record {
    fn new(held: &Held) -> Self {
        let at = held.cursor().and_then(event_number).unwrap_or(0);
        let note = held.note().clone();
        Self { at, note: note.clone(), written: (at, note), since: None }
    }

    fn touch(&mut self) {
        let now = Instant::now();
        self.since = Some((self.since.map_or(now, |(since, _)| since), now));
    }

    fn has_taken(&mut self, events: usize, upto: i64, now: i64) {
        self.at = self.at.max(upto);
        if events > 0 {
            self.note.done += events as u64;
            self.note.done_at = Some(now);
            self.note.trouble = None;
        }
        self.touch();
    }

    fn stands_still(&mut self, words: String, now: i64) {
        match &mut self.note.trouble {
            Some(trouble) => trouble.words = words,
            none => *none = Some(Remark { at: now, words }),
        }
        self.touch();
    }

    fn misses(&mut self, words: String, now: i64) {
        self.note.missed = Some(Remark { at: now, words });
        self.touch();
    }

    /// When it is to be written; `None` when there is nothing to write.
    fn due(&self) -> Option<Instant> {
        let (since, last) = self.since?;
        Some(match self.note == self.written.1 {
            true => since + WRITE_SKIPS,
            false => (last + REST).min(since + WRITE),
        })
    }

    async fn write(&mut self, held: &mut Held) -> Result<(), Unwritten> {
        let (at, note) = &self.written;
        let step = Step {
            cursor: (self.at != *at).then(|| event_cursor(self.at)),
            note: (self.note != *note).then(|| self.note.clone()),
            send: Vec::new(),
        };
        if step.cursor.is_some() || step.note.is_some() {
            held.progress(step).await?;
            self.written = (self.at, self.note.clone());
        }
        self.since = None;
        Ok(())
    }

    /// Writes what is due. That the store cannot be written is told by whoever writes more often.
    async fn write_if_due(&mut self, held: &mut Held) -> Result<(), Unwritten> {
        if self.due().is_none_or(|due| due > Instant::now()) {
            return Ok(());
        }
        match self.write(held).await {
            Err(Unwritten::Store(error)) => {
                tracing::warn!(duty = held.duty(), %error, "how far events are carried out is not on record yet");
                let now = Instant::now();
                self.since = Some((now, now));
                Ok(())
            }
            other => other,
        }
    }
}

struct Carrying {
    store: Arc<Outbox>,
    news: News,
    heard: watch::Receiver<u64>,
    salt: u64,
    filter: Filter,
    outlet: Outlet,
    record: Record,
    backoff: Backoff,
}

impl Carrying {
    /// Works until the duty is to be given back, or is lost.
    async fn carry(&mut self, held: &mut Held) -> Result<(), Unwritten> {
        while held.may_go_on() {
            self.record.write_if_due(held).await?;
            self.heard.mark_unchanged();
            let (store, after) = (self.store.clone(), self.record.at);
            let read = tokio::task::spawn_blocking(move || store.page(after, PAGE)).await;
            match read {
                Ok(Ok((EventPage::Events { items, .. }, _))) if items.is_empty() => self.rest(held).await?,
                Ok(Ok((EventPage::Events { items, next }, subjects))) => {
                    self.news.read(next);
                    let (events, unclear) = self.filter.pick(items, &subjects, self.salt);
                    if let Some(words) = unclear {
                        self.record.misses(words, held.now());
                    }
                    self.hand_over(held, &events, next).await?;
                }
                Ok(Ok((EventPage::Gone { oldest }, _))) => {
                    let (from, to) = (event_cursor(self.record.at), event_cursor(oldest - 1));
                    let words = format!(
                        "events after {from} up to {to} were removed by retention before they were carried out"
                    );
                    tracing::error!(duty = held.duty(), "{words}");
                    self.record.misses(words, held.now());
                    self.record.at = oldest - 1;
                }
                Ok(Err(error)) => self.pause(held, format!("events cannot be read: {error}"), None).await?,
                Err(error) => self.pause(held, format!("events were not read: {error}"), None).await?,
            }
        }
        self.record.write(held).await
    }

    /// Hands over what was picked of a page that ends at `end`, in order.
    async fn hand_over(&mut self, held: &mut Held, events: &[Outgoing], end: i64) -> Result<(), Unwritten> {
        let mut left = events;
        while let [next, ..] = left {
            if !held.may_go_on() {
                return Ok(());
            }
            // All before it was acknowledged or passed over.
            self.record.at = self.record.at.max(next.seq - 1);
            let sent = self.outlet.send(left).await;
            let (taken, rest) = left.split_at(sent.taken.min(left.len()));
            if let Some(last) = taken.last() {
                self.backoff.reset();
                if self.record.note.trouble.is_some() {
                    tracing::info!(duty = held.duty(), "events are carried out again");
                }
                self.record.has_taken(taken.len(), last.seq, held.now());
            }
            left = rest;
            match (sent.halt, left) {
                (Some(Halt::Wait(words, pause)), _) => {
                    self.pause(held, words, pause).await?;
                    // What is left is read again: it may be another filter's or another node's by now.
                    return Ok(());
                }
                (Some(Halt::Unfit(words)), [unfit, others @ ..]) => {
                    let words = format!(
                        "{} ({}) cannot be carried out: {words}",
                        event_cursor(unfit.seq),
                        unfit.kind
                    );
                    tracing::warn!(duty = held.duty(), "{words}");
                    self.record.misses(words, held.now());
                    self.record.has_taken(0, unfit.seq, held.now());
                    left = others;
                }
                _ => {}
            }
            self.record.write_if_due(held).await?;
        }
        self.record.has_taken(0, end, held.now());
        Ok(())
    }

    /// Waits before the next try; what is in the way is on record meanwhile.
    async fn pause(
        &mut self,
        held: &mut Held,
        words: String,
        asked: Option<Duration>,
    ) -> Result<(), Unwritten> {
        let is_new = self.record.note.trouble.as_ref().is_none_or(|trouble| trouble.words != words);
        if is_new {
            tracing::warn!(duty = held.duty(), "events are not carried out: {words}");
            self.record.stands_still(words, held.now());
            if let Err(Unwritten::Lost) = self.record.write(held).await {
                return Err(Unwritten::Lost);
            }
        }
        let pause = self.backoff.pause().max(asked.unwrap_or_default());
        let _ = tokio::time::timeout(pause, held.ending()).await;
        Ok(())
    }

    /// Waits for news, and does meanwhile what is due at rest.
    async fn rest(&mut self, held: &mut Held) -> Result<(), Unwritten> {
        // Nothing is left that anything could be in the way of.
        self.backoff.reset();
        if self.record.note.trouble.take().is_some() {
            self.record.touch();
        }
        loop {
            let due = [self.record.due(), self.outlet.closes_at()].into_iter().flatten().min();
            let something_is_due = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = self.heard.changed() => {
                    // Commits come one after the other while there is work; what a moment brings is read at once.
                    tokio::time::sleep(GATHER).await;
                    return Ok(());
                }
                () = held.ending() => return Ok(()),
                () = something_is_due => {
                    self.record.write_if_due(held).await?;
                    if self.outlet.closes_at().is_some_and(|at| at <= Instant::now()) {
                        self.outlet.close();
                    }
                }
            }
        }
    }
}
