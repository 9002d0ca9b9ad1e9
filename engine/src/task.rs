//! Tasks: one subtask of a node each, on the compute runtime.
//!
//! A task takes rows from its source or its inlets, sends them through its chain, and hands them to its edges or its
//! sink. What all of them share (counters, dead letters, the barrier) is in [`worker`].

pub(crate) mod dead;
pub(crate) mod shares;
pub(crate) mod sink;
pub(crate) mod source;
pub(crate) mod stage;
pub(crate) mod worker;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use conveyor_model::manifest::TaskAck;
use conveyor_model::plan::{Plan, Retry};
use conveyor_model::state::StateStore;
use conveyor_model::{Clock, Epoch, Error, Incarnation, Kind, TaskId};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};

use crate::config::Config;
use crate::ratio::Ratio;

/// What the control loop tells all tasks. Level-triggered: a task acts on the newest value, however many it missed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// The newest epoch whose barrier sources are to emit.
    pub(crate) inject: Epoch,
    /// The newest epoch given up.
    pub(crate) aborted: Epoch,
    /// The newest committed epoch.
    pub(crate) committed: Epoch,
    /// The newest epoch that all targets have applied.
    pub(crate) published: Epoch,
    /// Sources stop taking in rows.
    pub(crate) drain: bool,
}

/// What a task tells the control loop.
#[derive(Debug)]
pub(crate) enum TaskEvent {
    /// Its part of an epoch is durable. `sent` counts rows by edge since the last committed epoch, `codes` dead letters by
    /// code.
    Ack { epoch: Epoch, ack: Box<TaskAck>, sent: Vec<(usize, u64)>, codes: BTreeMap<String, u64> },
    /// It could not make its part durable; the next epoch takes the rows along.
    Refused { epoch: Epoch, task: TaskId, why: String },
    /// A source task has ended; `whole` says that nothing was left to read.
    SourceEnded { task: TaskId, whole: bool },
    /// A source task has told upstream that an epoch is committed.
    Acknowledged { task: TaskId, epoch: Epoch },
    /// Too many rows fail: stop after one more epoch.
    Ratio(Error),
    /// The budget of uncommitted bytes is used up: an epoch is wanted now.
    Full,
    /// Something in the background failed for good.
    Failed(Error),
}

/// What all tasks of a run share.
pub(crate) struct Shared {
    pub(crate) plan: Arc<Plan>,
    pub(crate) incarnation: Incarnation,
    pub(crate) config: Config,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) state: Arc<dyn StateStore>,
    pub(crate) control: Handle,
    pub(crate) events: mpsc::UnboundedSender<TaskEvent>,
    pub(crate) progress: watch::Receiver<Progress>,
    pub(crate) ratio: Ratio,
    pub(crate) uncommitted: AtomicU64,
    /// Something has happened since the last epoch began that the next one would commit.
    pub(crate) changed: AtomicBool,
    /// Event-time column by source name.
    pub(crate) event_times: BTreeMap<String, String>,
}

impl Shared {
    /// Tells the control loop. When it is gone, so is this task soon.
    pub(crate) fn tell(&self, event: TaskEvent) {
        if self.events.send(event).is_err() {
            tracing::debug!("the control loop has ended before a task");
        }
    }

    /// Whether sources have to wait for a commit.
    pub(crate) fn is_full(&self) -> bool {
        self.uncommitted.load(Relaxed) >= self.config.max_uncommitted_bytes
    }

    /// Says that there is something for the next epoch.
    pub(crate) fn touch(&self) {
        self.changed.store(true, Relaxed);
    }

    pub(crate) fn now_us(&self) -> u64 {
        self.clock.monotonic_us()
    }
}

/// Delays between tries of something that is unavailable.
#[derive(Debug)]
pub(crate) struct Backoff {
    retry: Retry,
    tries: u32,
}

impl Backoff {
    pub(crate) fn new(retry: Retry) -> Self {
        Self { retry, tries: 0 }
    }

    /// How long to wait before the next try; the error again when there is none.
    pub(crate) fn after(&mut self, error: Error) -> Result<Duration, Error> {
        if error.kind() != Kind::Unavailable || self.tries >= self.retry.max_retries {
            return Err(error);
        }
        let factor = 1u64.checked_shl(self.tries).unwrap_or(u64::MAX);
        self.tries += 1;
        tracing::warn!(%error, try_number = self.tries, "will try again");
        Ok(Duration::from_millis(self.retry.base_ms.saturating_mul(factor).min(self.retry.max_ms)))
    }

    /// Something worked: the next failure starts over.
    pub(crate) fn reset(&mut self) {
        self.tries = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backs_off_exponentially_and_gives_up() {
        let mut backoff = Backoff::new(Retry { max_retries: 3, base_ms: 100, max_ms: 250 });
        let down = || Error::new(Kind::Unavailable, "down", "the system is down");
        let waits: Vec<_> = (0..3).map(|_| backoff.after(down()).unwrap().as_millis()).collect();
        assert_eq!(waits, [100, 200, 250]);
        assert_eq!(backoff.after(down()).unwrap_err().code(), "down");
        backoff.reset();
        assert!(backoff.after(down()).is_ok());
        assert!(backoff.after(Error::runtime("broken", "for good")).is_err());
    }
}
