//! The one place that appends: takes all waiting proposals, writes them, fsyncs once, applies, answers.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use conveyor_model::log::{Command, Outcome};
use conveyor_model::{Error, Result};
use futures::channel::oneshot;
use parking_lot::RwLock;

use crate::disk::{Disk, DiskFile};
use crate::record::{Kind, Record, TERM};
use crate::recover::Recovered;
use crate::{ClusterState, error, segment, snapshot};

/// Most proposals in one write.
const GROUP: usize = 1024;

/// A command on its way to the disk.
pub(crate) struct Proposal {
    pub(crate) command: Command,
    pub(crate) bytes: Vec<u8>,
    pub(crate) answer: oneshot::Sender<Result<Outcome>>,
}

pub(crate) struct Writer {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    state: Arc<RwLock<ClusterState>>,
    file: Box<dyn DiskFile>,
    path: PathBuf,
    /// Bytes of the segment that are whole records.
    end: u64,
    last: u64,
    snapshot: u64,
    /// Entries since the last snapshot, or since the last try to write one.
    since: u64,
    snapshot_every: u64,
    /// Set when the file is no longer known to hold what was written; nothing is accepted then.
    broken: Option<(io::ErrorKind, String)>,
}

impl Writer {
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        dir: &Path,
        state: Arc<RwLock<ClusterState>>,
        found: Recovered,
        snapshot_every: u64,
    ) -> Self {
        *state.write() = found.state;
        Self {
            disk,
            dir: dir.to_owned(),
            state,
            file: found.file,
            path: found.path,
            end: found.end,
            last: found.last,
            snapshot: found.snapshot,
            since: found.last - found.snapshot,
            snapshot_every,
            broken: None,
        }
    }

    /// Works until all senders are gone.
    pub(crate) fn run(mut self, proposals: &Receiver<Proposal>) {
        while let Ok(first) = proposals.recv() {
            let mut group = vec![first];
            group.extend(proposals.try_iter().take(GROUP - 1));
            self.process(group);
        }
    }

    /// Makes a group durable, applies it and answers. On failure nothing of it is applied.
    pub(crate) fn process(&mut self, group: Vec<Proposal>) {
        if let Err((kind, why)) = self.append(&group) {
            for proposal in group {
                let failed = self.failure(kind, &why);
                // A caller that no longer waits has given up its answer.
                drop(proposal.answer.send(Err(failed)));
            }
            return;
        }
        let mut answers = Vec::with_capacity(group.len());
        {
            let mut state = self.state.write();
            for proposal in group {
                answers.push((state.apply(&proposal.command), proposal.answer));
            }
        }
        for (outcome, answer) in answers {
            drop(answer.send(Ok(outcome)));
        }
        if self.since >= self.snapshot_every {
            self.take_snapshot();
        }
    }

    fn failure(&self, kind: io::ErrorKind, why: &str) -> Error {
        error::io("make a command durable", &self.path, io::Error::new(kind, why))
    }

    fn append(&mut self, group: &[Proposal]) -> Result<(), (io::ErrorKind, String)> {
        if let Some(broken) = &self.broken {
            return Err(broken.clone());
        }
        let mut bytes = Vec::new();
        for (nth, proposal) in group.iter().enumerate() {
            let index = self.last + 1 + nth as u64;
            let payload = &proposal.bytes;
            Record { kind: Kind::Entry, index, term: TERM, durable: self.last, payload }.write(&mut bytes);
        }
        fail::fail_point!("raft-before-append");
        if let Err(cause) = self.file.write_at(self.end, &bytes) {
            self.undo();
            return Err((cause.kind(), cause.to_string()));
        }
        fail::fail_point!("raft-after-append");
        if let Err(cause) = self.file.sync() {
            // After a failed fsync the kernel may have dropped the pages and forgotten the error: a second try would
            // lie. Only a restart, which reads the file, knows what is there.
            let broken =
                (cause.kind(), format!("fsync failed ({cause}); the log takes nothing more until a restart"));
            self.broken = Some(broken.clone());
            return Err(broken);
        }
        fail::fail_point!("raft-after-sync");
        self.end += bytes.len() as u64;
        self.last += group.len() as u64;
        self.since += group.len() as u64;
        self.mark();
        Ok(())
    }

    /// Writes down that all entries so far are durable, without fsync: it reaches the disk by itself or with the next
    /// group, and turns later damage of the last entries into an error where it would have looked like a torn tail.
    fn mark(&mut self) {
        let mut bytes = Vec::new();
        Record { kind: Kind::Mark, index: self.last, term: TERM, durable: self.last, payload: &[] }
            .write(&mut bytes);
        match self.file.write_at(self.end, &bytes) {
            Ok(()) => self.end += bytes.len() as u64,
            Err(_) => self.undo(),
        }
    }

    /// Cuts off what a failed write left, so that the next one starts at a record boundary.
    fn undo(&mut self) {
        if let Err(cause) = self.file.truncate(self.end) {
            let why = format!(
                "a failed write cannot be undone ({cause}); the log takes nothing more until a restart"
            );
            self.broken = Some((cause.kind(), why));
        }
    }

    /// Writes a snapshot, starts a new segment, removes what the snapshot covers.
    fn take_snapshot(&mut self) {
        self.since = 0;
        fail::fail_point!("raft-before-snapshot");
        let state = self.state.read().clone();
        if let Err(cause) = snapshot::write(self.disk.as_ref(), &self.dir, self.last, TERM, &state) {
            tracing::warn!(%cause, "no snapshot of the log; it is tried again later");
            return;
        }
        fail::fail_point!("raft-after-snapshot");
        let first = self.last + 1;
        match segment::create(self.disk.as_ref(), &self.dir, first) {
            Ok(file) => self.file = file,
            Err(cause) => {
                // The new segment may exist or not; going on in the old one could give two that hold the same index.
                self.broken = Some((
                    io::ErrorKind::Other,
                    format!("{cause}; the log takes nothing more until a restart"),
                ));
                return;
            }
        }
        fail::fail_point!("raft-after-segment");
        let old = std::mem::replace(&mut self.path, self.dir.join(segment::name(first)));
        let covered = std::mem::replace(&mut self.snapshot, self.last);
        self.end = segment::HEADER as u64;
        let mut leftovers = vec![old];
        if covered > 0 {
            leftovers.push(self.dir.join(snapshot::name(covered)));
        }
        for path in leftovers {
            if let Err(cause) = self.disk.remove(&path) {
                tracing::warn!(file = %path.display(), %cause, "cannot remove a file that the log no longer needs");
            }
        }
        fail::fail_point!("raft-after-delete");
    }
}
