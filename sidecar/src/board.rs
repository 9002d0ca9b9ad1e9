//! What the process shows of itself: whether a router leads it, and the counters of its members.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use conveyor_engine::{Metrics, Snapshot};
use conveyor_model::{Incarnation, PipelineId};
use parking_lot::Mutex;
use tokio::sync::watch;

type Counters = watch::Receiver<Option<Arc<Metrics>>>;

/// Written by the agent and its members, read by whoever asks.
#[derive(Debug, Default)]
pub(crate) struct Board {
    attached: AtomicBool,
    members: Mutex<BTreeMap<PipelineId, (Incarnation, Counters)>>,
}

impl Board {
    /// Notes whether a router leads this process now.
    pub(crate) fn attach(&self, attached: bool) {
        self.attached.store(attached, Ordering::Release);
    }

    /// Whether a router leads this process now.
    pub(crate) fn is_attached(&self) -> bool {
        self.attached.load(Ordering::Acquire)
    }

    /// Notes a member's counters, in place of those of an older one.
    pub(crate) fn enter(&self, id: &PipelineId, incarnation: Incarnation, counters: Counters) {
        self.members.lock().insert(id.clone(), (incarnation, counters));
    }

    /// Forgets a member that has ended.
    pub(crate) fn leave(&self, id: &PipelineId, incarnation: Incarnation) {
        let mut members = self.members.lock();
        if members.get(id).is_some_and(|(entered, _)| *entered == incarnation) {
            members.remove(id);
        }
    }

    /// What every member has counted by now (monotonic time in microseconds).
    pub(crate) fn snapshots(&self, now_us: u64) -> Vec<(String, Snapshot)> {
        let members = self.members.lock();
        let one = |(id, (_, counters)): (&PipelineId, &(Incarnation, Counters))| {
            let metrics = counters.borrow().clone()?;
            metrics.set_now(now_us);
            Some((id.to_string(), metrics.snapshot()))
        };
        members.iter().filter_map(one).collect()
    }
}
