//! The replicated log: its storage under openraft's own suite and under crashes, clusters under faults.

mod cluster;
mod faults;
mod files;
mod leadership;
mod members;
mod suite;
mod wal;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use conveyor_model::Result;
use conveyor_model::log::{Command, Log, Outcome};
use tokio::time::timeout;

use super::{object, pipeline};
use crate::disk::Disk;
use crate::replicated::create_on;
use crate::simdisk::SimDisk;
use crate::testing::LocalNetwork;
use crate::{Identity, Member, ReplicatedLog, Settings};

pub(super) const DIR: &str = "/node";
/// Nothing that works takes this long, also not on a busy machine.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

pub(super) fn settings() -> Settings {
    Settings {
        heartbeat: Duration::from_millis(50),
        election: (Duration::from_millis(200), Duration::from_millis(400)),
        snapshot_every: 20,
        keep_entries: 5,
        segment_bytes: 2048,
        ..Settings::default()
    }
}

pub(super) fn identity(node: u64, disk: &str) -> Identity {
    Identity { cluster: "test".into(), node, disk: disk.into() }
}

pub(super) fn member(id: u64) -> Member {
    Member { id, address: format!("node-{id}") }
}

/// Nodes on simulated disks, joined by a network that obeys.
pub(super) struct Cluster {
    pub(super) network: LocalNetwork,
    pub(super) settings: Settings,
    pub(super) disks: BTreeMap<u64, SimDisk>,
    pub(super) nodes: BTreeMap<u64, Arc<ReplicatedLog>>,
}

impl Cluster {
    /// Nodes 1 to `size`, all voters, with a leader.
    pub(super) async fn start(size: u64, seed: u64, settings: Settings) -> Self {
        let mut cluster = Self {
            network: LocalNetwork::new(seed),
            settings,
            disks: BTreeMap::new(),
            nodes: BTreeMap::new(),
        };
        for id in 1..=size {
            cluster.create(id, &format!("disk-{id}")).await;
        }
        let members: Vec<Member> = (1..=size).map(member).collect();
        cluster.nodes[&1].bootstrap(&members).await.expect("made");
        cluster.leader_among(&(1..=size).collect::<Vec<_>>()).await;
        cluster
    }

    /// A node that never was.
    pub(super) async fn create(&mut self, id: u64, disk_name: &str) {
        let disk = SimDisk::default();
        create_on(Arc::new(disk.clone()), Path::new(DIR), &identity(id, disk_name)).expect("created");
        self.disks.insert(id, disk);
        self.open(id).await.expect("opens");
    }

    pub(super) async fn open(&mut self, id: u64) -> Result<()> {
        let disk: Arc<dyn Disk> = Arc::new(self.disks[&id].clone());
        let transport = self.network.transport(id);
        let opened =
            ReplicatedLog::open_on(disk, Path::new(DIR), self.settings.clone(), transport, None).await?;
        let node = Arc::new(opened);
        self.network.attach(&node);
        self.nodes.insert(id, node);
        Ok(())
    }

    /// The process ends; its disk stays.
    pub(super) async fn kill(&mut self, id: u64) {
        self.network.detach(id);
        if let Some(node) = self.nodes.remove(&id) {
            node.shutdown().await;
        }
    }

    pub(super) fn node(&self, id: u64) -> &ReplicatedLog {
        &self.nodes[&id]
    }

    /// Waits until these nodes agree on a leader among them.
    pub(super) async fn leader_among(&self, ids: &[u64]) -> u64 {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let first = &self.nodes[&ids[0]];
            let mut metrics = first.raft().metrics();
            let seen = metrics.wait_for(|m| m.current_leader.is_some_and(|l| ids.contains(&l)));
            // What is seen borrows the channel: held on, it would stop the node.
            let seen =
                tokio::time::timeout_at(deadline, seen).await.expect("in time").expect("runs").current_leader;
            let leader = seen.expect("waited for");
            let mut agreed = true;
            for id in &ids[1..] {
                let mut metrics = self.nodes[id].raft().metrics();
                let same = metrics.wait_for(|m| m.current_leader == Some(leader));
                agreed &= timeout(Duration::from_secs(2), same).await.is_ok_and(|seen| seen.is_ok());
            }
            if agreed {
                return leader;
            }
            assert!(tokio::time::Instant::now() < deadline, "no leader that all of {ids:?} follow");
        }
    }

    /// Waits until all running nodes have applied the same entry, and checks that their states are equal.
    pub(super) async fn converge(&self) {
        let ids: Vec<u64> = self.nodes.keys().copied().collect();
        let leader = self.leader_among(&ids).await;
        let before = self.node(leader).raft().metrics().borrow().last_log_index.unwrap_or(0);
        for node in self.nodes.values() {
            node.raft()
                .wait(Some(PATIENCE))
                .applied_index_at_least(Some(before), "converge")
                .await
                .expect("catches up");
        }
        let mut states = self.nodes.values().map(|n| n.applied_state());
        let first = states.next().expect("a node");
        for state in states {
            assert_eq!(state.pipelines(), first.pipelines());
        }
    }
}

pub(super) fn put(n: u8, expect_version: u64, plan: u8) -> Command {
    Command::PutPlan { pipeline: pipeline(n), plan: object(plan), expect_version, reset: false, at_us: 0 }
}

pub(super) async fn done(node: &ReplicatedLog, command: Command) -> Outcome {
    timeout(PATIENCE, node.propose(command)).await.expect("in time").expect("proposed")
}
