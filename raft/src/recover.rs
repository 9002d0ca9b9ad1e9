//! Opening a log: the newest snapshot, the entries after it, and the place where writing goes on.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use conveyor_model::Result;
use conveyor_proto::decode_command;

use crate::disk::{Disk, DiskFile};
use crate::segment::Scan;
use crate::{ClusterState, error, segment, snapshot};

/// A log as found on disk, ready to be written to.
pub(crate) struct Recovered {
    pub(crate) state: ClusterState,
    /// Index of the last entry.
    pub(crate) last: u64,
    /// Index of the last entry in the newest snapshot, 0 without one.
    pub(crate) snapshot: u64,
    /// The segment that is written to.
    pub(crate) file: Box<dyn DiskFile>,
    pub(crate) path: PathBuf,
    /// Its length.
    pub(crate) end: u64,
}

/// What the files of a log say, before anything is done about them.
pub(crate) struct Found {
    pub(crate) state: ClusterState,
    /// Index of the last entry in the newest snapshot, 0 without one.
    covered: u64,
    names: Vec<String>,
    /// First indices of the segments that are needed.
    segments: Vec<u64>,
    /// Where the last of them ends.
    end: Scan,
}

/// Reads the log in `dir` and changes nothing.
///
/// # Errors
/// `Corrupt` if an acknowledged entry is damaged or missing, or if the log is of an unknown version.
pub(crate) fn look(disk: &dyn Disk, dir: &Path) -> Result<Found> {
    let names = disk.list(dir).map_err(|e| error::io("list its files", dir, e))?;
    let mut state = ClusterState::default();
    let newest = names.iter().filter_map(|n| snapshot::parse_name(n)).max();
    if let Some(index) = newest {
        state = ClusterState::new(snapshot::read(disk, dir, index)?.pipelines);
    }
    let covered = newest.unwrap_or(0);
    let segments = needed(dir, &names, newest)?;
    let mut next = segments.first().copied().unwrap_or(1);
    let mut end = Scan { next, good: 0, torn: 0 };
    for (at, &first) in segments.iter().enumerate() {
        let path = dir.join(segment::name(first));
        if first != next {
            return Err(error::corrupt(
                &path,
                0,
                format!("the entries from {next} to {} are missing", first - 1),
            ));
        }
        let bytes = disk.read(&path).map_err(|e| error::io("read a segment", &path, e))?;
        let last = at + 1 == segments.len();
        end = segment::scan(&path, &bytes, first, last, |index, offset, payload| {
            let placed =
                |e: conveyor_model::Error| e.in_split(path.display()).at_position(format!("byte {offset}"));
            let command = decode_command(payload).map_err(placed)?;
            if index > covered {
                state.apply(&command);
            }
            Ok(())
        })?;
        next = end.next;
    }
    if let Some(&first) = segments.last().filter(|_| next <= covered) {
        let why = format!("entries up to {covered} were durable, but the segments end before {next}");
        return Err(error::corrupt(&dir.join(segment::name(first)), end.good, why));
    }
    Ok(Found { state, covered, names, segments, end })
}

/// Reads the log in `dir`, cuts off a torn tail and removes what a crash left behind.
///
/// # Errors
/// As [`look`].
pub(crate) fn recover(disk: &Arc<dyn Disk>, dir: &Path) -> Result<Recovered> {
    let Found { state, covered, names, segments, end } = look(disk.as_ref(), dir)?;
    let Some(&first) = segments.last() else {
        let file = segment::create(disk.as_ref(), dir, 1)?;
        let path = dir.join(segment::name(1));
        return Ok(Recovered { state, last: 0, snapshot: 0, file, path, end: segment::HEADER as u64 });
    };
    let path = dir.join(segment::name(first));
    let file = cut_torn_tail(disk.as_ref(), &path, &end)?;
    remove_leftovers(disk.as_ref(), dir, &names, &segments, covered);
    Ok(Recovered { state, last: end.next - 1, snapshot: covered, file, path, end: end.good })
}

/// First indices of the segments that hold the entries after the snapshot, in order; none for a new log.
fn needed(dir: &Path, names: &[String], newest: Option<u64>) -> Result<Vec<u64>> {
    let mut segments: Vec<u64> = names.iter().filter_map(|n| segment::parse_name(n)).collect();
    segments.sort_unstable();
    let from = newest.unwrap_or(0) + 1;
    // Earlier segments are covered by the snapshot; their removal may have been cut short.
    let start = segments.iter().rposition(|&first| first <= from);
    match start {
        Some(start) => Ok(segments.split_off(start)),
        None if segments.is_empty() && newest.is_none() => Ok(segments),
        None => Err(error::corrupt(dir, 0, format!("the segment with entry {from} is missing"))),
    }
}

fn cut_torn_tail(disk: &dyn Disk, path: &Path, end: &Scan) -> Result<Box<dyn DiskFile>> {
    let failed = |e| error::io("cut off its torn tail", path, e);
    let mut file = disk.open(path).map_err(failed)?;
    if end.torn > 0 {
        tracing::warn!(file = %path.display(), at = end.good, bytes = end.torn, "cutting off a write that was never acknowledged");
        file.truncate(end.good).map_err(failed)?;
    }
    // Entries that were read but perhaps never fsynced are applied from here on, so they must be durable from here on.
    file.sync().map_err(failed)?;
    Ok(file)
}

/// Removes half-written files, older snapshots and the segments they cover. What cannot be removed does no harm.
fn remove_leftovers(disk: &dyn Disk, dir: &Path, names: &[String], segments: &[u64], covered: u64) {
    for name in names {
        let old_snapshot = snapshot::parse_name(name).is_some_and(|i| i < covered);
        let old_segment = segment::parse_name(name).is_some_and(|i| i < segments[0]);
        let leftover = name.ends_with(".tmp") || old_snapshot || old_segment;
        if leftover && let Err(cause) = disk.remove(&dir.join(name)) {
            tracing::warn!(file = name, %cause, "cannot remove a file that the log no longer needs");
        }
    }
}
