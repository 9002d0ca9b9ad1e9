//! The in-process transport.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use conveyor_model::{Error, Kind, Result};
use parking_lot::Mutex;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{Member, ReplicatedLog, Rpc, Transport};

/// How badly messages fare.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Faults {
    /// Share of requests that never arrive, 0 to 1.
    pub lose_request: f64,
    /// Share of answers that never arrive, 0 to 1: the request was carried out.
    pub lose_answer: f64,
    /// Longest delay of a message; each takes a random part of it.
    pub delay: Duration,
}

struct State {
    nodes: BTreeMap<u64, Weak<ReplicatedLog>>,
    /// Pairs (from, to) between which nothing passes.
    cut: BTreeSet<(u64, u64)>,
    faults: Faults,
    random: ChaCha8Rng,
}

/// Connects nodes of one process; clones are the same network.
#[derive(Clone)]
pub struct LocalNetwork(Arc<Mutex<State>>);

impl LocalNetwork {
    /// A network without nodes or faults; what is random in it follows the seed.
    pub fn new(seed: u64) -> Self {
        let state = State {
            nodes: BTreeMap::new(),
            cut: BTreeSet::new(),
            faults: Faults::default(),
            random: ChaCha8Rng::seed_from_u64(seed),
        };
        Self(Arc::new(Mutex::new(state)))
    }

    /// The transport of node `from`.
    pub fn transport(&self, from: u64) -> Arc<dyn Transport> {
        Arc::new(Wire { network: self.clone(), from })
    }

    /// Lets a node be reached, in the place of one with its id.
    pub fn attach(&self, node: &Arc<ReplicatedLog>) {
        self.0.lock().nodes.insert(node.identity().node, Arc::downgrade(node));
    }

    /// A node is reached no more.
    pub fn detach(&self, id: u64) {
        self.0.lock().nodes.remove(&id);
    }

    /// From here on messages fare so.
    pub fn set_faults(&self, faults: Faults) {
        self.0.lock().faults = faults;
    }

    /// Cuts the way from one node to another; the way back stays.
    pub fn cut(&self, from: u64, to: u64) {
        self.0.lock().cut.insert((from, to));
    }

    /// Cuts both ways between every node of one side and every node of the other.
    pub fn partition(&self, one: &[u64], other: &[u64]) {
        for (&a, &b) in one.iter().flat_map(|a| other.iter().map(move |b| (a, b))) {
            self.cut(a, b);
            self.cut(b, a);
        }
    }

    /// All ways are open again.
    pub fn heal(&self) {
        self.0.lock().cut.clear();
    }

    /// One message: `None` if it is lost, else how long it takes.
    fn pass(&self, from: u64, to: u64, share: impl Fn(&Faults) -> f64) -> Option<Duration> {
        let mut state = self.0.lock();
        let faults = state.faults;
        let lost = state.random.random_bool(share(&faults));
        let part: f64 = state.random.random();
        (!lost && !state.cut.contains(&(from, to))).then(|| faults.delay.mul_f64(part))
    }
}

struct Wire {
    network: LocalNetwork,
    from: u64,
}

#[async_trait]
impl Transport for Wire {
    async fn call(&self, to: &Member, _rpc: Rpc, request: Vec<u8>) -> Result<Vec<u8>> {
        let delay = self.network.pass(self.from, to.id, |f| f.lose_request).ok_or_else(lost)?;
        wait(delay).await;
        let node = self.network.0.lock().nodes.get(&to.id).and_then(Weak::upgrade).ok_or_else(lost)?;
        // On a task of its own: that the caller no longer waits does not stop what has arrived.
        let served = tokio::spawn(async move { node.serve(&request).await });
        let answer = served.await.map_err(|_| lost())?;
        let delay = self.network.pass(to.id, self.from, |f| f.lose_answer).ok_or_else(lost)?;
        wait(delay).await;
        Ok(answer)
    }
}

async fn wait(delay: Duration) {
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
}

fn lost() -> Error {
    Error::new(Kind::Unavailable, "network-lost", "the node cannot be reached")
}
