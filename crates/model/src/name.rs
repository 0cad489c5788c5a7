//! Names of namespaces, tasks, steps and presets.

use std::{borrow::Cow, fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A name: 1 to 128 characters, letters, digits, `_`, `-` and `.`, beginning with a letter, digit or `_`.
///
/// `:` and `/` are kept free: they join names (`namespace:task`).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Box<str>);

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not a name: {reason}; a name has 1 to 128 letters, digits, `_`, `-` or `.` and begins with a letter, digit or `_`"
)]
pub struct NameError {
    /// The text as given, cut at 40 characters.
    pub text: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl Name {
    /// The text of the name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The nearest valid name to any text: other characters become `-`. Used where a file's name becomes an id.
    #[must_use]
    pub fn from_any(text: &str) -> Self {
        let mut name: String = text
            .chars()
            .take(128)
            .map(|c| if c.is_alphanumeric() || matches!(c, '_' | '-' | '.') { c } else { '-' })
            .collect();
        if !name.starts_with(|c: char| c.is_alphanumeric() || c == '_') {
            name.insert(0, '_');
        }
        Self(name.into())
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let refuse = |reason| Err(NameError { text: text.chars().take(40).collect(), reason });
        if text.is_empty() {
            return refuse("it is empty");
        }
        if text.chars().count() > 128 {
            return refuse("it is too long");
        }
        if !text.starts_with(|c: char| c.is_alphanumeric() || c == '_') {
            return refuse("it begins with another character");
        }
        if !text.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.')) {
            return refuse("it holds another character");
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &self.0)
    }
}

impl AsRef<str> for Name {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl PartialEq<str> for Name {
    fn eq(&self, other: &str) -> bool {
        &*self.0 == other
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl schemars::JsonSchema for Name {
    fn schema_name() -> Cow<'static, str> {
        "Name".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "pattern": "^[\\p{L}\\p{N}_][\\p{L}\\p{N}_.-]{0,127}$" })
    }
}
