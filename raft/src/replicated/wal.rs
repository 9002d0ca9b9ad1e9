//! Log and vote of a replicated node on disk: one stream of records, only ever appended to.
//!
//! Nothing is overwritten and nothing is cut off, apart from a torn tail when the log is opened: that entries were replaced is
//! a record of its own. So a vote, an append and a truncation cost one write and one fsync together, and a crash leaves a
//! prefix. Each segment starts with what the ones before it have led to, so that those can go once a snapshot covers them.
//!
//! It does not know openraft: payloads of entries are bytes here.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use conveyor_model::{Result, planted};
use conveyor_proto::{encode, v1};

use super::types::{LogId, Vote, log_id_to_wire, vote_to_wire};
use crate::disk::{Disk, DiskFile};
use crate::record::{Kind, Record};
use crate::{error, segment};

/// Version of the form of a replicated log's segments.
pub(crate) const VERSION: u8 = 2;

/// File name of a segment.
pub(crate) fn name(sequence: u64) -> String {
    format!("raft-{sequence:020}.log")
}

/// The number of a segment of this file name.
pub(crate) fn parse_name(name: &str) -> Option<u64> {
    name.strip_prefix("raft-")?.strip_suffix(".log").filter(|n| n.len() == 20)?.parse().ok()
}

/// A change of the log.
#[derive(Debug, Clone)]
pub(crate) enum Op {
    Vote(Vote),
    /// The next entry.
    Append {
        index: u64,
        term: u64,
        payload: Vec<u8>,
    },
    /// Voids the entries from this index on.
    Truncate(u64),
    /// Entries up to and with this one are in a snapshot.
    Purge(LogId),
    /// Entries below this index are committed. Not worth an fsync: what is lost of it is learnt again.
    Committed(u64),
}

/// What all records so far have led to.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Reached {
    pub(crate) vote: Option<Vote>,
    pub(crate) purged: Option<LogId>,
    /// Index that the next entry gets.
    pub(crate) next: u64,
    pub(crate) committed_next: u64,
    /// Index of the first entry ever. The first entry may have any: that is openraft's affair.
    pub(crate) origin: u64,
}

impl Reached {
    pub(crate) fn to_wire(&self) -> v1::SegmentHead {
        v1::SegmentHead {
            vote: self.vote.as_ref().map(vote_to_wire),
            purged: self.purged.as_ref().map(log_id_to_wire),
            next: self.next,
            committed_next: self.committed_next,
            origin: self.origin,
        }
    }

    /// Index of the first entry that is still wanted.
    pub(crate) fn purged_next(&self) -> u64 {
        self.purged.map_or(self.origin, |p| p.index + 1)
    }

    /// Takes note of an entry; `false` if it does not follow.
    pub(crate) fn append(&mut self, index: u64) -> bool {
        if self.purged.is_none() && self.next == self.origin {
            (self.origin, self.next) = (index, index);
        }
        let follows = index == self.next;
        self.next = index + 1;
        follows
    }

    fn note(&mut self, op: &Op) {
        match op {
            Op::Vote(vote) => self.vote = Some(*vote),
            Op::Append { index, .. } => _ = self.append(*index),
            Op::Truncate(since) => self.next = *since,
            Op::Purge(upto) => {
                self.purged = Some(*upto);
                self.next = self.next.max(upto.index + 1);
            }
            Op::Committed(next) => self.committed_next = *next,
        }
    }
}

/// A segment that is no longer written to.
#[derive(Debug)]
pub(crate) struct Closed {
    pub(crate) sequence: u64,
    /// One more than the highest index of its entries.
    pub(crate) top: u64,
}

/// A failed write: the log takes nothing more until a restart, which reads what is there.
pub(crate) type Failure = (io::ErrorKind, String);

/// The log as it is written.
pub(crate) struct Wal {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) dir: PathBuf,
    pub(crate) file: Box<dyn DiskFile>,
    pub(crate) sequence: u64,
    /// Bytes of the segment that are whole records.
    pub(crate) end: u64,
    /// Bytes of it that are fsynced.
    pub(crate) synced: u64,
    pub(crate) top: u64,
    pub(crate) closed: VecDeque<Closed>,
    pub(crate) reached: Reached,
    pub(crate) segment_bytes: u64,
    pub(crate) broken: Option<Failure>,
}

impl Wal {
    /// Starts a log in a directory that has none.
    pub(crate) fn create(disk: Arc<dyn Disk>, dir: &Path, segment_bytes: u64) -> Result<Self> {
        let reached = Reached::default();
        let (file, end) = new_segment(disk.as_ref(), dir, 1, &reached)?;
        Ok(Self {
            disk,
            dir: dir.to_owned(),
            file,
            sequence: 1,
            end,
            synced: end,
            top: 0,
            closed: VecDeque::new(),
            reached,
            segment_bytes,
            broken: None,
        })
    }

    /// Writes a group of changes with at most one fsync. When it returns, votes, entries and truncations are durable.
    ///
    /// # Errors
    /// When the disk refuses. The group may be there in part after a restart; nothing is taken any more until then.
    pub(crate) fn write(&mut self, ops: &[Op]) -> Result<(), Failure> {
        if let Some(broken) = &self.broken {
            return Err(broken.clone());
        }
        let done = self.try_write(ops);
        if let Err((kind, why)) = done {
            let why = format!("{why}; the log takes nothing more until a restart");
            self.broken = Some((kind, why.clone()));
            return Err((kind, why));
        }
        Ok(())
    }

