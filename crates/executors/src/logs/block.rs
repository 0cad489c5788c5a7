//! The format of a block: compressed records behind a head.
//!
//! | bytes | block head |
//! |---|---|
//! | 8 | mark, by which a reader finds its way again behind a torn block |
//! | 4 | length of the records, unpacked |
//! | 4 | length of the body, packed (LZ4) |
//! | 4 | how many records |
//! | 4 | reserved, zero |
//! | 8 | checksum: head of the BLAKE3 of the body and the four numbers |
//!
//! A record is time (8, µs since 1970), attempt (4), stream (1), length (4), bytes. Numbers are little-endian.

use jiff::Timestamp;
use ostler_execution::Stream;

use super::LogRecord;

pub(super) const MARK: [u8; 8] = *b"\x89OLOG1\r\n";
pub(super) const HEAD: usize = 32;
/// Larger lengths in a head are damage: a block closes at 64 KiB and a record adds at most 64 KiB.
const BLOCK_LIMIT: usize = 1 << 20;
const RECORD_HEAD: usize = 17;

/// Adds a record to a block that is being gathered; returns the bytes it took.
pub(super) fn push(block: &mut Vec<u8>, at: Timestamp, attempt: u32, stream: Stream, line: &[u8]) -> usize {
    block.extend_from_slice(&at.as_microsecond().to_le_bytes());
    block.extend_from_slice(&attempt.to_le_bytes());
    block.push(match stream {
        Stream::Stdout => 1,
        Stream::Stderr => 2,
        Stream::System => 0,
    });
    block.extend_from_slice(&u32::try_from(line.len()).unwrap_or(u32::MAX).to_le_bytes());
    block.extend_from_slice(line);
    RECORD_HEAD + line.len()
}

/// Packs gathered records into a block with its head.
pub(super) fn seal(records: &[u8], count: u32) -> Vec<u8> {
    let body = lz4_flex::block::compress(records);
    let head = Head { raw: records.len() as u32, packed: body.len() as u32, records: count };
    let mut block = Vec::with_capacity(HEAD + body.len());
    block.extend_from_slice(&MARK);
    block.extend_from_slice(&head.numbers());
    block.extend_from_slice(&head.checksum(&body));
    block.extend_from_slice(&body);
    block
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    raw: u32,
    packed: u32,
    records: u32,
}

impl Head {
    /// Reads a head; `None` when these bytes are none.
    pub(super) fn parse(bytes: &[u8; HEAD]) -> Option<Self> {
        let number = |at: usize| bytes[at..].first_chunk::<4>().map(|n| u32::from_le_bytes(*n));
        let head = Self { raw: number(8)?, packed: number(12)?, records: number(16)? };
        let plausible = bytes.starts_with(&MARK)
            && head.raw as usize <= BLOCK_LIMIT
            && head.packed as usize <= BLOCK_LIMIT + BLOCK_LIMIT / 16
            && number(20) == Some(0);
        plausible.then_some(head)
    }

    /// Bytes of the block, head and all.
    pub(super) fn block_bytes(&self) -> usize {
        HEAD + self.packed as usize
    }

    /// Bytes of the records, unpacked.
    pub(super) fn raw_bytes(&self) -> u64 {
        self.raw.into()
    }

    fn numbers(&self) -> [u8; 16] {
        let mut numbers = [0; 16];
        for (at, number) in [self.raw, self.packed, self.records].into_iter().enumerate() {
            numbers[at * 4..at * 4 + 4].copy_from_slice(&number.to_le_bytes());
        }
        numbers
    }

    fn checksum(&self, body: &[u8]) -> [u8; 8] {
        let mut hasher = blake3::Hasher::new();
        hasher.update(body).update(&self.numbers());
        *hasher.finalize().as_bytes().first_chunk().unwrap_or(&[0; 8])
    }
}

/// Head and body of a block, or `None` when it is damaged.
fn whole(block: &[u8]) -> Option<(Head, &[u8])> {
    let (head_bytes, body) = block.split_first_chunk()?;
    let head = Head::parse(head_bytes)?;
    (head.checksum(body) == head_bytes[24..]).then_some((head, body))
}

/// Bytes of the records of a block, unpacked, or `None` when it is damaged.
pub(super) fn unpacked(block: &[u8]) -> Option<u32> {
    whole(block).map(|(head, _)| head.raw)
}

/// The records of a block, or `None` when it is damaged.
pub(super) fn open(block: &[u8]) -> Option<Vec<LogRecord>> {
    let (head, body) = whole(block)?;
    let raw = lz4_flex::block::decompress(body, head.raw as usize).ok()?;
    let mut rest = raw.as_slice();
    let mut records = Vec::with_capacity(head.records as usize);
    while let Some((record, after)) = rest.split_first_chunk::<RECORD_HEAD>() {
        let at = i64::from_le_bytes(*record.first_chunk()?);
        let attempt = u32::from_le_bytes(*record[8..].first_chunk()?);
        let stream = match record[12] {
            1 => Stream::Stdout,
            2 => Stream::Stderr,
            _ => Stream::System,
        };
        let length = u32::from_le_bytes(*record[13..].first_chunk()?) as usize;
        let line = after.get(..length)?.to_vec();
        records.push(LogRecord { at: Timestamp::from_microsecond(at).ok()?, attempt, stream, line });
        rest = &after[length..];
    }
    Some(records)
}
