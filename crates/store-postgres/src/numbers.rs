//! How machines and events get their numbers while many nodes write.
//!
//! A machine's key is its millisecond with the next number of a sequence in its lower bits.
//!
//! An event's number is the id of its transaction with its place in it. A reader may then follow all nodes with one
//! number and miss nothing: transactions below the oldest one that is still at work are over, so nothing can appear
//! below its events any more (`read/history.rs`). And the events of one machine are in order, since its next
//! transition begins after the claim, which saw the last one's commit. Nothing has to be written twice, and no commit
//! waits for another's turn.

use ostler_model::MachineId;
use ostler_store::{Micros, StoreError};

use crate::trouble::{Done, Trouble};

/// Bits of an event's number that are its place in its transaction.
const PLACE_BITS: u32 = 22;

/// The first event that a transaction may write; all of earlier ones are below.
pub(crate) const fn first_of(transaction: i64) -> i64 {
    transaction << PLACE_BITS
}

/// The transaction of an event.
pub(crate) const fn transaction_of(seq: i64) -> i64 {
    seq >> PLACE_BITS
}

/// What is known of numbers in one transaction, and of the last key over all of them.
#[derive(Default)]
pub(crate) struct Numbers {
    /// Added to the server's transaction ids: a copy of the store may be on a server that counts from lower ones.
    base: i64,
    /// This transaction, as the server counts; 0 where nothing was going to be written.
    pub(crate) transaction: i64,
    next_event: i64,
    lows: Vec<i64>,
    pub(crate) last_id: i64,
}

impl Numbers {
    pub(crate) fn new(base: i64) -> Self {
        Self { base, ..Self::default() }
    }

    /// A transaction begins that has been given its id and so many lower halves of keys.
    pub(crate) fn begin(&mut self, transaction: i64, lows: Vec<i64>) {
        self.transaction = transaction;
        self.next_event = first_of(transaction + self.base);
        // Taken from the end.
        self.lows.extend(lows.into_iter().rev());
    }

    /// How many lower halves are still to be had.
    pub(crate) fn spare(&self) -> usize {
        self.lows.len()
    }

    pub(crate) fn add_lows(&mut self, lows: Vec<i64>) {
        self.lows.extend(lows);
    }

    /// The next event's number.
    pub(crate) fn next_seq(&mut self) -> Done<i64> {
        let seq = self.next_event;
        if self.transaction == 0 || transaction_of(seq) != self.transaction + self.base {
            return Err(Trouble::Store(StoreError::Refused(
                "more than four million events in one transaction; ask for less at a time".into(),
            )));
        }
        self.next_event += 1;
        Ok(seq)
    }

    /// The last number that may be an event's of a transaction before this one.
    pub(crate) fn last_seq_before(&self) -> i64 {
        first_of(self.transaction + self.base) - 1
    }

    /// The next machine's key: later than all that this node gave, whatever the clock did.
    pub(crate) fn next_id(&mut self, now: Micros) -> Done<MachineId> {
        let low = self.lows.pop().ok_or_else(|| Trouble::Again("no numbers left for machines".into()))?;
        let slot = MachineId::first_at(1).0;
        let place = |first: i64| first + low % slot;
        let mut id = place(MachineId::first_at(now / 1000).0);
        if id <= self.last_id {
            let millisecond = MachineId(self.last_id).unix_ms();
            id = place(MachineId::first_at(millisecond).0);
            if id <= self.last_id {
                id = place(MachineId::first_at(millisecond + 1).0);
            }
        }
        self.last_id = id;
        Ok(MachineId(id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_grow_when_the_clock_does_not_and_when_the_sequence_begins_again() {
        let mut numbers = Numbers::default();
        numbers.add_lows(vec![3, 2, 1, 0, (1 << 20) - 1]);
        let mut last = 0;
        for now in [5_000_000, 5_000_000, 4_000_000, 9_000_000, 9_000_000] {
            let id = numbers.next_id(now).unwrap().0;
            assert!(id > last);
            last = id;
        }
        assert!(numbers.next_id(9_000_000).is_err());
    }
}