    fn try_write(&mut self, ops: &[Op]) -> Result<(), Failure> {
        if self.end >= self.segment_bytes {
            self.rotate()?;
        }
        let mut bytes = Vec::new();
        let mut reached = self.reached.clone();
        let mut durable = false;
        for op in ops {
            check(&reached, op)?;
            reached.note(op);
            self.encode(op, &mut bytes);
            self.top = self.top.max(reached.next);
            durable |= matches!(op, Op::Vote(_) | Op::Append { .. } | Op::Truncate(_));
        }
        fail::fail_point!("raft-before-wal-write");
        self.put(&bytes)?;
        self.reached = reached;
        fail::fail_point!("raft-after-wal-write");
        if durable && !planted("log-unsynced") {
            self.sync()?;
            fail::fail_point!("raft-after-wal-sync");
            // Not fsynced: it turns later damage of the group into an error where it would have looked like a torn tail.
            let mut mark = Vec::new();
            let index = self.reached.committed_next;
            Record { kind: Kind::Mark, index, term: 0, durable: self.synced, payload: &[] }.write(&mut mark);
            self.put(&mark)?;
        }
        if ops.iter().any(|op| matches!(op, Op::Purge(_))) {
            self.remove_covered()?;
        }
        Ok(())
    }

    fn encode(&self, op: &Op, out: &mut Vec<u8>) {
        let durable = self.synced;
        let mut plain = |kind, index, term, payload: &[u8]| {
            Record { kind, index, term, durable, payload }.write(out);
        };
        match op {
            Op::Vote(vote) => plain(Kind::Vote, 0, vote.leader_id.term, &encode(&vote_to_wire(vote))),
            Op::Append { index, term, payload } => plain(Kind::Entry, *index, *term, payload),
            Op::Truncate(since) => plain(Kind::Truncate, *since, 0, &[]),
            Op::Purge(upto) => plain(Kind::Purge, upto.index, upto.leader_id.term, &[]),
            Op::Committed(next) => plain(Kind::Mark, *next, 0, &[]),
        }
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.file.write_at(self.end, bytes).map_err(|e| (e.kind(), format!("a write failed ({e})")))?;
        self.end += bytes.len() as u64;
        Ok(())
    }

    fn sync(&mut self) -> Result<(), Failure> {
        // After a failed fsync the kernel may have dropped the pages and forgotten the error: a second try would lie.
        self.file.sync().map_err(|e| (e.kind(), format!("fsync failed ({e})")))?;
        self.synced = self.end;
        Ok(())
    }

    /// Starts the next segment. The one before it is durable as a whole by then: only the last one may end torn.
    fn rotate(&mut self) -> Result<(), Failure> {
        self.sync()?;
        let sequence = self.sequence + 1;
        let made = new_segment(self.disk.as_ref(), &self.dir, sequence, &self.reached);
        let (file, end) = made.map_err(|e| (io::ErrorKind::Other, e.to_string()))?;
        fail::fail_point!("raft-after-wal-segment");
        self.closed.push_back(Closed { sequence: self.sequence, top: self.top });
        (self.file, self.sequence, self.end, self.synced) = (file, sequence, end, end);
        self.top = 0;
        Ok(())
    }

    /// Removes the oldest segments as far as a snapshot covers them, after the record that says so is durable.
    fn remove_covered(&mut self) -> Result<(), Failure> {
        let purged_next = self.reached.purged_next();
        if self.closed.front().is_none_or(|c| c.top > purged_next) {
            return Ok(());
        }
        self.sync()?;
        while let Some(oldest) = self.closed.front().filter(|c| c.top <= purged_next) {
            let path = self.dir.join(name(oldest.sequence));
            if let Err(cause) = self.disk.remove(&path) {
                // Removed in order or not at all: a gap in the numbers would look like a lost segment.
                tracing::warn!(file = %path.display(), %cause, "cannot remove a segment that the log no longer needs");
                break;
            }
            // Without this a crash could bring an older segment back and lose a younger one.
            self.disk.sync_dir(&self.dir).map_err(|e| (e.kind(), format!("fsync failed ({e})")))?;
            fail::fail_point!("raft-after-wal-delete");
            self.closed.pop_front();
        }
        Ok(())
    }

    /// The failure as an error of the whole log.
    pub(crate) fn error(&self, (kind, why): Failure) -> conveyor_model::Error {
        error::io("make a change durable", &self.dir.join(name(self.sequence)), io::Error::new(kind, why))
    }
}

/// Changes that no correct caller asks for.
fn check(reached: &Reached, op: &Op) -> Result<(), Failure> {
    let wrong = match op {
        Op::Append { index, .. } if !reached.clone().append(*index) => {
            format!("entry {index} was appended where {} should follow", reached.next)
        }
        Op::Truncate(since) if *since < reached.committed_next => {
            format!("entry {since} was to be replaced, but is committed")
        }
        _ => return Ok(()),
    };
    Err((io::ErrorKind::InvalidInput, wrong))
}

fn new_segment(
    disk: &dyn Disk,
    dir: &Path,
    sequence: u64,
    reached: &Reached,
) -> Result<(Box<dyn DiskFile>, u64)> {
    let mut bytes = segment::header(VERSION, sequence);
    let payload = encode(&reached.to_wire());
    Record { kind: Kind::Head, index: reached.next, term: 0, durable: 0, payload: &payload }
        .write(&mut bytes);
    let file = segment::create_as(disk, dir, &name(sequence), &bytes)?;
    Ok((file, bytes.len() as u64))
}
