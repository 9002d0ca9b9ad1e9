//! Snapshots: the whole state after an entry, in a file of its own.
//!
//! `"CNVYSNP" | version u8 | length u64 | crc32 u32 | payload`: written aside, fsynced, renamed, directory fsynced.

use std::path::Path;

use conveyor_model::Result;
use conveyor_proto::{Snapshot, decode_snapshot, encode_snapshot};

use crate::disk::Disk;
use crate::record::field;
use crate::{ClusterState, error};

const MAGIC: &[u8; 7] = b"CNVYSNP";
const VERSION: u8 = 1;
const HEADER: usize = 20;

/// File name of the snapshot after entry `index`.
pub(crate) fn name(index: u64) -> String {
    format!("snapshot-{index:020}.snap")
}

/// The last index in a snapshot of this file name.
pub(crate) fn parse_name(name: &str) -> Option<u64> {
    name.strip_prefix("snapshot-")?.strip_suffix(".snap").filter(|n| n.len() == 20)?.parse().ok()
}

/// Writes the snapshot of `state` after entry `index`.
pub(crate) fn write(disk: &dyn Disk, dir: &Path, index: u64, term: u64, state: &ClusterState) -> Result<()> {
    let payload = encode_snapshot(index, term, state.pipelines());
    let mut bytes = Vec::with_capacity(HEADER + payload.len());
    bytes.extend(MAGIC);
    bytes.push(VERSION);
    bytes.extend((payload.len() as u64).to_le_bytes());
    bytes.extend(crc32fast::hash(&payload).to_le_bytes());
    bytes.extend(payload);
    let path = dir.join(name(index));
    let aside = dir.join(format!("{}.tmp", name(index)));
    let failed = |e| error::io("write a snapshot", &path, e);
    let mut file = disk.create(&aside).map_err(failed)?;
    file.write_at(0, &bytes).map_err(failed)?;
    file.sync().map_err(failed)?;
    fail::fail_point!("raft-after-snapshot-write");
    disk.rename(&aside, &path).map_err(failed)?;
    disk.sync_dir(dir).map_err(failed)
}

/// Reads the snapshot after entry `index`.
///
/// # Errors
/// `Corrupt` if any byte differs from what was written: there is no older one to fall back to.
pub(crate) fn read(disk: &dyn Disk, dir: &Path, index: u64) -> Result<Snapshot> {
    let path = dir.join(name(index));
    let bytes = disk.read(&path).map_err(|e| error::io("read its snapshot", &path, e))?;
    let Some(header) = bytes.get(..HEADER).filter(|h| &h[..7] == MAGIC) else {
        return Err(error::corrupt(&path, 0, "a snapshot does not start as one"));
    };
    if header[7] != VERSION {
        return Err(error::version(&path, header[7]));
    }
    let payload = &bytes[HEADER..];
    let (length, crc) = (u64::from_le_bytes(field(header, 8)), u32::from_le_bytes(field(header, 16)));
    if payload.len() as u64 != length || crc32fast::hash(payload) != crc {
        return Err(error::corrupt(&path, HEADER as u64, "the checksum of a snapshot does not hold"));
    }
    let snapshot = decode_snapshot(payload).map_err(|e| e.in_split(path.display()))?;
    if snapshot.last_index != index {
        return Err(error::corrupt(&path, HEADER as u64, "a snapshot was given another one's name"));
    }
    Ok(snapshot)
}
