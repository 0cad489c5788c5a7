//! Run logs: blocks by their log and place, sizes.

use ostler_model::MachineId;

use super::View;
use crate::{
    trouble::Done,
    value::{Columns, values},
};

/// By primary key, as all that follows but the sums over everything.
const BLOCKS: &str =
    "SELECT place, block FROM log WHERE machine=$1 AND place BETWEEN $2 AND $3 ORDER BY place LIMIT $4";
const PLACES: &str = "SELECT place FROM log WHERE machine=$1 ORDER BY place";
const UNPACKED: &str = "SELECT coalesce(sum(unpacked), 0) FROM log WHERE machine=$1";
/// The lengths stand beside the blocks, which are not read.
const BYTES: &str = "SELECT coalesce(sum(octet_length(block)), 0) FROM log WHERE machine=$1";
const LIST: &str = "SELECT machine, sum(octet_length(block)) FROM log GROUP BY machine";
/// What the files of the table hold, without a look into it.
const TOTAL: &str = "SELECT pg_total_relation_size('log')";

impl View<'_> {
    /// At most `limit` blocks of a log with the places from `first` to `last`, in their order.
    pub(crate) fn log_blocks(
        &mut self,
        log: MachineId,
        (first, last): (i64, i64),
        limit: i64,
    ) -> Done<Vec<(i64, Vec<u8>)>> {
        self.many(BLOCKS, values![log.0, first, last, limit], |row| Ok((row.int(0)?, row.blob(1)?)))
    }

    /// The places of a log's blocks.
    pub(crate) fn log_places(&mut self, log: MachineId) -> Done<Vec<i64>> {
        self.many(PLACES, values![log.0], |row| row.int(0))
    }

    /// Bytes that a log's blocks hold.
    pub(crate) fn log_unpacked(&mut self, log: MachineId) -> Done<i64> {
        Ok(self.one(UNPACKED, values![log.0], |row| row.int(0))?.unwrap_or(0))
    }

    /// Bytes of a log's blocks.
    pub(crate) fn log_bytes(&mut self, log: MachineId) -> Done<i64> {
        Ok(self.one(BYTES, values![log.0], |row| row.int(0))?.unwrap_or(0))
    }

    /// Bytes that all logs take on disk.
    pub(crate) fn logs_bytes(&mut self) -> Done<i64> {
        Ok(self.one(TOTAL, &[], |row| row.int(0))?.unwrap_or(0))
    }

    /// Every log and the bytes of its blocks.
    pub(crate) fn logs(&mut self) -> Done<Vec<(MachineId, i64)>> {
        self.many(LIST, &[], |row| Ok((MachineId(row.int(0)?), row.int(1)?)))
    }
}
