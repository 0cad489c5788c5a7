//! Tokens: who may ask over the network, and for what.

use std::{fmt, str::FromStr};

use jiff::Timestamp;
use ostler_model::{Name, Span};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a token lets do. Each from [`Permission::View`] on holds those above it, but [`Permission::Admin`] alone may make
/// tokens; [`Permission::Work`] stands beside them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Permission {
    /// Take jobs as a worker and bring back what became of them; nothing else.
    Work,
    /// Look.
    View,
    /// Start, cancel, run again, signal.
    Run,
    /// Change definitions, hold back and let go, delete history.
    Change,
    /// Everything, tokens too.
    Admin,
}

impl Permission {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Work, Self::View, Self::Run, Self::Change, Self::Admin];

    /// Whether who has this may do what the other is for.
    #[must_use]
    pub fn holds(self, other: Self) -> bool {
        match (self, other) {
            (Self::Admin, _) => true,
            (Self::Work, _) | (_, Self::Work) => self == other,
            _ => self >= other,
        }
    }

    /// Its word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Work => "work",
            Self::View => "view",
            Self::Run => "run",
            Self::Change => "change",
            Self::Admin => "admin",
        }
    }
}

/// A permission, everywhere or in one namespace: `view`, `run:demo`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// What.
    pub permission: Permission,
    /// Where; `None`: everywhere.
    pub namespace: Option<Name>,
}

/// A text that is no scope.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a scope; write view, run or change, with `:NAMESPACE` behind it for one namespace, or admin or work"
)]
pub struct ScopeError(String);

impl FromStr for Scope {
    type Err = ScopeError;

    fn from_str(text: &str) -> Result<Self, ScopeError> {
        let refuse = || ScopeError(text.chars().take(80).collect());
        let (word, namespace) = match text.split_once(':') {
            Some((word, namespace)) => (word, Some(namespace.parse().map_err(|_| refuse())?)),
            None => (text, None),
        };
        let permission = Permission::ALL.into_iter().find(|p| p.word() == word).ok_or_else(refuse)?;
        if matches!(permission, Permission::Admin | Permission::Work) && namespace.is_some() {
            return Err(refuse());
        }
        Ok(Self { permission, namespace })
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.permission.word())?;
        self.namespace.as_ref().map_or(Ok(()), |ns| write!(f, ":{ns}"))
    }
}

impl Serialize for Scope {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Scope {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Scope {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Scope".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "pattern": "^(admin|work|(view|run|change)(:[\\p{L}\\p{N}_][\\p{L}\\p{N}_.-]{0,127})?)$",
            "description": "A permission, everywhere or in one namespace.",
            "examples": ["view", "run:demo", "admin", "work"],
        })
    }
}

/// A token to be made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewToken {
    /// What it is for; unique among those that count.
    pub name: Name,
    /// What it lets do.
    #[schemars(length(min = 1))]
    pub scopes: Vec<Scope>,
    /// It counts so long; for ever when nothing is said.
    #[serde(default)]
    pub expires_in: Option<Span>,
}

/// A token, without its secret.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TokenView {
    /// What it is for.
    pub name: String,
    /// The first characters of its secret, to know it by.
    pub prefix: String,
    /// What it lets do.
    pub scopes: Vec<Scope>,
    /// Who made it.
    pub created_by: String,
    /// When.
    pub created_at: Timestamp,
    /// From then on it does not count.
    pub expires_at: Option<Timestamp>,
    /// Since then it does not count.
    pub revoked_at: Option<Timestamp>,
}

/// A token that was just made. Its secret is shown this once and kept nowhere.
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CreatedToken {
    /// What is sent as `Authorization: Bearer`.
    pub secret: String,
    /// The rest.
    #[serde(flatten)]
    pub token: TokenView,
}

impl fmt::Debug for CreatedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CreatedToken").field("token", &self.token).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_read_back() {
        for text in ["view", "run", "change:demo", "admin", "work"] {
            assert_eq!(text.parse::<Scope>().unwrap().to_string(), text);
        }
        for text in ["", "views", "run:", "admin:demo", "work:demo", "run:a b"] {
            assert!(text.parse::<Scope>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_created_token_does_not_print_its_secret() {
        let at = Timestamp::UNIX_EPOCH;
        let token = TokenView {
            name: "ci".into(),
            prefix: "ost_12".into(),
            scopes: vec![],
            created_by: "cli:me".into(),
            created_at: at,
            expires_at: None,
            revoked_at: None,
        };
        let created = CreatedToken { secret: "ost_12secret".into(), token };
        assert!(!format!("{created:?}").contains("secret\""));
        assert!(!format!("{created:?}").contains("12secret"));
    }
}
