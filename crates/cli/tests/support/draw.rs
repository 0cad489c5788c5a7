//! Numbers that differ from run to run; printed, so that a bad sequence can be repeated.

use std::io::Read;

/// A sequence of numbers (xorshift).
pub(crate) struct Draw(u64);

impl Draw {
    /// Begins where a variable says, or anywhere; tells where.
    pub(crate) fn seeded(variable: &str) -> (Self, u64) {
        let given = std::env::var(variable).ok().and_then(|v| v.parse().ok());
        let seed = given.unwrap_or_else(|| {
            let mut bytes = [0; 8];
            std::fs::File::open("/dev/urandom").and_then(|mut f| f.read_exact(&mut bytes)).unwrap();
            u64::from_le_bytes(bytes) | 1
        });
        (Self(seed), seed)
    }

    /// The next number below a bound.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}
