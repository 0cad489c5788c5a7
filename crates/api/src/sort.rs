//! The orders of lists, as faces spell them: a key, with `-` before it from the last to the first.

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a list can be sorted by.
pub trait SortKey: Copy + Eq + fmt::Debug + Send + Sync + 'static {
    /// Every order of the list with its word.
    const ALL: &'static [(Sort<Self>, &'static str)];
    /// The order of the list when nothing is said.
    const DEFAULT: Sort<Self>;
}

/// The order of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sort<K> {
    /// By this.
    pub by: K,
    /// From the last to the first. What has no value of the key comes last either way.
    pub descending: bool,
}

/// A text that names no order of a list.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not an order of this list; it can be sorted by {allowed}")]
pub struct SortError {
    text: String,
    allowed: String,
}

impl<K: SortKey> Sort<K> {
    /// Every order of the list, as it is spelled.
    pub fn words() -> impl Iterator<Item = &'static str> {
        K::ALL.iter().map(|(_, word)| *word)
    }

    /// As it is spelled.
    #[must_use]
    pub fn word(&self) -> &'static str {
        K::ALL.iter().find(|(order, _)| order == self).map_or("", |(_, word)| word)
    }

    /// Whether it is the order when nothing is said.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == K::DEFAULT
    }
}

impl<K: SortKey> Default for Sort<K> {
    fn default() -> Self {
        K::DEFAULT
    }
}

impl<K: SortKey> fmt::Display for Sort<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl<K: SortKey> FromStr for Sort<K> {
    type Err = SortError;

    fn from_str(text: &str) -> Result<Self, SortError> {
        let known = K::ALL.iter().find(|(_, word)| *word == text).map(|(order, _)| *order);
        known.ok_or_else(|| SortError {
            text: text.chars().take(40).collect(),
            allowed: Self::words().map(|w| format!("`{w}`")).collect::<Vec<_>>().join(", "),
        })
    }
}

impl<K: SortKey> Serialize for Sort<K> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de, K: SortKey> Deserialize<'de> for Sort<K> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl<K: SortKey> JsonSchema for Sort<K> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        std::any::type_name::<Self>().into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "enum": Self::words().collect::<Vec<_>>(),
            "default": Self::default().word(),
        })
    }
}

/// The keys of a list, and its order when nothing is said.
macro_rules! keys {
    ($(#[$attribute:meta])* $name:ident by $first:ident, descending $descending:literal {
        $($(#[$key_attribute:meta])* $key:ident = $word:literal,)+
    }) => {
        $(#[$attribute])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {
            $($(#[$key_attribute])* $key,)+
        }

        impl SortKey for $name {
            const ALL: &'static [(Sort<Self>, &'static str)] = &[$(
                (Sort { by: Self::$key, descending: false }, $word),
                (Sort { by: Self::$key, descending: true }, concat!("-", $word)),
            )+];
            const DEFAULT: Sort<Self> = Sort { by: Self::$first, descending: $descending };
        }
    };
}

keys! {
    /// What runs can be sorted by; newest first when nothing is said.
    RunsBy by Created, descending true {
        /// When they were made.
        Created = "created",
    }
}

keys! {
    /// What tasks and presets can be sorted by; by name when nothing is said.
    DefinitionsBy by Name, descending false {
        /// Namespace, then id.
        Name = "name",
        /// When they last changed.
        Updated = "updated",
    }
}

keys! {
    /// What namespaces can be sorted by; by name when nothing is said.
    NamespacesBy by Name, descending false {
        /// Their name.
        Name = "name",
        /// When something was last pushed to them.
        Seen = "seen",
    }
}

keys! {
    /// What schedules can be sorted by; oldest first when nothing is said.
    SchedulesBy by Created, descending false {
        /// When they were made.
        Created = "created",
        /// Namespace, task, then their own name.
        Name = "name",
        /// When they are due next.
        Next = "next",
    }
}

keys! {
    /// What triggers can be sorted by; oldest first when nothing is said.
    TriggersBy by Created, descending false {
        /// When they were made.
        Created = "created",
        /// Namespace, task, then their own name.
        Name = "name",
        /// When they last fired.
        Last = "last",
    }
}

keys! {
    /// What tokens can be sorted by; newest first when nothing is said.
    TokensBy by Created, descending true {
        /// When they were made.
        Created = "created",
        /// Their name.
        Name = "name",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_reads_as_it_is_spelled_and_others_name_those_that_are_there() {
        for word in Sort::<SchedulesBy>::words() {
            assert_eq!(word.parse::<Sort<SchedulesBy>>().unwrap().to_string(), word);
        }
        assert_eq!("-created".parse(), Ok(Sort::<RunsBy>::default()));
        for wrong in ["", "-", "--created", "Created", "name"] {
            let error = wrong.parse::<Sort<RunsBy>>().unwrap_err().to_string();
            assert_eq!(
                error,
                format!("`{wrong}` is not an order of this list; it can be sorted by `created`, `-created`")
            );
        }
    }
}
