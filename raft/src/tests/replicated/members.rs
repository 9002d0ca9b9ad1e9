//! Who takes part: learners, voters, removal, lost disks, strangers.

use conveyor_model::Kind;
use conveyor_model::log::{Log, Outcome};

use super::*;
use crate::Role;

async fn fourth(seed: u64) -> (Cluster, u64) {
    let mut cluster = Cluster::start(3, seed, settings()).await;
    let leader = cluster.leader_among(&[1, 2, 3]).await;
    for n in 0..40u8 {
        done(cluster.node(leader), put(n, 0, 1)).await;
    }
    cluster.create(4, "disk-4").await;
    (cluster, leader)
}

fn role(cluster: &Cluster, of: u64, asked: u64) -> Option<Role> {
    let members = cluster.node(asked).status().members;
    members.into_iter().find(|m| m.member.id == of).map(|m| m.role)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_node_learns_then_votes_then_leaves() {
    let (mut cluster, leader) = fourth(11).await;
    let node = cluster.node(leader);
    node.add_learner(&member(4)).await.expect("added");
    node.add_learner(&member(4)).await.expect("again is the same");
    assert_eq!(role(&cluster, 4, leader), Some(Role::Learner));
    assert_eq!(cluster.node(4).list().await.expect("a learner reads too").len(), 40);
    node.promote(4).await.expect("promoted");
    assert_eq!(role(&cluster, 4, leader), Some(Role::Voter));
    cluster.converge().await;
    let others: Vec<u64> = [1, 2, 3].into_iter().filter(|id| *id != leader).collect();
    cluster.kill(others[0]).await;
    assert_eq!(done(cluster.node(leader), put(0, 1, 2)).await, Outcome::PlanVersion(2));
    cluster.node(leader).remove(others[0]).await.expect("removed");
    assert_eq!(role(&cluster, others[0], leader), None);
    cluster.converge().await;
    cluster.node(leader).remove(leader).await.expect("a leader may remove itself");
    let rest = [others[1], 4];
    cluster.kill(leader).await;
    let next = cluster.leader_among(&rest).await;
    assert_eq!(done(cluster.node(next), put(0, 2, 3)).await, Outcome::PlanVersion(3));
    cluster.converge().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_lost_its_disk_is_refused_under_its_old_id_and_joins_under_a_new_one() {
    let (mut cluster, leader) = fourth(12).await;
    let lost = [1, 2, 3].into_iter().find(|id| *id != leader).expect("three nodes");
    cluster.kill(lost).await;
    // The same id on an empty disk: it must never vote.
    cluster.create(lost, "another-disk").await;
    let wait = cluster.node(lost).raft().wait(Some(PATIENCE));
    wait.metrics(|m| m.running_state.is_err(), "halted").await.expect("halts when a member speaks to it");
    let error = cluster.node(lost).list().await.expect_err("halted");
    assert_eq!((error.kind(), error.code()), (Kind::Fenced, "node-disk-lost"), "{error}");
    let status = cluster.node(lost).status();
    assert_eq!((status.term, status.last), (0, None), "it has taken no part");
    let known = cluster.node(leader).add_learner(&member(lost)).await.expect_err("refused");
    assert_eq!(known.code(), "node-id-known", "{known}");
    cluster.kill(lost).await;
    // As it should be done: out with the old id, in with a new one.
    let node = cluster.node(leader);
    node.add_learner(&member(4)).await.expect("added");
    node.promote(4).await.expect("promoted");
    node.remove(lost).await.expect("removed");
    assert_eq!(done(node, put(0, 1, 2)).await, Outcome::PlanVersion(2));
    cluster.converge().await;
    assert_eq!(cluster.node(4).list().await.expect("listed").len(), 40);
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_are_refused() {
    let (cluster, leader) = fourth(13).await;
    let stranger = Identity { cluster: "another".into(), ..identity(9, "disk-9") };
    let disk = SimDisk::default();
    create_on(Arc::new(disk.clone()), Path::new(DIR), &stranger).expect("created");
    let transport = cluster.network.transport(9);
    let node = ReplicatedLog::open_on(Arc::new(disk), Path::new(DIR), settings(), transport, None);
    let node = Arc::new(node.await.expect("opens"));
    cluster.network.attach(&node);
    let error = cluster.node(leader).add_learner(&member(9)).await.expect_err("another cluster");
    assert_eq!((error.kind(), error.code()), (Kind::Fenced, "node-refused"), "{error}");
    let error = node.bootstrap(&[member(9), member(4)]).await.expect_err("another cluster");
    assert_eq!(error.code(), "node-refused", "{error}");
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_are_refused_with_the_reason() {
    let (cluster, leader) = fourth(14).await;
    let error = cluster.node(leader).promote(4).await.expect_err("no learner yet");
    assert_eq!((error.kind(), error.code()), (Kind::BadInput, "membership-refused"), "{error}");
    let follower = [1, 2, 3].into_iter().find(|id| *id != leader).expect("three nodes");
    let error = cluster.node(follower).add_learner(&member(4)).await.expect_err("does not lead");
    assert_eq!(error.code(), "not-leader");
    assert!(error.help_text().is_some_and(|help| help.contains(&format!("node {leader} at"))), "{error}");
    let error = cluster.node(leader).bootstrap(&[member(1), member(2)]).await.expect_err("made already");
    assert_eq!(error.code(), "cluster-exists", "{error}");
}
