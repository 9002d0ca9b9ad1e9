//! Files that are written once and whole: snapshots, the identity of a node.
//!
//! `magic 7 bytes | version u8 | length u64 | crc32 u32 | payload`, little-endian: written aside, fsynced, renamed, directory
//! fsynced. What the payload means is the caller's affair.

use std::path::Path;

use conveyor_model::{Result, planted};

use crate::disk::Disk;
use crate::error;
use crate::record::field;

/// Bytes before the payload.
pub(crate) const HEADER: usize = 20;

/// A kind of sealed file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Form {
    pub(crate) magic: &'static [u8; 7],
    pub(crate) version: u8,
    /// What it is, for messages: `a snapshot`.
    pub(crate) what: &'static str,
}

/// The file's bytes.
pub(crate) fn seal(form: Form, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + payload.len());
    bytes.extend(form.magic);
    bytes.push(form.version);
    bytes.extend((payload.len() as u64).to_le_bytes());
    bytes.extend(crc32fast::hash(payload).to_le_bytes());
    bytes.extend(payload);
    bytes
}

/// The payload of a file's bytes; `path` is for messages.
///
/// # Errors
/// `log-corrupt` if any byte differs from what was written, `log-version` if a newer version wrote it.
pub(crate) fn open<'a>(form: Form, path: &Path, bytes: &'a [u8]) -> Result<&'a [u8]> {
    let Some(header) = bytes.get(..HEADER).filter(|h| &h[..7] == form.magic) else {
        return Err(error::corrupt(path, 0, format!("{} does not start as one", form.what)));
    };
    if header[7] != form.version {
        return Err(error::version(path, header[7]));
    }
    let payload = &bytes[HEADER..];
    let (length, crc) = (u64::from_le_bytes(field(header, 8)), u32::from_le_bytes(field(header, 16)));
    if payload.len() as u64 != length || crc32fast::hash(payload) != crc {
        let why = format!("the checksum of {} does not hold", form.what);
        return Err(error::corrupt(path, HEADER as u64, why));
    }
    Ok(payload)
}

/// Writes a file so that under its name it is only ever whole.
pub(crate) fn write(disk: &dyn Disk, dir: &Path, name: &str, form: Form, payload: &[u8]) -> Result<()> {
    write_bytes(disk, dir, name, form.what, &seal(form, payload))
}

/// The same for bytes that are sealed already.
pub(crate) fn write_bytes(disk: &dyn Disk, dir: &Path, name: &str, what: &str, bytes: &[u8]) -> Result<()> {
    let path = dir.join(name);
    let aside = dir.join(format!("{name}.tmp"));
    let what = format!("write {what}");
    let failed = |e| error::io(&what, &path, e);
    let mut file = disk.create(&aside).map_err(failed)?;
    file.write_at(0, bytes).map_err(failed)?;
    if !planted("snapshot-unsynced") {
        file.sync().map_err(failed)?;
    }
    fail::fail_point!("raft-after-snapshot-write");
    disk.rename(&aside, &path).map_err(failed)?;
    disk.sync_dir(dir).map_err(failed)
}
