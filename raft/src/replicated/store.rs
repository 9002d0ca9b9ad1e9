//! openraft's log storage: entries in memory for reading, and one thread that writes and fsyncs.
//!
//! Memory holds what no snapshot covers yet and a little more, as the snapshot policy bounds it.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use conveyor_model::Result;
use conveyor_model::log::Command;
use conveyor_proto::encode;
use futures::channel::oneshot;
use openraft::storage::{LogFlushed, RaftLogStorage};
use openraft::{EntryPayload, LogState, OptionalSend, RaftLogReader, StorageIOError};
use parking_lot::{Mutex, RwLock};

use super::recover::Entries;
use super::types::{Entry, LogId, StorageError, Types, Vote, entry_to_wire};
use super::wal::{Failure, Op, Reached, Wal};

/// Most changes in one write.
const GROUP: usize = 1024;
/// Bytes of entries that go into one message to a follower, if there is more than one entry.
const MESSAGE_BYTES: usize = 1 << 20;

/// Who waits for a change.
enum Waiting {
    Append(LogFlushed<Types>),
    Other(oneshot::Sender<Result<(), io::Error>>),
    Nobody,
}

struct Job {
    ops: Vec<Op>,
    waiting: Waiting,
}

#[derive(Default)]
struct Memory {
    entries: Entries,
    reached: Reached,
}

impl Memory {
    fn truncate(&mut self, since: u64) {
        self.entries.split_off(&since);
        self.reached.next = since;
    }
}

/// Reads entries; clones read the same log.
#[derive(Clone)]
pub(crate) struct Reader(Arc<RwLock<Memory>>);

/// The way to who writes.
enum Jobs {
    /// A thread, which may wait for the disk.
    Thread(Mutex<Sender<Job>>),
    /// A task on the one thread of a simulation.
    #[cfg(feature = "simulation")]
    Task(tokio::sync::mpsc::UnboundedSender<Job>),
}

/// Log and vote of a node.
pub(crate) struct LogStore {
    memory: Reader,
    jobs: Option<Jobs>,
    writer: Option<JoinHandle<()>>,
}

impl LogStore {
    /// The store over a log as it was opened.
    ///
    /// # Errors
    /// When there is no thread for it.
    pub(crate) fn new(wal: Wal, entries: Entries) -> Result<Self> {
        let reached = wal.reached.clone();
        let memory = Reader(Arc::new(RwLock::new(Memory { entries, reached })));
        #[cfg(feature = "simulation")]
        if conveyor_model::simulation::on() {
            let jobs = Some(Jobs::Task(simulated::start(wal)));
            return Ok(Self { memory, jobs, writer: None });
        }
        let dir = wal.dir.clone();
        let (jobs, receiver) = channel();
        let writer = std::thread::Builder::new()
            .name("conveyor-log".to_owned())
            .spawn(move || write_all(wal, &receiver))
            .map_err(|e| crate::error::io("start its writer thread", &dir, e))?;
        Ok(Self { memory, jobs: Some(Jobs::Thread(Mutex::new(jobs))), writer: Some(writer) })
    }

    pub(crate) fn reader(&self) -> Reader {
        self.memory.clone()
    }

    fn send(&self, ops: Vec<Op>, waiting: Waiting) -> Result<(), io::Error> {
        let jobs = self.jobs.as_ref().expect("only taken when the store is dropped");
        let job = Job { ops, waiting };
        match jobs {
            Jobs::Thread(jobs) => jobs.lock().send(job).map_err(|_| gone()),
            #[cfg(feature = "simulation")]
            Jobs::Task(jobs) => jobs.send(job).map_err(|_| gone()),
        }
    }

    async fn write(&self, ops: Vec<Op>) -> Result<(), io::Error> {
        let (done, waiting) = oneshot::channel();
        self.send(ops, Waiting::Other(done))?;
        waiting.await.map_err(|_| gone())?
    }
}

impl Drop for LogStore {
    fn drop(&mut self) {
        // Without senders the writer finishes what is queued and ends.
        self.jobs = None;
        if let Some(writer) = self.writer.take() {
            drop(writer.join());
        }
    }
}

fn gone() -> io::Error {
    io::Error::other("the log's writer has stopped")
}

/// Works until all senders are gone: takes everything that waits, writes it at once, then answers.
fn write_all(mut wal: Wal, jobs: &Receiver<Job>) {
    while let Ok(first) = jobs.recv() {
        let mut group = vec![first];
        group.extend(jobs.try_iter().take(GROUP - 1));
        write_group(&mut wal, group);
    }
}

fn write_group(wal: &mut Wal, mut group: Vec<Job>) {
    let ops: Vec<Op> = group.iter_mut().flat_map(|job| std::mem::take(&mut job.ops)).collect();
    let done = wal.write(&ops);
    if let Err(failure) = &done {
        let cause = wal.error(failure.clone());
        tracing::error!(%cause, "the log cannot be written; this node stops");
    }
    for job in group {
        let result = done.clone().map_err(|(kind, why): Failure| io::Error::new(kind, why));
        match job.waiting {
            Waiting::Append(flushed) => flushed.log_io_completed(result),
            // Who no longer waits has given up its answer.
            Waiting::Other(waiting) => drop(waiting.send(result)),
            Waiting::Nobody => {}
        }
    }
}

