//! The writer: a thread around [`Store::apply`] that gathers what waits into one transaction.

use std::{
    sync::{Arc, mpsc},
    thread,
};

use crate::{Command, Micros, Reply, Store, StoreError};

/// Takes a command back with its answer, on the writer's thread, after the transaction is on disk (or refused: then
/// the command can be tried again).
pub type Answer = Box<dyn FnOnce(Command, Result<Reply, StoreError>) + Send>;

/// How many commands one transaction takes at most; bounds how long the first one waits for the last.
const MAX_BATCH: usize = 2048;

/// Something to be run on the writer's thread.
type Look = Box<dyn FnOnce(&mut dyn Store) + Send>;

enum Post {
    Apply(Vec<Command>, Vec<Answer>),
    Inspect(Look),
}

/// A handle on the writer's thread. Clones write to the same thread; it ends when the last handle is gone.
#[derive(Clone)]
pub struct Writer {
    posts: mpsc::Sender<Post>,
}

/// The writer's thread is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the store's writer has stopped")]
pub struct WriterClosed;

impl Writer {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the operating system gives no thread.
    pub fn start(
        mut store: Box<dyn Store>,
        now: Arc<dyn Fn() -> Micros + Send + Sync>,
    ) -> std::io::Result<(Self, thread::JoinHandle<()>)> {
        let (posts, inbox) = mpsc::channel::<Post>();
        let thread = thread::Builder::new().name("ostler-writer".into()).spawn(move || {
            while let Ok(first) = inbox.recv() {
                let mut commands = Vec::new();
                let mut answers = Vec::new();
                let mut inspect = None;
                let mut next = Some(first);
                while let Some(post) = next {
                    match post {
                        Post::Apply(more, theirs) => {
                            commands.extend(more);
                            answers.extend(theirs);
                        }
                        Post::Inspect(look) => {
                            inspect = Some(look);
                            break;
                        }
                    }
                    next = if commands.len() < MAX_BATCH { inbox.try_recv().ok() } else { None };
                }
                if !commands.is_empty() {
                    let replies = store.apply(now(), &commands);
                    for ((command, answer), reply) in commands.into_iter().zip(answers).zip(replies) {
                        answer(command, reply);
                    }
                }
                if let Some(look) = inspect {
                    look(&mut *store);
                }
            }
        })?;
        Ok((Self { posts }, thread))
    }

    /// Hands over commands; each answer is called once. All of one call are in the same transaction.
    ///
    /// # Errors
    /// When the thread is gone; no answer is called then.
    pub fn post(&self, commands: Vec<Command>, answers: Vec<Answer>) -> Result<(), WriterClosed> {
        debug_assert_eq!(commands.len(), answers.len());
        self.posts.send(Post::Apply(commands, answers)).map_err(|_| WriterClosed)
    }

    /// Carries out one command and waits for its answer.
    ///
    /// # Errors
    /// The command's own, or that the thread is gone.
    pub fn call(&self, command: Command) -> Result<Reply, StoreError> {
        let (send, receive) = mpsc::sync_channel(1);
        let gone = |_| StoreError::Unavailable(WriterClosed.to_string());
        let answer: Answer = Box::new(move |_, reply| {
            let _ = send.send(reply);
        });
        self.post(vec![command], vec![answer]).map_err(|e| StoreError::Unavailable(e.to_string()))?;
        receive.recv().map_err(gone)?
    }

    /// Runs a function on the writer's thread between two transactions, some time soon.
    ///
    /// # Errors
    /// When the thread is gone.
    pub fn visit(&self, look: impl FnOnce(&mut dyn Store) + Send + 'static) -> Result<(), WriterClosed> {
        self.posts.send(Post::Inspect(Box::new(look))).map_err(|_| WriterClosed)
    }

    /// Runs a function on the writer's thread between two transactions and waits for what it gives.
    ///
    /// # Errors
    /// When the thread is gone.
    pub fn inspect<T: Send + 'static>(
        &self,
        look: impl FnOnce(&mut dyn Store) -> T + Send + 'static,
    ) -> Result<T, WriterClosed> {
        let (send, receive) = mpsc::sync_channel(1);
        self.visit(move |store| {
            let _ = send.send(look(store));
        })?;
        receive.recv().map_err(|_| WriterClosed)
    }
}
