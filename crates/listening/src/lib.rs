//! Listening to brokers: a message becomes a letter to its trigger.
//!
//! For each trigger one node listens: it has a duty. Messages and the place behind them are written in one transaction,
//! so what a broker keeps (streams of Redis and JetStream, lists of Redis) is told exactly once, whoever dies when. What
//! waits for an acknowledgement (MQTT) is acknowledged after that, and comes again when nobody got so far. The rest is
//! heard while somebody listens.
//!
//! Nothing piles up here: messages are taken when the trigger has read those before, so the broker keeps what a slow
//! store has no time for.

mod message;
mod mqtt;
mod nats;
mod postgres;
mod redis;
mod source;

use std::{sync::Arc, time::Duration};

use ostler_brokers::BrokerError;
use ostler_embedded::{Backoff, Doing, Duties, Held, Step, Unwritten, Work};
use ostler_engine::fields::Incoming;
use ostler_execution::Secrets;
use ostler_expr::{Scope, Template};
use ostler_model::{MachineId, Uid, definition::MessageSource};
use ostler_service::{Listened, Service};
use ostler_store::{DutyNote, Letter, Mailbox, Remark, StoreError, duty_trigger};
use serde_json::{Map, Value};

use crate::source::Spot;

/// The first pause after trouble, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// Pauses while a trigger has letters to read.
const READING: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(100));

/// How often it is looked whether a trigger that is held back has been let go.
const HELD: Duration = Duration::from_secs(1);

/// Knows the triggers that listen to brokers.
pub struct Listening {
    service: Service,
    secrets: Arc<dyn Secrets>,
}

impl Listening {
    /// Listens for the triggers of a store.
    #[must_use]
    pub fn new(service: Service, secrets: Arc<dyn Secrets>) -> Self {
        Self { service, secrets }
    }
}

impl Duties for Listening {
    fn work(&self, duty: &str) -> Result<Option<Box<dyn Work>>, StoreError> {
        let Some(machine) = duty_trigger(duty) else { return Ok(None) };
        let Some(trigger) = self.service.listened(machine)? else { return Ok(None) };
        let (service, secrets) = (self.service.clone(), self.secrets.clone());
        Ok(Some(Box::new(Ear { service, secrets, trigger })))
    }
}

/// Listens for one trigger.
struct Ear {
    service: Service,
    secrets: Arc<dyn Secrets>,
    trigger: Listened,
}

/// Why listening came to an end.
enum Ended {
    /// The duty is another's, or nobody can say what was written: whoever takes it next reads that.
    Given,
    /// Something is wrong, in words.
    Trouble(String),
}

impl From<BrokerError> for Ended {
    fn from(error: BrokerError) -> Self {
        Self::Trouble(match error {
            BrokerError::Wrong(why) => format!("`url` {why}"),
            other => other.to_string(),
        })
    }
}

impl From<Unwritten> for Ended {
    fn from(_: Unwritten) -> Self {
        Self::Given
    }
}

impl Work for Ear {
    fn run(self: Box<Self>, mut held: Held) -> Doing {
        Box::pin(async move {
            let mut end = held.end();
            tokio::select! {
                _ = end.wait_for(|end| *end) => {}
                () = self.listen(&mut held) => {}
            }
        })
    }
}

impl Ear {
    /// Tries again for as long as the duty is this node's.
    async fn listen(&self, held: &mut Held) {
        let mut backoff = Backoff::new(PAUSES.0, PAUSES.1);
        loop {
            let Err(Ended::Trouble(words)) = self.attend(held, &mut backoff).await else { return };
            tracing::warn!(trigger = %self.trigger.name, trouble = %words, "a trigger does not hear its broker; trying again");
            let note = held.note();
            // Since when, rather than how often.
            let since = note.trouble.as_ref().map_or_else(|| held.now(), |trouble| trouble.at);
            let is_known = note.trouble.as_ref().is_some_and(|trouble| trouble.words == words);
            let note = DutyNote { trouble: Some(Remark { at: since, words }), since: None, ..note.clone() };
            if !is_known && held.progress(Step { note: Some(note), ..Step::default() }).await.is_err() {
                return;
            }
            tokio::time::sleep(backoff.pause()).await;
        }
    }

