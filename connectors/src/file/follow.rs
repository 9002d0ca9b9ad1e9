//! Files that grow: whether the file of a name is still the one that was read, and how its generations are told apart.
//!
//! Logs are rotated by renaming them, or by copying and cutting them. Neither the length nor the inode tells for sure, so
//! the last bytes that were read are compared. The split of a file that takes the place of another is `<url>#@<n>`.

use std::sync::Arc;

use conveyor_model::{Error, Kind, Positions, Result};
use object_store::path::Path;
use serde::{Deserialize, Serialize};

use super::chunks;
use super::listing::SourceFile;
use super::split::{Progress, hash_bytes};
use super::store::store_error;

/// Bytes that are compared.
const TAIL: usize = 64;

/// The bytes before a position, as little as is needed to know them again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tail {
    /// How many, at most 64.
    bytes: u64,
    /// FNV-1a.
    hash: u64,
}

impl Tail {
    /// Puts the end of `read` behind the bytes of before, of which enough are kept.
    pub(crate) fn push(last: &mut Vec<u8>, read: &[u8]) {
        last.extend_from_slice(&read[read.len().saturating_sub(TAIL)..]);
        last.drain(..last.len().saturating_sub(TAIL));
    }

    /// The tail of these bytes; `None` without any.
    pub(crate) fn of(last: &[u8]) -> Option<Self> {
        (!last.is_empty()).then(|| Tail { bytes: last.len() as u64, hash: hash_bytes(last) })
    }
}

/// Whether `file` is the one that was read up to `at`, perhaps longer by now.
///
/// # Errors
/// When the file cannot be read.
pub(crate) async fn continues(file: &SourceFile, at: &Progress) -> Result<bool> {
    if file.size < at.next {
        return Ok(false);
    }
    let Some(tail) = at.tail.filter(|t| t.bytes <= at.next) else { return Ok(true) };
    match chunks::get(file, at.next - tail.bytes..at.next, true).await {
        Ok(bytes) => Ok(hash_bytes(&bytes) == tail.hash),
        // It became shorter since it was listed.
        Err(e) if e.code() == "file-changed" || e.kind() == Kind::Runtime => Ok(false),
        Err(e) => Err(e),
    }
}

/// The id of a generation.
pub(crate) fn id(url: &str, generation: u64) -> Arc<str> {
    if generation == 0 { url.into() } else { format!("{url}#@{generation}").into() }
}

/// The newest generation of a file that positions name.
pub(crate) fn newest(positions: &Positions, url: &str) -> Option<u64> {
    let first = format!("{url}#@");
    let last = format!("{url}#A");
    let later =
        positions.range(first.clone()..last).filter_map(|(id, _)| id[first.len()..].parse().ok()).max();
    later.or_else(|| positions.contains_key(url).then_some(0))
}

/// Takes all generations of a file out of `positions`; only the newest is of use.
pub(crate) fn take(positions: &mut Positions, url: &str) -> Option<(u64, conveyor_model::SplitState)> {
    let newest = newest(positions, url)?;
    let (first, last) = (format!("{url}#@"), format!("{url}#A"));
    let state = positions.remove(&*id(url, newest));
    positions.retain(|id, _| id != url && !(*id >= first && *id < last));
    state.map(|state| (newest, state))
}

/// The file that was read up to `at`, under another name beside the one that has taken its place.
///
/// # Errors
/// When the folder cannot be listed.
pub(crate) async fn renamed(file: &SourceFile, at: &Progress) -> Result<Option<SourceFile>> {
    if at.tail.is_none() || !file.store.local {
        return Ok(None);
    }
    let folder: Path = file
        .path
        .parts()
        .collect::<Vec<_>>()
        .split_last()
        .map_or_else(Path::default, |(_, all)| all.iter().cloned().collect());
    let listed = file.store.objects.list_with_delimiter(Some(&folder)).await;
    let listed = listed.map_err(|e: object_store::Error| -> Error { store_error(e, &file.url) })?;
    for meta in listed.objects {
        let other = SourceFile::listed(&file.store, meta);
        if other.url != file.url && continues(&other, at).await? {
            // It keeps the name that rows are known by, and whose extension tells the format.
            return Ok(Some(SourceFile { url: file.url.clone(), ..other }));
        }
    }
    Ok(None)
}
