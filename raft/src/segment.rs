//! Segments: files of records, named after the index of their first entry.
//!
//! A segment starts with `"CNVYLOG" | version u8 | first index u64 | crc32 u32` and appears under its name only when this
//! header is durable. Only the last one is ever written to.

use std::path::Path;

use conveyor_model::Result;

use crate::disk::{Disk, DiskFile};
use crate::error;
use crate::record::{self, Kind, Record, field};

/// Bytes before the first record.
pub(crate) const HEADER: usize = 20;
const MAGIC: &[u8; 7] = b"CNVYLOG";
/// Version of the single voter's form.
pub(crate) const VERSION: u8 = 1;

/// File name of the segment that starts with entry `first`.
pub(crate) fn name(first: u64) -> String {
    format!("log-{first:020}.log")
}

/// The first index of a segment of this file name.
pub(crate) fn parse_name(name: &str) -> Option<u64> {
    name.strip_prefix("log-")?.strip_suffix(".log").filter(|n| n.len() == 20)?.parse().ok()
}

/// Creates the segment that starts with entry `first`: written aside, fsynced, renamed, directory fsynced.
pub(crate) fn create(disk: &dyn Disk, dir: &Path, first: u64) -> Result<Box<dyn DiskFile>> {
    create_as(disk, dir, &name(first), &header(VERSION, first))
}

/// Header of a segment; `number` is what its name says.
pub(crate) fn header(version: u8, number: u64) -> Vec<u8> {
    let mut header = Vec::with_capacity(HEADER);
    header.extend(MAGIC);
    header.push(version);
    header.extend(number.to_le_bytes());
    header.extend(crc32fast::hash(&header).to_le_bytes());
    header
}

/// Creates a segment that starts with `bytes`.
pub(crate) fn create_as(disk: &dyn Disk, dir: &Path, name: &str, bytes: &[u8]) -> Result<Box<dyn DiskFile>> {
    let path = dir.join(name);
    let aside = dir.join(format!("{name}.tmp"));
    let failed = |e| error::io("start a new segment", &path, e);
    let mut file = disk.create(&aside).map_err(failed)?;
    file.write_at(0, bytes).map_err(failed)?;
    file.sync().map_err(failed)?;
    disk.rename(&aside, &path).map_err(failed)?;
    disk.sync_dir(dir).map_err(failed)?;
    Ok(file)
}

/// Checks a segment's header against its name, which says `number`.
pub(crate) fn check_header(path: &Path, bytes: &[u8], version: u8, number: u64) -> Result<()> {
    let Some(header) = bytes.get(..HEADER) else {
        return Err(error::corrupt(path, bytes.len() as u64, "a segment ends within its header"));
    };
    if &header[..7] != MAGIC {
        return Err(error::corrupt(path, 0, "a segment does not start as one"));
    }
    if header[7] != version {
        return Err(error::version(path, header[7]));
    }
    if crc32fast::hash(&header[..16]) != u32::from_le_bytes(field(header, 16)) {
        return Err(error::corrupt(path, 0, "the checksum of a segment's header does not hold"));
    }
    if u64::from_le_bytes(field(header, 8)) != number {
        return Err(error::corrupt(path, 8, "a segment was given another one's name"));
    }
    Ok(())
}

/// What reading a segment found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Scan {
    /// The index after the last entry.
    pub(crate) next: u64,
    /// Bytes that are whole records.
    pub(crate) good: u64,
    /// Bytes after them: a write that was torn before it was acknowledged.
    pub(crate) torn: u64,
}

/// Reads a segment's records in order and hands its entries to `entry(index, offset, payload)`.
///
/// # Errors
/// `Corrupt` with file and offset if a record is damaged that had been durable, or a number is out of order; also what
/// `entry` returns. `last` says that no segment follows, so that the end may be torn.
pub(crate) fn scan(
    path: &Path,
    bytes: &[u8],
    first: u64,
    last: bool,
    mut entry: impl FnMut(u64, u64, &[u8]) -> Result<()>,
) -> Result<Scan> {
    check_header(path, bytes, VERSION, first)?;
    let (mut at, mut next) = (HEADER, first);
    while at < bytes.len() {
        let Some((found, length)) = record::read(&bytes[at..]) else {
            if follows_a_mark(&bytes[at..], next) {
                at += record::HEADER;
                continue;
            }
            if !last || was_durable(&bytes[at + 1..], next) {
                return Err(error::corrupt(
                    path,
                    at as u64,
                    format!("the record of entry {next} is damaged"),
                ));
            }
            break;
        };
        if found.term != record::TERM {
            return Err(error::corrupt(
                path,
                at as u64,
                format!("entry {next} has the unknown term {}", found.term),
            ));
        }
        match found.kind {
            Kind::Mark if found.index + 1 == next => {}
            Kind::Entry if found.index == next => {
                entry(next, at as u64, found.payload)?;
                next += 1;
            }
            _ => {
                let why = format!("entry {next} should follow, but entry {} does", found.index);
                return Err(error::corrupt(path, at as u64, why));
            }
        }
        at += length;
    }
    Ok(Scan { next, good: at as u64, torn: (bytes.len() - at) as u64 })
}

/// Whether the next entry stands right after what would be a damaged mark. Marks carry nothing that is missed, and are
/// not fsynced on their own, so that one can be lost where the entry behind it was written.
fn follows_a_mark(bytes: &[u8], next: u64) -> bool {
    let after = bytes.get(record::HEADER..).and_then(record::read);
    after.is_some_and(|(r, _)| r.kind == Kind::Entry && r.index == next && r.durable + 1 == next)
}

/// Whether a valid record in `rest` says that entry `index` had been durable.
fn was_durable(rest: &[u8], index: u64) -> bool {
    let proves = |r: &Record<'_>| r.durable >= index && r.index >= index && r.term == record::TERM;
    (0..rest.len()).any(|at| record::read(&rest[at..]).is_some_and(|(r, _)| proves(&r)))
}
