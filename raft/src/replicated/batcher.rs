//! Commands that wait at the same moment become one entry: one write and one fsync on each node for all of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use conveyor_model::log::{Command, Outcome};
use futures::channel::oneshot;
use openraft::error::ClientWriteError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;

use super::types::{Batch, Types};

/// Most commands in an entry.
const BATCH: usize = 1024;
/// Bytes of commands in an entry, if there is more than one.
const BATCH_BYTES: usize = 128 << 10;
/// Entries on their way at once: while one travels to the followers, the next is written here.
const IN_FLIGHT: usize = 2;
/// Bytes of commands that may wait. Who comes later waits for room, without end: the caller has the deadline.
const QUEUE_BYTES: usize = 8 << 20;

/// Why a command has no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NotDone {
    /// This node does not lead; the command is in no log that will be agreed.
    NotLeader,
    /// It may or may not be applied.
    Unknown(String),
}

type Answer = Result<Outcome, NotDone>;

struct Waiting {
    command: Command,
    bytes: usize,
    answer: oneshot::Sender<Answer>,
    room: OwnedSemaphorePermit,
}

/// Where commands wait for the next entry.
pub(crate) struct Batcher {
    queue: mpsc::UnboundedSender<Waiting>,
    room: Arc<Semaphore>,
    /// Commands that were applied.
    applied: AtomicU64,
    /// Microseconds that they took together, with their wait for an entry.
    took_us: AtomicU64,
}

impl Batcher {
    /// Starts the task that makes entries; it ends with the batcher.
    pub(crate) fn start(raft: openraft::Raft<Types>) -> Self {
        let (queue, waiting) = mpsc::unbounded_channel();
        tokio::spawn(propose_all(raft, waiting));
        Self {
            queue,
            room: Arc::new(Semaphore::new(QUEUE_BYTES)),
            applied: AtomicU64::new(0),
            took_us: AtomicU64::new(0),
        }
    }

    /// Proposes a command of `bytes` encoded bytes here, and waits until it is applied. Cancel-safe: a command whose caller
    /// has gone before its entry was made is dropped.
    pub(crate) async fn propose(&self, command: Command, bytes: usize) -> Answer {
        let began = Instant::now();
        let stopped = || NotDone::Unknown("the log's node has stopped".to_owned());
        let wanted = u32::try_from(bytes.clamp(1, QUEUE_BYTES)).expect("the queue is below 4 GiB");
        let room = self.room.clone().acquire_many_owned(wanted).await.map_err(|_| stopped())?;
        let (answer, answered) = oneshot::channel();
        self.queue.send(Waiting { command, bytes, answer, room }).map_err(|_| stopped())?;
        let outcome = answered.await.map_err(|_| stopped())??;
        let took = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.took_us.fetch_add(took, Ordering::Relaxed);
        self.applied.fetch_add(1, Ordering::Relaxed);
        Ok(outcome)
    }

    /// Commands applied, and the seconds that they took together.
    pub(crate) fn latency(&self) -> (u64, f64) {
        (self.applied.load(Ordering::Relaxed), self.took_us.load(Ordering::Relaxed) as f64 / 1e6)
    }
}

async fn propose_all(raft: openraft::Raft<Types>, mut queue: mpsc::UnboundedReceiver<Waiting>) {
    let slots = Arc::new(Semaphore::new(IN_FLIGHT));
    let mut held: Option<Waiting> = None;
    loop {
        let first = match held.take() {
            Some(first) => first,
            None => match queue.recv().await {
                Some(first) => first,
                None => return,
            },
        };
        // Taken before the queue is emptied: whatever comes while the disk is busy goes into this entry.
        let slot = slots.clone().acquire_owned().await.expect("never closed");
        let mut bytes = first.bytes;
        let mut group = vec![first];
        while group.len() < BATCH
            && let Ok(next) = queue.try_recv()
        {
            if bytes + next.bytes > BATCH_BYTES {
                held = Some(next);
                break;
            }
            bytes += next.bytes;
            group.push(next);
        }
        group.retain(|waiting| !waiting.answer.is_canceled());
        if !group.is_empty() {
            propose(&raft, group, slot).await;
        }
    }
}

/// Hands a group to openraft and lets a task of its own give out the answers.
async fn propose(raft: &openraft::Raft<Types>, group: Vec<Waiting>, slot: OwnedSemaphorePermit) {
    let mut commands = Vec::with_capacity(group.len());
    let mut answers = Vec::with_capacity(group.len());
    for Waiting { command, answer, room, .. } in group {
        commands.push(command);
        answers.push((answer, room));
    }
    let written = raft.client_write_ff(Batch(commands)).await;
    tokio::spawn(async move {
        let outcome = match written {
            Err(fatal) => Err(NotDone::Unknown(fatal.to_string())),
            Ok(answer) => match answer.await {
                Ok(Ok(done)) => Ok(done.data.0),
                Ok(Err(ClientWriteError::ForwardToLeader(_))) => Err(NotDone::NotLeader),
                Ok(Err(other)) => Err(NotDone::Unknown(other.to_string())),
                Err(_) => Err(NotDone::Unknown("the log's node has stopped".to_owned())),
            },
        };
        drop(slot);
        // A caller that no longer waits has given up its answer.
        match outcome {
            Ok(outcomes) => {
                for ((answer, _), outcome) in answers.into_iter().zip(outcomes) {
                    drop(answer.send(Ok(outcome)));
                }
            }
            Err(why) => answers.into_iter().for_each(|(answer, _)| drop(answer.send(Err(why.clone())))),
        }
    });
}
