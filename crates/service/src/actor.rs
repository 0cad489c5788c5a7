//! Who asks, and whether they may.

use std::fmt;

use crate::{Service, ServiceError};

/// Who asks. Every use case takes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    face: &'static str,
    name: String,
}

impl Actor {
    /// A person at the command line of the machine that holds the store. Whoever can open the file may do anything
    /// with it, so there is nothing to decide for them.
    #[must_use]
    pub fn local(name: &str) -> Self {
        Self { face: "cli", name: name.to_owned() }
    }
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.face, self.name)
    }
}

/// What an actor wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Look at it.
    View,
    /// Change its definition.
    Change,
    /// Start, cancel, retry it.
    Run,
    /// Hold it back or let it go.
    Activate,
    /// Delete it or its history.
    Delete,
}

impl Service {
    /// The one place that decides. Local actors own the store; any other face is denied until grants exist.
    pub(crate) fn authorise(
        &self,
        actor: &Actor,
        verb: Verb,
        namespace: Option<&str>,
    ) -> Result<(), ServiceError> {
        if actor.face == "cli" {
            return Ok(());
        }
        let place = namespace.unwrap_or("this store");
        Err(ServiceError::Denied(format!("{actor} may not {verb:?} in {place}").to_lowercase()))
    }
}
