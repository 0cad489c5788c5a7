//! Who asks, and whether they may.

use std::{fmt, sync::Arc};

use ostler_api::{Permission, Scope};

use crate::{Service, ServiceError};

/// Who asks. Every use case takes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    face: &'static str,
    name: String,
    rights: Rights,
}

/// What an actor may do.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Rights {
    /// Everything.
    All,
    /// What these say.
    Scopes(Arc<[Scope]>),
}

impl Actor {
    /// A person at the command line of the machine that holds the store. Whoever can open the file may do anything
    /// with it, so there is nothing to decide for them.
    #[must_use]
    pub fn local(name: &str) -> Self {
        Self { face: "cli", name: name.to_owned(), rights: Rights::All }
    }

    /// Somebody on the machine that serves, over its loopback address, where no token is asked for.
    #[must_use]
    pub fn loopback() -> Self {
        Self { face: "http", name: "loopback".to_owned(), rights: Rights::All }
    }

    /// The holder of a token.
    #[must_use]
    pub fn token(name: &str, scopes: &[Scope]) -> Self {
        Self { face: "token", name: name.to_owned(), rights: Rights::Scopes(scopes.into()) }
    }

    /// The same actor with no more than the right to look.
    #[must_use]
    pub fn read_only(&self) -> Self {
        let seen = |namespace| Scope { permission: Permission::View, namespace };
        let scopes: Arc<[Scope]> = match &self.rights {
            Rights::All => [seen(None)].into(),
            Rights::Scopes(scopes) => {
                let sees = |s: &&Scope| s.permission.holds(Permission::View);
                scopes.iter().filter(sees).map(|s| seen(s.namespace.clone())).collect()
            }
        };
        Self { rights: Rights::Scopes(scopes), ..self.clone() }
    }

    /// Whether it may take jobs as a worker and do nothing else at all.
    #[must_use]
    pub fn only_works(&self) -> bool {
        match &self.rights {
            Rights::All => false,
            Rights::Scopes(scopes) => {
                !scopes.is_empty() && scopes.iter().all(|scope| scope.permission == Permission::Work)
            }
        }
    }

    fn may(&self, permission: Permission, namespace: Option<&str>) -> bool {
        match &self.rights {
            Rights::All => true,
            Rights::Scopes(scopes) => scopes.iter().any(|scope| {
                scope.permission.holds(permission)
                    && scope.namespace.as_ref().is_none_or(|own| namespace.is_some_and(|ns| *own == *ns))
            }),
        }
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
    /// Say who may do what.
    Grant,
    /// Take jobs as a worker.
    Work,
}

impl Verb {
    /// The permission that a token needs for it.
    fn permission(self) -> Permission {
        match self {
            Self::View => Permission::View,
            Self::Run => Permission::Run,
            Self::Change | Self::Activate | Self::Delete => Permission::Change,
            Self::Grant => Permission::Admin,
            Self::Work => Permission::Work,
        }
    }
}

impl Service {
    /// The one place that decides.
    pub(crate) fn authorise(
        &self,
        actor: &Actor,
        verb: Verb,
        namespace: Option<&str>,
    ) -> Result<(), ServiceError> {
        let needed = verb.permission();
        if actor.may(needed, namespace) {
            return Ok(());
        }
        Err(ServiceError::Denied(match namespace {
            Some(namespace) => {
                format!(
                    "{actor} may not do this in namespace `{namespace}`: it needs the scope `{}`",
                    needed.word()
                )
            }
            None => {
                format!("{actor} may not do this in all namespaces: it needs the scope `{}`", needed.word())
            }
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_say_what_a_token_may() {
        let actor = |scopes: &[&str]| {
            let scopes: Vec<Scope> = scopes.iter().map(|s| s.parse().unwrap()).collect();
            Actor::token("t", &scopes)
        };
        let table = [
            (&["view"][..], Permission::View, Some("demo"), true),
            (&["view"], Permission::View, None, true),
            (&["view"], Permission::Run, Some("demo"), false),
            (&["run:demo"], Permission::View, Some("demo"), true),
            (&["run:demo"], Permission::Run, Some("demo"), true),
            (&["run:demo"], Permission::Run, Some("other"), false),
            (&["run:demo"], Permission::View, None, false),
            (&["run:demo", "view"], Permission::View, None, true),
            (&["change"], Permission::Admin, None, false),
            (&["admin"], Permission::Change, Some("demo"), true),
            (&["work"], Permission::Work, None, true),
            (&["work"], Permission::View, None, false),
            (&["work"], Permission::View, Some("demo"), false),
            (&["change"], Permission::Work, None, false),
            (&["admin"], Permission::Work, None, true),
            (&[], Permission::View, Some("demo"), false),
        ];
        for (scopes, permission, namespace, expected) in table {
            assert_eq!(
                actor(scopes).may(permission, namespace),
                expected,
                "{scopes:?} {permission:?} {namespace:?}"
            );
            let looks = actor(scopes).read_only();
            assert_eq!(
                looks.may(Permission::View, namespace),
                actor(scopes).may(Permission::View, namespace)
            );
            assert!(!looks.may(Permission::Run, namespace));
        }
        assert!(Actor::local("me").may(Permission::Admin, None));
        assert!(!Actor::local("me").read_only().may(Permission::Run, None));
    }
}
