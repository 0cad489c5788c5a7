//! Ids: integers inside, UUIDv7 at the edges.
//!
//! A machine's key in the store is a 63-bit integer: 43 bits of milliseconds since 1970 (good until 2248) and a
//! 20-bit sequence that the store hands out. The UUIDv7 that people see holds the very same bits (RFC 9562 section
//! 5.7: time first, then the sequence in `rand_a` and the head of `rand_b`), so that no second index is needed to
//! find a machine by its public id, and lists by key are lists by age.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Bits of the sequence inside one millisecond.
pub const SEQUENCE_BITS: u32 = 20;

/// The store's key of a machine. Grows with time of creation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize, Default)]
#[serde(transparent)]
pub struct MachineId(pub i64);

impl MachineId {
    /// The smallest id of a moment, in milliseconds since 1970.
    #[must_use]
    pub fn first_at(unix_ms: i64) -> Self {
        Self(unix_ms.max(0) << SEQUENCE_BITS)
    }

    /// The millisecond in which it was made.
    #[must_use]
    pub fn unix_ms(self) -> i64 {
        self.0 >> SEQUENCE_BITS
    }
}

/// The public id of a machine: a UUIDv7 that carries the [`MachineId`] and a tail that only its own store makes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uid(u128);

/// A text that is no UUIDv7 of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a run id: ids look like 0193a2b4-5c6d-7e8f-9a0b-1c2d3e4f5a6b (see `ostler runs list`)")]
pub struct UidError(pub String);

impl Uid {
    /// The public id of `machine` in the store with secret `salt`.
    #[must_use]
    pub fn of(machine: MachineId, salt: u64) -> Self {
        let id = machine.0 as u128;
        let time = (id >> SEQUENCE_BITS) & 0xffff_ffff_ffff;
        let sequence = id & ((1 << SEQUENCE_BITS) - 1);
        let tail = u128::from(tail(machine, salt));
        Self(
            (time << 80)
                | (0x7 << 76)
                | ((sequence >> 8) << 64)
                | (0b10 << 62)
                | ((sequence & 0xff) << 54)
                | tail,
        )
    }

    /// The machine it names; whether that machine is of this store is said by comparing `Uid::of(machine, salt)`.
    #[must_use]
    pub fn machine(self) -> MachineId {
        let time = (self.0 >> 80) & 0x7ff_ffff_ffff;
        let sequence = (((self.0 >> 64) & 0xfff) << 8) | ((self.0 >> 54) & 0xff);
        MachineId(((time << SEQUENCE_BITS) | sequence) as i64)
    }
}

/// 54 bits that depend on the machine and the store (a `splitmix64` finaliser; not a secret, only a check).
fn tail(machine: MachineId, salt: u64) -> u64 {
    let mut x = (machine.0 as u64) ^ salt;
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (x ^ (x >> 31)) >> 10
}

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let x = self.0;
        write!(
            f,
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            (x >> 96) as u32,
            (x >> 80) as u16,
            (x >> 64) as u16,
            (x >> 48) as u16,
            x & 0xffff_ffff_ffff
        )
    }
}

impl fmt::Debug for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for Uid {
    type Err = UidError;

    fn from_str(text: &str) -> Result<Self, UidError> {
        let refuse = || UidError(text.chars().take(60).collect());
        let hex: String = text.trim().chars().filter(|c| *c != '-').collect();
        if hex.len() != 32 || !hex.is_ascii() {
            return Err(refuse());
        }
        let value = u128::from_str_radix(&hex, 16).map_err(|_| refuse())?;
        if (value >> 76) & 0xf != 7 || (value >> 62) & 0b11 != 0b10 {
            return Err(refuse());
        }
        Ok(Self(value))
    }
}

impl Serialize for Uid {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Uid {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl schemars::JsonSchema for Uid {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Id".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "pattern": "^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$",
            "description": "A UUIDv7.",
            "examples": ["0193a2b4-5c6d-7e8f-9a0b-1c2d3e4f5a6b"],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_public_id_carries_the_key() {
        for key in [0, 1, 255, 256, (1 << 20) - 1, 1 << 20, 1_795_000_000_000 << 20 | 0xabcde, i64::MAX] {
            let uid = Uid::of(MachineId(key), 0x1234_5678_9abc_def0);
            assert_eq!(uid.machine(), MachineId(key));
            assert_eq!(uid.to_string().parse(), Ok(uid));
            let text = uid.to_string();
            assert_eq!((&text[14..15], &text[19..20] >= "8" && &text[19..20] <= "b"), ("7", true), "{text}");
        }
    }

    #[test]
    fn another_store_makes_another_tail() {
        assert_ne!(Uid::of(MachineId(7), 1), Uid::of(MachineId(7), 2));
    }

    #[test]
    fn other_texts_are_refused() {
        for text in
            ["", "x", "00000000-0000-4000-8000-000000000000", "0193a2b4", "é193a2b45c6d7e8f9a0b1c2d3e4f5a6b"]
        {
            assert!(text.parse::<Uid>().is_err(), "{text}");
        }
    }
}