/// The writer of a simulation: a task, whose disk takes a moment.
#[cfg(feature = "simulation")]
mod simulated {
    use std::time::Duration;

    use conveyor_model::simulation;
    use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

    use super::{GROUP, Job, Wal, write_group};

    pub(super) fn start(mut wal: Wal) -> UnboundedSender<Job> {
        let (jobs, mut waiting) = unbounded_channel();
        tokio::spawn(async move {
            let mut group = Vec::new();
            while waiting.recv_many(&mut group, GROUP).await > 0 {
                tokio::time::sleep(Duration::from_micros(simulation::below(4_000))).await;
                write_group(&mut wal, std::mem::take(&mut group));
            }
        });
        jobs
    }
}

impl Reader {
    /// All that is known of the log and not yet purged, for tests and for a node's start.
    pub(crate) fn reached(&self) -> Reached {
        self.0.read().reached.clone()
    }

    fn log_state(&self) -> LogState<Types> {
        let memory = self.0.read();
        let last = memory.entries.last_key_value().map(|(_, (entry, _))| entry.log_id);
        LogState { last_purged_log_id: memory.reached.purged, last_log_id: last.or(memory.reached.purged) }
    }
}

impl RaftLogReader<Types> for Reader {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, StorageError> {
        Ok(self.0.read().entries.range(range).map(|(_, (entry, _))| entry.clone()).collect())
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, StorageError> {
        let memory = self.0.read();
        let mut bytes = 0;
        let fits = |size: usize, bytes: &mut usize| {
            *bytes += size;
            *bytes == size || *bytes <= MESSAGE_BYTES
        };
        let some = memory.entries.range((Bound::Included(start), Bound::Excluded(end)));
        Ok(some.take_while(|(_, (_, size))| fits(*size, &mut bytes)).map(|(_, (e, _))| e.clone()).collect())
    }
}

impl RaftLogReader<Types> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, StorageError> {
        self.memory.try_get_log_entries(range).await
    }
}

impl RaftLogStorage<Types> for LogStore {
    type LogReader = Reader;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, StorageError> {
        Ok(self.memory.log_state())
    }

    async fn get_log_reader(&mut self) -> Reader {
        self.memory.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), StorageError> {
        self.write(vec![Op::Vote(*vote)]).await.map_err(|e| StorageIOError::write_vote(&e))?;
        self.memory.0.write().reached.vote = Some(*vote);
        Ok(())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, StorageError> {
        Ok(self.memory.0.read().reached.vote)
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), StorageError> {
        let next = committed.map_or(0, |c| c.index + 1);
        self.memory.0.write().reached.committed_next = next;
        self.send(vec![Op::Committed(next)], Waiting::Nobody).map_err(|e| StorageIOError::write(&e))?;
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, StorageError> {
        let memory = self.memory.0.read();
        let Some(index) = memory.reached.committed_next.checked_sub(1) else {
            return Ok(None);
        };
        let entry = memory.entries.get(&index).map(|(entry, _)| entry.log_id);
        Ok(entry.or(memory.reached.purged.filter(|p| p.index == index)))
    }

    async fn append<I>(&mut self, entries: I, callback: LogFlushed<Types>) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut ops = Vec::new();
        let mut news = News::default();
        {
            let mut memory = self.memory.0.write();
            for entry in entries {
                let (index, term) = (entry.log_id.index, entry.log_id.leader_id.term);
                if index < memory.reached.next {
                    // openraft truncates before it appends anew; its suite does not.
                    memory.truncate(index);
                    ops.push(Op::Truncate(index));
                }
                let payload = encode(&entry_to_wire(&entry));
                news.note(&entry);
                memory.entries.insert(index, (entry, payload.len()));
                memory.reached.append(index);
                ops.push(Op::Append { index, term, payload });
            }
        }
        self.send(ops, Waiting::Append(callback)).map_err(|e| StorageIOError::write_logs(&e))?;
        news.pass();
        Ok(())
    }

    async fn truncate(&mut self, log_id: LogId) -> Result<(), StorageError> {
        self.memory.0.write().truncate(log_id.index);
        self.write(vec![Op::Truncate(log_id.index)]).await.map_err(|e| StorageIOError::write_logs(&e))?;
        Ok(())
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), StorageError> {
        {
            let mut memory = self.memory.0.write();
            memory.entries = memory.entries.split_off(&(log_id.index + 1));
            memory.reached.purged = Some(log_id);
            memory.reached.next = memory.reached.next.max(log_id.index + 1);
        }
        self.write(vec![Op::Purge(log_id)]).await.map_err(|e| StorageIOError::write_logs(&e))?;
        Ok(())
    }
}

/// What entries are about, for crash points at the moment when they are proposed and not agreed.
#[derive(Default)]
struct News {
    commits: bool,
    members: bool,
}

impl News {
    fn note(&mut self, entry: &Entry) {
        if !cfg!(feature = "failpoints") {
            return;
        }
        match &entry.payload {
            EntryPayload::Normal(batch) => {
                self.commits |= batch.0.iter().any(|c| matches!(c, Command::CommitEpoch { .. }));
            }
            EntryPayload::Membership(_) => self.members = true,
            EntryPayload::Blank => {}
        }
    }

    fn pass(&self) {
        if self.commits {
            fail::fail_point!("raft-commit-appended");
        }
        if self.members {
            fail::fail_point!("raft-members-appended");
        }
    }
}
