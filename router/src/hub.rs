//! The place where services find the control loop, while this router leads.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use conveyor_raft::ReplicatedLog;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::input::Input;

/// A term in which this router leads.
pub(crate) struct Leading {
    pub(crate) term: u64,
    pub(crate) inputs: mpsc::Sender<Input>,
    /// Cancelled when the term is over.
    pub(crate) end: CancellationToken,
    pub(crate) tasks: TaskTracker,
    sessions: AtomicU64,
}

impl Leading {
    pub(crate) fn new(term: u64, inputs: mpsc::Sender<Input>) -> Self {
        let sessions = AtomicU64::new(1);
        Self { term, inputs, end: CancellationToken::new(), tasks: TaskTracker::new(), sessions }
    }

    /// The number of a new stream: higher than all before.
    pub(crate) fn next_session(&self) -> u64 {
        self.sessions.fetch_add(1, Relaxed)
    }
}

/// What services of a router share.
pub(crate) struct Hub {
    log: Arc<ReplicatedLog>,
    leading: Mutex<Option<Arc<Leading>>>,
}

impl Hub {
    pub(crate) fn new(log: Arc<ReplicatedLog>) -> Self {
        Self { log, leading: Mutex::new(None) }
    }

    pub(crate) fn log(&self) -> &Arc<ReplicatedLog> {
        &self.log
    }

    /// The control loop, while this router leads and is ready to.
    pub(crate) fn leading(&self) -> Option<Arc<Leading>> {
        self.leading.lock().clone()
    }

    pub(crate) fn set(&self, leading: Option<Arc<Leading>>) {
        *self.leading.lock() = leading;
    }
}
