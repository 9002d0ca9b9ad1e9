//! The place where services find the control loop, while this router leads.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use conveyor_net::Journal;
use conveyor_raft::ReplicatedLog;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::input::Input;
use crate::logs::{LogLine, Logs, Wanted};

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
    /// What this process says.
    pub(crate) journal: Arc<Journal>,
    /// What sidecars have said to it.
    pub(crate) logs: Arc<Logs>,
}

impl Hub {
    pub(crate) fn new(log: Arc<ReplicatedLog>, journal: Arc<Journal>) -> Self {
        Self { log, leading: Mutex::new(None), journal, logs: Arc::default() }
    }

    /// The newest lines that are wanted of this process and of the sidecars that it has heard, oldest first.
    pub(crate) fn lines(&self, wanted: &Wanted) -> Vec<LogLine> {
        let me = format!("router {}", self.log.identity().node);
        let own = |line: conveyor_net::journal::Line| LogLine {
            at_us: line.at_us,
            process: me.clone(),
            level: line.level,
            pipeline: line.pipeline,
            step: line.step,
            text: line.text,
        };
        let mut all = self.logs.find(wanted);
        let journal = self.journal.last(usize::MAX, |_| true).into_iter().map(own);
        all.extend(journal.filter(|line| wanted.picks(line)));
        all.sort_by_key(|line| line.at_us);
        all.drain(..all.len().saturating_sub(wanted.limit));
        all
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
