//! Three nodes under seeded faults: what was acknowledged is applied once on every node, and all states are equal at the end.

use std::time::Duration;

use conveyor_model::log::{Log, Outcome};
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::simdisk::Fault;
use crate::testing::Faults;

const ALL: [u64; 3] = [1, 2, 3];

/// What happens between two bursts of commands.
async fn mischief(cluster: &mut Cluster, rng: &mut ChaCha8Rng) {
    let victim = *ALL.choose(rng).expect("a node");
    match rng.random_range(0..5) {
        0 => {
            let rest: Vec<u64> = ALL.into_iter().filter(|id| *id != victim).collect();
            cluster.network.partition(&[victim], &rest);
        }
        1 => cluster.network.cut(victim, victim % 3 + 1),
        2 => cluster.network.set_faults(Faults {
            lose_request: 0.1,
            lose_answer: 0.1,
            delay: Duration::from_millis(10),
        }),
        // The machine dies in the middle of a write: what was not fsynced is gone.
        3 => cluster.disks[&victim].plan(rng.random_range(0..20), Fault::Crash),
        _ => {
            cluster.kill(victim).await;
            cluster.disks[&victim].restart(rng);
            cluster.open(victim).await.expect("opens");
        }
    }
}

/// Ends all faults; nodes whose disk has failed start again.
async fn repair(cluster: &mut Cluster, rng: &mut ChaCha8Rng) {
    cluster.network.heal();
    cluster.network.set_faults(Faults::default());
    for id in ALL {
        cluster.disks[&id].calm();
        if cluster.disks[&id].crashed() {
            cluster.kill(id).await;
            cluster.disks[&id].restart(rng);
            cluster.open(id).await.expect("a crash never makes a log unreadable");
        }
    }
}

async fn life(seed: u64) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let quick = Settings { answer_within: Duration::from_millis(1500), ..settings() };
    let mut cluster = Cluster::start(3, seed, quick).await;
    let mut versions = [0u64; 3];
    for _ in 0..4 {
        mischief(&mut cluster, &mut rng).await;
        let nodes: Vec<Arc<ReplicatedLog>> = cluster.nodes.values().cloned().collect();
        // Plans are told apart by their versions, so each client goes on where it was.
        let clients = versions
            .iter()
            .enumerate()
            .map(|(n, version)| resume(nodes.clone(), n as u8, seed * 31 + n as u64, *version));
        let reached = futures::future::join_all(clients).await;
        versions.copy_from_slice(&reached);
        drop(nodes);
        repair(&mut cluster, &mut rng).await;
        cluster.leader_among(&ALL).await;
    }
    cluster.converge().await;
    for (n, version) in versions.iter().enumerate() {
        let state = cluster.node(1).read(&pipeline(n as u8)).await.expect("read");
        let found = state.map_or(0, |s| s.version);
        // One command may have been applied whose answer nobody got.
        assert!(
            found == *version || found == version + 1,
            "seed {seed}: {version} acknowledged, {found} applied"
        );
    }
    for id in ALL {
        cluster.kill(id).await;
    }
}

/// Raises the pipeline's plan version one by one from `from`; returns how far it came. An answer that was lost is asked for
/// again: a repeated command gets the same answer, and one that was applied twice would leave another version than expected.
async fn resume(nodes: Vec<Arc<ReplicatedLog>>, n: u8, seed: u64, from: u64) -> u64 {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut version = from;
    for _ in 0..8 {
        let node = nodes.choose(&mut rng).expect("a node");
        if let Ok(outcome) = node.propose(put(n, version, (version % 200) as u8)).await {
            version += 1;
            assert_eq!(outcome, Outcome::PlanVersion(version), "seed {seed}, pipeline {n}");
        }
    }
    version
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_commands_are_applied_once_everywhere() {
    for seed in 0..6 {
        life(seed).await;
    }
}