    /// Listens until something is wrong.
    async fn attend(
        &self,
        held: &mut Held,
        backoff: &mut Backoff,
    ) -> Result<std::convert::Infallible, Ended> {
        let Listened { machine, uid, source, .. } = &self.trigger;
        let spot = Spot::read(held.cursor(), source);
        let url = self.url(source)?;
        let opened = source::open(source, &url, &self.wishes(*uid), spot.as_deref()).await;
        let (mut ears, at) = opened.map_err(|error| self.masked(error, &url))?;
        let note = held.note().clone();
        let missed = ears.missed().map(|words| Remark { at: held.now(), words });
        let note =
            DutyNote { trouble: None, missed: missed.or(note.missed), since: Some(held.now()), ..note };
        let cursor = at.map(|at| Spot::write(source, at));
        held.progress(Step { cursor, note: Some(note), send: Vec::new() }).await?;
        backoff.reset();
        loop {
            self.until_read(ears.keeps()).await?;
            let batch = ears.batch().await?;
            // What was taken out of a queue goes back when nobody would hear it.
            if ears.keeps() && self.is_held().await? {
                ears.give_back().await?;
                continue;
            }
            if batch.events.is_empty() && batch.at.is_none() {
                ears.done().await?;
                continue;
            }
            let mut note = held.note().clone();
            if !batch.events.is_empty() {
                note.done += batch.events.len() as u64;
                note.done_at = Some(held.now());
            }
            let send = batch.events.iter().map(|event| (*machine, letter(event))).collect();
            let cursor = batch.at.map(|at| Spot::write(source, at));
            if let Err(unwritten) = held.progress(Step { cursor, note: Some(note), send }).await {
                // Nobody takes over what a trigger that is gone had in hand.
                if ears.keeps() && !self.asked(|service, machine| service.has_duty(machine)).await? {
                    ears.give_back().await?;
                }
                return Err(unwritten.into());
            }
            ears.done().await?;
        }
    }

    /// Waits until the trigger has read what it was told. One that is held back reads nothing and is told nothing; where
    /// messages wait in a queue they are left there until it is let go.
    async fn until_read(&self, keeps: bool) -> Result<(), Ended> {
        let mut pause = READING.0;
        loop {
            let Some(mailbox) = self.mailbox().await? else { return Err(Ended::Given) };
            if mailbox.held && keeps {
                tokio::time::sleep(HELD).await;
                continue;
            }
            if mailbox.held || mailbox.unread == 0 {
                return Ok(());
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(READING.1);
        }
    }

    async fn is_held(&self) -> Result<bool, Ended> {
        Ok(self.mailbox().await?.is_some_and(|mailbox| mailbox.held))
    }

    async fn mailbox(&self) -> Result<Option<Mailbox>, Ended> {
        self.asked(|service, machine| service.mailbox(machine)).await
    }

    /// Asks the store something of the trigger. Where it cannot be read, nothing can be written either.
    async fn asked<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Service, MachineId) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Ended> {
        let (service, machine) = (self.service.clone(), self.trigger.machine);
        match tokio::task::spawn_blocking(move || look(&service, machine)).await {
            Ok(Ok(found)) => Ok(found),
            _ => Err(Ended::Given),
        }
    }

    fn wishes(&self, uid: Uid) -> source::Wishes {
        let folder = self.trigger.folder.as_deref().map_or_else(Default::default, Into::into);
        source::Wishes { uid: uid.to_string(), name: format!("ostler {}", self.trigger.name), folder }
    }

    /// The address with the values of its secrets.
    fn url(&self, source: &MessageSource) -> Result<String, Ended> {
        let wrong = |why: &dyn std::fmt::Display| Ended::Trouble(format!("`url`: {why}"));
        let names = Map::new();
        let template = Template::parse(source.url()).map_err(|e| wrong(&e))?;
        let mut value = template.render(&Scope::new(&names)).map_err(|e| wrong(&e))?;
        ostler_execution::reveal_in(&mut value, &mut |name: &str| {
            self.secrets.get(name).ok_or_else(|| {
                wrong(&format!("there is no secret `{name}`; set OSTLER_SECRET_{name} for the node or put it into its file of secrets"))
            })
        })?;
        match value {
            Value::String(url) => Ok(url),
            _ => Err(wrong(&"it is no text")),
        }
    }

    /// What a server says could hold what it was told.
    fn masked(&self, error: BrokerError, url: &str) -> Ended {
        let login = url.split_once("://").and_then(|(_, rest)| rest.rsplit_once('@')).map(|(login, _)| login);
        let password = login.and_then(|login| login.split_once(':')).map(|(_, password)| password);
        match (Ended::from(error), password.filter(|password| !password.is_empty())) {
            (Ended::Trouble(words), Some(password)) => Ended::Trouble(words.replace(password, "***")),
            (ended, _) => ended,
        }
    }
}

/// The letter of an event. One that is too large says so in its stead.
fn letter(event: &Incoming) -> Letter {
    let text = serde_json::to_string(event).unwrap_or_default();
    let body = match text.len() <= ostler_service::MAX_EVENT {
        true => text,
        false => {
            let fault = message::too_large(text.len() as u64);
            let small = Incoming { fault: Some(fault), body: Value::Null, ..event.clone() };
            serde_json::to_string(&small).unwrap_or_default()
        }
    };
    Letter::Signal { name: "event".into(), body }
}
