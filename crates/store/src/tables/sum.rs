//! Checksums of tables.

use super::Field;

/// Sums up the rows of a table: equal for equal rows, whichever store they are in.
#[derive(Default)]
pub struct Summing {
    hasher: blake3::Hasher,
    rows: u64,
    bytes: u64,
}

/// What the rows of a table come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sum {
    /// How many.
    pub rows: u64,
    /// Bytes of their values.
    pub bytes: u64,
    digest: blake3::Hash,
}

impl Sum {
    /// The checksum, 32 hexadecimal digits.
    #[must_use]
    pub fn digest(&self) -> String {
        self.digest.to_hex()[..32].to_owned()
    }
}

impl Summing {
    /// Adds the next row in the order of the key.
    pub fn add(&mut self, row: &[Field]) {
        self.rows += 1;
        for field in row {
            self.bytes += field.bytes();
            let (kind, bytes) = match field {
                Field::Null => (0, [].as_slice()),
                Field::Int(value) => {
                    self.hasher.update(&[1]).update(&value.to_le_bytes());
                    continue;
                }
                Field::Text(value) => (2, value.as_bytes()),
                Field::Bytes(value) => (3, value.as_slice()),
            };
            self.hasher.update(&[kind]).update(&(bytes.len() as u64).to_le_bytes()).update(bytes);
        }
    }

    /// How many rows were added.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// How many bytes their values have.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The sum.
    #[must_use]
    pub fn sum(&self) -> Sum {
        Sum { rows: self.rows, bytes: self.bytes, digest: self.hasher.finalize() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(rows: &[&[Field]]) -> Sum {
        let mut summing = Summing::default();
        rows.iter().for_each(|row| summing.add(row));
        summing.sum()
    }

    #[test]
    fn sums_tell_values_apart_that_look_alike() {
        let text = |t: &str| Field::Text(t.to_owned());
        let rows: [&[Field]; 7] = [
            &[Field::Null],
            &[Field::Int(0)],
            &[text("")],
            &[text("0")],
            &[Field::Bytes(b"0".to_vec())],
            &[text("ab"), text("c")],
            &[text("a"), text("bc")],
        ];
        for (at, one) in rows.iter().enumerate() {
            for other in &rows[at + 1..] {
                assert_ne!(sum(&[one]).digest, sum(&[other]).digest, "{one:?} {other:?}");
            }
        }
        assert_ne!(sum(&[rows[0], rows[1]]), sum(&[rows[1], rows[0]]));
        assert_eq!(sum(&[rows[5]]), sum(&[rows[5]]));
    }
}
