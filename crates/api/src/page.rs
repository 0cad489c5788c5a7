//! Pages of lists.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Sort, SortKey};

/// How many entries a page has when nothing is said.
const ENTRIES: u32 = 50;

/// One page of a list: what is on it, where the next one begins, and whether this is all.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ListPage<T> {
    /// What is on it.
    pub items: Vec<T>,
    /// Where the next page begins; hand it back as `after`.
    pub next: Option<String>,
    /// True when nothing comes after it.
    pub complete: bool,
}

/// Which page of a list, and in which order the list stands.
#[derive(Clone, Debug, PartialEq)]
pub struct PageRequest<K> {
    /// Go on after this cursor (`next` of the page before).
    pub after: Option<String>,
    /// At most so many.
    pub limit: u32,
    /// In this order; the same for all pages.
    pub sort: Sort<K>,
}

impl<K: SortKey> PageRequest<K> {
    /// The first so many.
    #[must_use]
    pub fn first(limit: u32) -> Self {
        Self::after(None, limit)
    }

    /// So many after a cursor.
    #[must_use]
    pub fn after(after: Option<&str>, limit: u32) -> Self {
        Self { after: after.map(str::to_owned), limit, sort: Sort::default() }
    }

    /// In this order.
    #[must_use]
    pub fn sorted(self, sort: Sort<K>) -> Self {
        Self { sort, ..self }
    }
}

impl<K: SortKey> Default for PageRequest<K> {
    fn default() -> Self {
        Self::first(ENTRIES)
    }
}

/// A type of arguments that choose a page of a list: those given, and the three that every list has. They are written
/// out in each type, since form encoding gives texts only and a flattened number would not be read.
///
/// `paged! { pub struct Name[Key, Count] { ... } }`: the list is sorted by [`SortKey`] `Key`, and a page has at most as
/// many entries as the [`Bounded`](crate::wire::Bounded) `Count` says.
#[macro_export]
macro_rules! paged {
    (
        $(#[$attribute:meta])*
        $visible:vis struct $name:ident[$key:ty, $count:ty] {
            $($(#[$field_attribute:meta])* $field_visible:vis $field:ident: $type:ty,)*
        }
    ) => {
        $(#[$attribute])*
        #[derive(Clone, Debug, Default, PartialEq, ::serde::Serialize, ::serde::Deserialize, ::schemars::JsonSchema)]
        #[serde(deny_unknown_fields)]
        $visible struct $name {
            $($(#[$field_attribute])* $field_visible $field: $type,)*
            /// The order of the list, the same for all of its pages; `-` turns it round.
            #[serde(default, skip_serializing_if = "::ostler_api::Sort::is_default")]
            $visible sort: $crate::Sort<$key>,
            /// Go on after this cursor (`next` of the page before).
            #[serde(default, skip_serializing_if = "Option::is_none")]
            $visible after: Option<String>,
            /// At most so many; 50 when nothing is said.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            $visible limit: Option<$count>,
        }

        impl $name {
            /// The page that is meant.
            #[must_use]
            $visible fn page(&self) -> $crate::PageRequest<$key> {
                let most = $crate::PageRequest::<$key>::default().limit;
                let limit = self.limit.map_or(most, <$count>::get);
                $crate::PageRequest::after(self.after.as_deref(), limit).sorted(self.sort)
            }
        }

        impl From<&$crate::PageRequest<$key>> for $name {
            fn from(page: &$crate::PageRequest<$key>) -> Self {
                Self {
                    sort: page.sort,
                    after: page.after.clone(),
                    limit: Some($crate::wire::Bounded(page.limit)),
                    $($field: Default::default(),)*
                }
            }
        }
    };
}
