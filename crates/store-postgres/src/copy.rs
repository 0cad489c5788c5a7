//! Many rows into one table: by COPY, which writes a page of them at a time where INSERT writes each apart, when there
//! are enough of them to pay for two more ways there and back. Otherwise, and behind poolers, where nothing is prepared,
//! by INSERT from arrays.

use bytes::{BufMut, Bytes, BytesMut};

use crate::{
    trouble::{Done, Trouble},
    value::Value,
};

/// So many rows are copied.
pub(crate) const MANY: usize = 200;

/// A table that many rows are added to at once. Both statements name the same columns.
pub(crate) struct Table {
    pub(crate) insert: &'static str,
    pub(crate) copy: &'static str,
    pub(crate) columns: &'static [Column],
}

/// What a column holds: COPY narrows nothing.
#[derive(Clone, Copy)]
pub(crate) enum Column {
    Small,
    Int,
    Big,
    Text,
}

impl Table {
    /// The rows of some columns in COPY's binary format; a single value stands in every row.
    pub(crate) fn encode(&self, values: &[Value<'_>]) -> Done<Bytes> {
        let rows = values.iter().map(Value::len).max().unwrap_or(0);
        let mut out = BytesMut::with_capacity(rows * 32 * self.columns.len());
        out.put_slice(b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0");
        for row in 0..rows {
            out.put_i16(self.columns.len() as i16);
            for (column, value) in self.columns.iter().zip(values) {
                match value {
                    Value::Int(one) => column.put_int(*one, &mut out)?,
                    Value::Ints(all) => column.put_int(all[row], &mut out)?,
                    Value::Text(one) => put(one.map(str::as_bytes), &mut out),
                    Value::Texts(all) => put(all[row].map(str::as_bytes), &mut out),
                    Value::Flag(_) | Value::Flags(_) | Value::Blobs(_) => {
                        return Err(Trouble::Poisoned("no column of a copied table holds this".into()));
                    }
                }
            }
        }
        out.put_i16(-1);
        Ok(out.freeze())
    }
}

impl Column {
    fn put_int(self, value: Option<i64>, out: &mut BytesMut) -> Done<()> {
        let Some(value) = value else {
            put(None, out);
            return Ok(());
        };
        let narrow = |_| Trouble::Poisoned(format!("{value} is out of range for its column"));
        match self {
            Self::Small => put(Some(&i16::try_from(value).map_err(narrow)?.to_be_bytes()), out),
            Self::Int => put(Some(&i32::try_from(value).map_err(narrow)?.to_be_bytes()), out),
            Self::Big => put(Some(&value.to_be_bytes()), out),
            Self::Text => return Err(Trouble::Poisoned(format!("{value} is no text"))),
        }
        Ok(())
    }
}

fn put(field: Option<&[u8]>, out: &mut BytesMut) {
    match field {
        Some(bytes) => {
            out.put_i32(bytes.len() as i32);
            out.put_slice(bytes);
        }
        None => out.put_i32(-1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: Table = Table { insert: "", copy: "", columns: &[Column::Big, Column::Small, Column::Text] };

    #[test]
    fn columns_become_rows_as_the_server_reads_them() {
        let values = [vec![7i64, 8].into(), Value::from(2i64), Value::Texts(vec![Some("a"), None])];
        let wanted: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0\
            \0\x03\0\0\0\x08\0\0\0\0\0\0\0\x07\0\0\0\x02\0\x02\0\0\0\x01a\
            \0\x03\0\0\0\x08\0\0\0\0\0\0\0\x08\0\0\0\x02\0\x02\xff\xff\xff\xff\
            \xff\xff";
        assert_eq!(&TABLE.encode(&values).unwrap()[..], wanted);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let values = [vec![7i64].into(), Value::from(40_000i64), Value::from("a")];
        assert!(matches!(TABLE.encode(&values), Err(Trouble::Poisoned(_))));
    }
}
