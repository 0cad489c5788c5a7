//! Values of statements, with the types that they have on the wire, and columns read back.
//!
//! Every integer goes out as `bigint` and every list as an array of it, whatever the width of the column: the server
//! narrows on assignment, and comparisons of mixed widths ride on the index all the same. So no statement needs casts,
//! and each can be sent without asking for its types first, which connection poolers require.

use std::error::Error;

use tokio_postgres::{
    Row,
    types::{FromSql, ToSql, Type},
};

use crate::trouble::{Done, Trouble};

/// One value of a statement.
#[derive(Debug)]
pub(crate) enum Value<'a> {
    Int(Option<i64>),
    Flag(bool),
    Text(Option<&'a str>),
    Ints(Vec<Option<i64>>),
    Flags(Vec<bool>),
    Texts(Vec<Option<&'a str>>),
    Blobs(Vec<&'a [u8]>),
}

impl Value<'_> {
    /// The value with its type, as the driver takes it.
    pub(crate) fn typed(&self) -> (&(dyn ToSql + Sync), Type) {
        match self {
            Self::Int(v) => (v, Type::INT8),
            Self::Flag(v) => (v, Type::BOOL),
            Self::Text(v) => (v, Type::TEXT),
            Self::Ints(v) => (v, Type::INT8_ARRAY),
            Self::Flags(v) => (v, Type::BOOL_ARRAY),
            Self::Texts(v) => (v, Type::TEXT_ARRAY),
            Self::Blobs(v) => (v, Type::BYTEA_ARRAY),
        }
    }
}

impl Value<'_> {
    /// How many a list holds; one value is none.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Int(_) | Self::Flag(_) | Self::Text(_) => 0,
            Self::Ints(list) => list.len(),
            Self::Flags(list) => list.len(),
            Self::Texts(list) => list.len(),
            Self::Blobs(list) => list.len(),
        }
    }
}

macro_rules! value_from {
    ($($from:ty => |$v:ident| $value:expr;)*) => {
        $(impl<'a> From<$from> for Value<'a> {
            fn from($v: $from) -> Self {
                $value
            }
        })*
    };
}

value_from! {
    i64 => |v| Self::Int(Some(v));
    Option<i64> => |v| Self::Int(v);
    bool => |v| Self::Flag(v);
    &'a str => |v| Self::Text(Some(v));
    &'a String => |v| Self::Text(Some(v));
    Option<&'a str> => |v| Self::Text(v);
    Vec<i64> => |v| Self::Ints(v.into_iter().map(Some).collect());
    &[i64] => |v| Self::Ints(v.iter().copied().map(Some).collect());
    Vec<Option<i64>> => |v| Self::Ints(v);
    Vec<bool> => |v| Self::Flags(v);
    Vec<&'a str> => |v| Self::Texts(v.into_iter().map(Some).collect());
    Vec<Option<&'a str>> => |v| Self::Texts(v);
    Vec<&'a [u8]> => |v| Self::Blobs(v);
}

/// The values of a statement.
macro_rules! values {
    ($($value:expr),* $(,)?) => { &[$($crate::value::Value::from($value)),*] };
}
pub(crate) use values;

/// An integer column of any width.
struct Int(i64);

impl<'a> FromSql<'a> for Int {
    fn from_sql(ty: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(match *ty {
            Type::INT2 => i16::from_sql(ty, raw)?.into(),
            Type::INT4 => i32::from_sql(ty, raw)?.into(),
            _ => i64::from_sql(ty, raw)?,
        }))
    }

    fn accepts(ty: &Type) -> bool {
        matches!(*ty, Type::INT2 | Type::INT4 | Type::INT8)
    }
}

/// Columns by their place.
pub(crate) trait Columns {
    fn int(&self, at: usize) -> Done<i64>;
    fn int_or(&self, at: usize) -> Done<Option<i64>>;
    fn text(&self, at: usize) -> Done<String>;
    fn text_or(&self, at: usize) -> Done<Option<String>>;
    fn flag(&self, at: usize) -> Done<bool>;
    fn blob(&self, at: usize) -> Done<Vec<u8>>;
}

impl Columns for Row {
    fn int(&self, at: usize) -> Done<i64> {
        Ok(self.try_get::<_, Int>(at).map_err(Trouble::from)?.0)
    }

    fn int_or(&self, at: usize) -> Done<Option<i64>> {
        Ok(self.try_get::<_, Option<Int>>(at).map_err(Trouble::from)?.map(|Int(n)| n))
    }

    fn text(&self, at: usize) -> Done<String> {
        self.try_get(at).map_err(Trouble::from)
    }

    fn text_or(&self, at: usize) -> Done<Option<String>> {
        self.try_get(at).map_err(Trouble::from)
    }

    fn flag(&self, at: usize) -> Done<bool> {
        self.try_get(at).map_err(Trouble::from)
    }

    fn blob(&self, at: usize) -> Done<Vec<u8>> {
        self.try_get(at).map_err(Trouble::from)
    }
}
