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

use conveyor_model::plan::Plan;
use conveyor_model::progress::{Progress, Report};
use conveyor_model::state::StateStore;
use conveyor_model::{Clock, Incarnation};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};

use crate::config::Config;
use crate::ratio::Ratio;

/// What all tasks of a member share.
pub(crate) struct Shared {
    pub(crate) plan: Arc<Plan>,
    pub(crate) incarnation: Incarnation,
    pub(crate) config: Config,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) state: Arc<dyn StateStore>,
    pub(crate) control: Handle,
    pub(crate) reports: mpsc::UnboundedSender<Report>,
    pub(crate) progress: watch::Receiver<Progress>,
    pub(crate) ratio: Ratio,
    /// No source is read here, so rows are counted for the ratio where they arrive.
    pub(crate) counts_at_stages: bool,
    pub(crate) uncommitted: AtomicU64,
    /// Something has happened since the last barrier that the next epoch would commit, and the control loop knows.
    pub(crate) changed: AtomicBool,
    /// Event-time column by source name.
    pub(crate) event_times: BTreeMap<String, String>,
}

impl Shared {
    /// Tells the control loop. When it is gone, so is this task soon.
    pub(crate) fn tell(&self, report: Report) {
        if self.reports.send(report).is_err() {
            tracing::debug!("the control loop has ended before a task");
        }
    }

    /// Whether sources have to wait for a commit.
    pub(crate) fn is_full(&self) -> bool {
        self.uncommitted.load(Relaxed) >= self.config.max_uncommitted_bytes
    }

    /// Says that there is something for the next epoch: told once until the next barrier.
    pub(crate) fn touch(&self) {
        if !self.changed.load(Relaxed) && !self.changed.swap(true, Relaxed) {
            self.tell(Report::Changed);
        }
    }

    pub(crate) fn now_us(&self) -> u64 {
        self.clock.monotonic_us()
    }
}
