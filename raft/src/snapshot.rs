//! Snapshots of the single voter's log: the whole state after an entry, in a sealed file of its own.

use std::path::Path;

use conveyor_model::Result;
use conveyor_proto::{Snapshot, decode_snapshot, encode_snapshot};

use crate::disk::Disk;
use crate::sealed::{self, Form, HEADER};
use crate::{ClusterState, error};

const FORM: Form = Form { magic: b"CNVYSNP", version: 1, what: "a snapshot" };

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
    sealed::write(disk, dir, &name(index), FORM, &payload)
}

/// Reads the snapshot after entry `index`.
///
/// # Errors
/// `Corrupt` if any byte differs from what was written: there is no older one to fall back to.
pub(crate) fn read(disk: &dyn Disk, dir: &Path, index: u64) -> Result<Snapshot> {
    let path = dir.join(name(index));
    let bytes = disk.read(&path).map_err(|e| error::io("read its snapshot", &path, e))?;
    let payload = sealed::open(FORM, &path, &bytes)?;
    let snapshot = decode_snapshot(payload).map_err(|e| e.in_split(path.display()))?;
    if snapshot.last_index != index {
        return Err(error::corrupt(&path, HEADER as u64, "a snapshot was given another one's name"));
    }
    Ok(snapshot)
}
