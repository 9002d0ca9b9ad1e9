//! The bytes of one record of a segment.
//!
//! `length u32 | crc32 u32 | kind u8 | index u64 | term u64 | durable u64 | payload`, little-endian. `length` is the
//! payload's; the checksum covers everything but itself. `durable` is the last index that had been fsynced when the record
//! was written. That is what tells a torn tail from damage: a write is torn only while it is not yet acknowledged, so a
//! valid record further on that says "durable up to here" proves that the broken one had once been whole.
//!
//! In a replicated log indices go back when a new leader's entries replace those of an old one, so that there `durable` counts
//! the bytes of the segment, not entries.

/// Bytes before the payload.
pub(crate) const HEADER: usize = 33;
/// Largest payload. Entries are references and hashes, never data.
pub(crate) const MAX_PAYLOAD: usize = 1 << 20;
/// The only term of a single voter.
pub(crate) const TERM: u64 = 1;

/// What a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A command.
    Entry = 1,
    /// Says that what stands before it is durable; carries nothing. Single voter: `index` is the last entry. Replicated:
    /// entries below `index` are committed.
    Mark = 2,
    /// A vote. Replicated only, as all that follow.
    Vote = 3,
    /// Entries from `index` on are void.
    Truncate = 4,
    /// Entries up to and with `index` are covered by a snapshot.
    Purge = 5,
    /// What the segments before this one have led to.
    Head = 6,
}

/// A record as read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record<'a> {
    pub(crate) kind: Kind,
    pub(crate) index: u64,
    pub(crate) term: u64,
    pub(crate) durable: u64,
    pub(crate) payload: &'a [u8],
}

impl Record<'_> {
    /// Appends the record's bytes.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend((self.payload.len() as u32).to_le_bytes());
        out.extend([0; 4]);
        out.push(self.kind as u8);
        out.extend(self.index.to_le_bytes());
        out.extend(self.term.to_le_bytes());
        out.extend(self.durable.to_le_bytes());
        out.extend(self.payload);
        let crc = checksum(&out[start..]);
        out[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
    }
}

/// The record at the start of `bytes` and its length, if it is whole and its checksum holds.
pub(crate) fn read(bytes: &[u8]) -> Option<(Record<'_>, usize)> {
    let header = bytes.get(..HEADER)?;
    let length = u32::from_le_bytes(field(header, 0)) as usize;
    let kind = match header[8] {
        1 => Kind::Entry,
        2 => Kind::Mark,
        3 => Kind::Vote,
        4 => Kind::Truncate,
        5 => Kind::Purge,
        6 => Kind::Head,
        _ => return None,
    };
    if length > MAX_PAYLOAD {
        return None;
    }
    let whole = bytes.get(..HEADER + length)?;
    if checksum(whole) != u32::from_le_bytes(field(header, 4)) {
        return None;
    }
    let record = Record {
        kind,
        index: u64::from_le_bytes(field(header, 9)),
        term: u64::from_le_bytes(field(header, 17)),
        durable: u64::from_le_bytes(field(header, 25)),
        payload: &whole[HEADER..],
    };
    Some((record, whole.len()))
}

fn checksum(record: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&record[..4]);
    hasher.update(&record[8..]);
    hasher.finalize()
}

/// `N` bytes at `at`, which the caller knows to be there.
pub(crate) fn field<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}
