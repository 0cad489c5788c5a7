//! What a store says of itself when it is one end of a copy, so that nobody goes on with half a store, or with two that
//! fire the same schedules.

use serde::{Deserialize, Serialize};

use crate::StoreError;

/// Who may use a store, where that is not everybody.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mark {
    /// It is being filled from another store: nobody may read or write it.
    CopyOf(String),
    /// What it holds is being copied to another store, which is to take its place: nobody may change it.
    MovingTo(String),
    /// Another store has taken its place: nobody may change it.
    MovedTo(String),
}

impl Mark {
    /// As it is stored.
    #[must_use]
    pub fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The mark of a stored text.
    ///
    /// # Errors
    /// It is none that this program knows.
    pub fn of(text: &str) -> Result<Self, StoreError> {
        serde_json::from_str(text)
            .map_err(|_| StoreError::Corrupt(format!("its mark `{text}` is none that this ostler knows")))
    }

    /// Why a command that would change the store is refused.
    #[must_use]
    pub fn refusal(&self) -> StoreError {
        StoreError::Unavailable(match self {
            Self::CopyOf(from) => format!(
                "it is not complete: `ostler db copy` fills it from {from}; run that once more, which goes on where it \
                 stopped, or delete what is here and begin anew"
            ),
            Self::MovingTo(to) => format!(
                "it is being moved to {to}; run the same `ostler db copy` once more, which goes on where it stopped, \
                 or take it back with `ostler db unmark`"
            ),
            Self::MovedTo(to) => format!(
                "it was moved to {to}, which has taken its place; use that one, or take this one back with \
                 `ostler db unmark` when that one is not used any more"
            ),
        })
    }

    /// Refuses to open a store that is not complete.
    ///
    /// # Errors
    /// It is not complete.
    pub fn may_open(mark: Option<&Self>) -> Result<(), StoreError> {
        match mark {
            Some(mark @ Self::CopyOf(_)) => Err(mark.refusal()),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_read_as_they_were_written() {
        let marks = [Mark::CopyOf("a".into()), Mark::MovingTo("b \"c\"".into()), Mark::MovedTo("d".into())];
        for mark in marks {
            assert_eq!(Mark::of(&mark.text()), Ok(mark));
        }
        assert!(matches!(Mark::of("{\"later\":1}"), Err(StoreError::Corrupt(_))));
    }
}
