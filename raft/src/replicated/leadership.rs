//! Who leads, as a node sees it, and which pipelines have changed: what a control plane over the log acts on.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};

use conveyor_model::log::PipelineState;
use conveyor_model::{Error, PipelineId, Result};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::types::Peer;
use super::{Member, ReplicatedLog, stopped};

/// Who leads, as this node sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Leadership {
    /// The node's term.
    pub term: u64,
    /// The leader, where one is known.
    pub leader: Option<Member>,
    /// This node leads, and a majority has answered it a short time ago. One that is cut off says no long before it hears of
    /// another leader.
    pub leads: bool,
}

impl ReplicatedLog {
    /// Who leads, as this node sees it now.
    pub fn leadership(&self) -> Leadership {
        self.leadership_of(&self.raft.metrics().borrow())
    }

    /// Waits until it is no longer as in `seen`. Cancel-safe.
    ///
    /// # Errors
    /// `log-stopped` when the node has stopped.
    pub async fn leadership_change(&self, seen: &Leadership) -> Result<Leadership> {
        let mut metrics = self.raft.metrics();
        loop {
            let now = {
                let metrics = metrics.borrow_and_update();
                if let Err(fatal) = &metrics.running_state {
                    return Err(stopped().because(fatal.clone()));
                }
                self.leadership_of(&metrics)
            };
            if now != *seen {
                return Ok(now);
            }
            metrics.changed().await.map_err(|_| stopped())?;
        }
    }

    fn leadership_of(&self, seen: &openraft::RaftMetrics<u64, Peer>) -> Leadership {
        let address = |id: u64| {
            let node = seen.membership_config.membership().get_node(&id);
            Member { id, address: node.map(|n| n.address.clone()).unwrap_or_default() }
        };
        // A leader without a majority may have been replaced; after the longest wait of an election it says so itself.
        let heard = seen.millis_since_quorum_ack.is_some_and(|ms| u128::from(ms) < self.quorum_lost_ms());
        Leadership {
            term: seen.current_term,
            leader: seen.current_leader.map(address),
            leads: seen.current_leader == Some(self.link.identity.node) && heard,
        }
    }

    fn quorum_lost_ms(&self) -> u128 {
        2 * self.settings.election.1.as_millis()
    }

    /// Waits until this node, as the leader, has applied all that was agreed before the call.
    ///
    /// # Errors
    /// `no-leader` if no majority answers in time.
    pub async fn settle(&self) -> Result<()> {
        self.linearize().await
    }

    /// A pipeline as this node has applied it, which may be behind what is agreed.
    pub fn applied(&self, pipeline: &PipelineId) -> Option<PipelineState> {
        self.machine.applied().read().state.pipelines().get(pipeline).cloned()
    }

    /// From now on, which pipelines change on this node in version, incarnation or phase.
    pub fn changes(&self) -> Changes {
        self.machine.watchers().subscribe()
    }

    /// The address of another member, as the membership names it.
    ///
    /// # Errors
    /// `unknown-member` if there is none with this id.
    pub fn member(&self, id: u64) -> Result<Member> {
        let metrics = self.raft.metrics();
        let seen: &openraft::RaftMetrics<u64, Peer> = &metrics.borrow();
        let node = seen.membership_config.membership().get_node(&id);
        let found = node.map(|peer| Member { id, address: peer.address.clone() });
        found.ok_or_else(|| Error::bad_input("unknown-member", format!("the cluster has no node {id}")))
    }
}

#[derive(Default)]
struct Watcher {
    changed: Mutex<BTreeSet<PipelineId>>,
    notify: Notify,
}

/// Pipelines that have changed since they were last asked for. Holds each once, however often it changed.
pub struct Changes(Arc<Watcher>);

impl Changes {
    /// Waits for changes and takes them. Cancel-safe.
    pub async fn next(&self) -> BTreeSet<PipelineId> {
        loop {
            let notified = self.0.notify.notified();
            let taken = std::mem::take(&mut *self.0.changed.lock());
            if !taken.is_empty() {
                return taken;
            }
            notified.await;
        }
    }
}

/// Those who want to know of changes.
#[derive(Clone, Default)]
pub(crate) struct Watchers(Arc<Mutex<Vec<Weak<Watcher>>>>);

impl Watchers {
    fn subscribe(&self) -> Changes {
        let watcher = Arc::new(Watcher::default());
        let mut all = self.0.lock();
        all.retain(|w| w.strong_count() > 0);
        all.push(Arc::downgrade(&watcher));
        Changes(watcher)
    }

    /// Tells all of them.
    pub(crate) fn tell(&self, changed: BTreeSet<PipelineId>) {
        if changed.is_empty() {
            return;
        }
        for watcher in self.0.lock().iter().filter_map(Weak::upgrade) {
            watcher.changed.lock().extend(changed.iter().cloned());
            watcher.notify.notify_one();
        }
    }
}
