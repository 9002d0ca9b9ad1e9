//! Opening a replicated node's log: replays the records, tells a torn tail from damage.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Arc;

use conveyor_model::{Error, Result};
use conveyor_proto::{decode, v1};

use super::types::{Entry, entry_from_wire, log_id, log_id_from_wire, vote_from_wire};
use super::wal::{self, Closed, Reached, Wal};
use crate::disk::Disk;
use crate::record::{self, Kind, Record};
use crate::{error, segment};

/// Entries with the bytes that their payload takes.
pub(crate) type Entries = BTreeMap<u64, (Entry, usize)>;

/// Reads the log in `dir` and cuts off a torn tail; `None` if there is none.
///
/// # Errors
/// `log-corrupt` if an acknowledged record is damaged or missing, `log-version` or `proto-unknown` if a newer version wrote
/// it.
pub(crate) fn recover(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    segment_bytes: u64,
) -> Result<Option<(Wal, Entries)>> {
    let names = disk.list(dir).map_err(|e| error::io("list its files", dir, e))?;
    let mut sequences: Vec<u64> = names.iter().filter_map(|n| wal::parse_name(n)).collect();
    sequences.sort_unstable();
    let Some(&newest) = sequences.last() else {
        return Ok(None);
    };
    let mut replay = Replay::default();
    let mut closed = VecDeque::new();
    let (mut good, mut torn) = (0, 0);
    for (nth, &sequence) in sequences.iter().enumerate() {
        let path = dir.join(wal::name(sequence));
        if sequence != sequences[0] + nth as u64 {
            return Err(error::corrupt(&path, 0, "the segment before it is missing"));
        }
        let bytes = disk.read(&path).map_err(|e| error::io("read a segment", &path, e))?;
        segment::check_header(&path, &bytes, wal::VERSION, sequence)?;
        good = replay.segment(&path, &bytes, sequence == newest)?;
        torn = bytes.len() - good;
        if sequence != newest {
            closed.push_back(Closed { sequence, top: replay.top });
        }
    }
    let path = dir.join(wal::name(newest));
    replay.check_whole(&path, good)?;
    let failed = |e| error::io("cut off its torn tail", &path, e);
    let mut file = disk.open(&path).map_err(failed)?;
    if torn > 0 {
        tracing::warn!(file = %path.display(), at = good, bytes = torn, "cutting off a write that was never acknowledged");
        file.truncate(good as u64).map_err(failed)?;
    }
    // What was read but perhaps never fsynced is answered with from here on, so it must be durable from here on.
    file.sync().map_err(failed)?;
    let wal = Wal {
        disk: disk.clone(),
        dir: dir.to_owned(),
        file,
        sequence: newest,
        end: good as u64,
        synced: good as u64,
        top: replay.top,
        closed,
        reached: replay.reached,
        segment_bytes,
        broken: None,
    };
    Ok(Some((wal, replay.entries)))
}

#[derive(Default)]
struct Replay {
    reached: Reached,
    entries: Entries,
    /// One more than the highest index of the segment's entries.
    top: u64,
    begun: bool,
}

impl Replay {
    /// Replays a segment and returns how many of its bytes are whole records.
    fn segment(&mut self, path: &Path, bytes: &[u8], last: bool) -> Result<usize> {
        let mut at = segment::HEADER;
        self.top = 0;
        while at < bytes.len() {
            let Some((found, length)) = record::read(&bytes[at..]) else {
                // A segment gets its name only when its head is durable, and a successor only when all of it is.
                if !last || at == segment::HEADER || was_durable(&bytes[at + 1..], at) {
                    return Err(error::corrupt(path, at as u64, "a record is damaged"));
                }
                break;
            };
            if (found.kind == Kind::Head) != (at == segment::HEADER) {
                return Err(error::corrupt(path, at as u64, "a record stands where it cannot"));
            }
            self.apply(&found).map_err(|why| match why {
                Wrong::Order(why) => error::corrupt(path, at as u64, why),
                Wrong::Bytes(e) => e.in_split(path.display()).at_position(format!("byte {at}")),
            })?;
            at += length;
        }
        if at == segment::HEADER {
            return Err(error::corrupt(path, at as u64, "a segment has no head"));
        }
        Ok(at)
    }

    fn apply(&mut self, found: &Record<'_>) -> Result<(), Wrong> {
        let reached = &mut self.reached;
        match found.kind {
            Kind::Head => {
                let head = head(found.payload)?;
                if self.begun && head != *reached {
                    return Err(Wrong::Order("a segment does not go on where the one before it ends".into()));
                }
                self.begun = true;
                *reached = head;
            }
            Kind::Vote => reached.vote = Some(vote_from_wire(Some(decode("vote", found.payload)?))?),
            Kind::Entry => {
                let next = reached.next;
                if !reached.append(found.index) {
                    let why = format!("entry {next} should follow, but entry {} does", found.index);
                    return Err(Wrong::Order(why));
                }
                let message = decode::<v1::LogEntry>("entry", found.payload)?;
                let entry = entry_from_wire(log_id(found.term, found.index), message)?;
                self.entries.insert(found.index, (entry, found.payload.len()));
            }
            Kind::Truncate => {
                if found.index > reached.next || found.index < reached.committed_next {
                    return Err(Wrong::Order(format!("entry {} cannot have been replaced", found.index)));
                }
                self.entries.split_off(&found.index);
                reached.next = found.index;
            }
            Kind::Purge => {
                reached.purged = Some(log_id(found.term, found.index));
                self.entries = self.entries.split_off(&(found.index + 1));
                reached.next = reached.next.max(found.index + 1);
            }
            Kind::Mark => reached.committed_next = found.index,
        }
        self.top = self.top.max(reached.next);
        Ok(())
    }

    /// The entries must go from what was purged to the end without a gap.
    fn check_whole(&self, path: &Path, good: usize) -> Result<()> {
        let first = self.entries.first_key_value().map_or(self.reached.next, |(index, _)| *index);
        let from = self.reached.purged_next();
        let missing = first != from || self.reached.next - from != self.entries.len() as u64;
        if missing {
            let why = format!("entries from {from} to {} are not all there", self.reached.next);
            return Err(error::corrupt(path, good as u64, why));
        }
        Ok(())
    }
}

enum Wrong {
    Order(String),
    Bytes(Error),
}

impl From<Error> for Wrong {
    fn from(error: Error) -> Self {
        Wrong::Bytes(error)
    }
}

fn head(payload: &[u8]) -> Result<Reached> {
    let head: v1::SegmentHead = decode("segment head", payload)?;
    Ok(Reached {
        vote: head.vote.map(|v| vote_from_wire(Some(v))).transpose()?,
        purged: head.purged.as_ref().map(log_id_from_wire),
        next: head.next,
        committed_next: head.committed_next,
        origin: head.origin,
    })
}

/// Whether a valid record in `rest` says that byte `at` of the segment had been durable.
fn was_durable(rest: &[u8], at: usize) -> bool {
    (0..rest.len()).any(|n| record::read(&rest[n..]).is_some_and(|(r, _)| r.durable > at as u64))
}
