//! What a control plane sees of the log: who leads, and what has changed.

use std::collections::BTreeSet;

use conveyor_model::Incarnation;
use conveyor_model::log::{Command, Log as _, Phase};

use super::*;

async fn until_leads(node: &ReplicatedLog, leads: bool) {
    let watched = async {
        let mut seen = node.leadership();
        while seen.leads != leads {
            seen = node.leadership_change(&seen).await.expect("runs");
        }
    };
    timeout(PATIENCE, watched).await.expect("in time");
}

#[tokio::test]
async fn a_leader_that_is_cut_off_says_that_it_leads_no_more() {
    let cluster = Cluster::start(3, 7, settings()).await;
    let old = cluster.leader_among(&[1, 2, 3]).await;
    until_leads(cluster.node(old), true).await;
    let rest: Vec<u64> = [1, 2, 3].into_iter().filter(|id| *id != old).collect();
    cluster.network.partition(&[old], &rest);
    until_leads(cluster.node(old), false).await;
    let new = cluster.leader_among(&rest).await;
    until_leads(cluster.node(new), true).await;
    assert!(cluster.node(new).leadership().term > cluster.node(old).leadership().term);
    cluster.network.heal();
    let seen = async {
        let mut seen = cluster.node(old).leadership();
        while seen.leader.as_ref().map(|l| l.id) != Some(new) {
            seen = cluster.node(old).leadership_change(&seen).await.expect("runs");
        }
        seen
    };
    let seen = timeout(PATIENCE, seen).await.expect("in time");
    assert_eq!((seen.leads, seen.leader), (false, Some(member(new))));
}

#[tokio::test]
async fn a_leader_that_is_heard_and_hears_nobody_makes_room_for_another() {
    let cluster = Cluster::start(3, 11, settings()).await;
    let old = cluster.leader_among(&[1, 2, 3]).await;
    until_leads(cluster.node(old), true).await;
    let rest: Vec<u64> = [1, 2, 3].into_iter().filter(|id| *id != old).collect();
    // Its heartbeats arrive, so without its silence nobody else would stand for election.
    rest.iter().for_each(|other| cluster.network.cut(*other, old));
    until_leads(cluster.node(old), false).await;
    let new = cluster.leader_among(&rest).await;
    until_leads(cluster.node(new), true).await;
    cluster.network.heal();
    cluster.node(old).propose(put(1, 0, 1)).await.expect("the old leader follows");
}

#[tokio::test]
async fn changes_name_a_pipeline_once_and_leave_out_what_epochs_do() {
    let cluster = Cluster::start(1, 7, settings()).await;
    let node = cluster.node(1);
    let changes = node.changes();
    for command in super::super::good_life(3) {
        node.propose(command).await.expect("applied");
    }
    let p = super::pipeline(0);
    assert_eq!(timeout(PATIENCE, changes.next()).await.expect("in time"), BTreeSet::from([p.clone()]));
    let begin = Command::BeginEpoch { pipeline: p.clone(), incarnation: Incarnation(1) };
    node.propose(begin).await.expect("applied");
    node.propose(put(1, 0, 1)).await.expect("applied");
    let other = timeout(PATIENCE, changes.next()).await.expect("in time");
    assert_eq!(other, BTreeSet::from([super::pipeline(1)]), "an epoch is no change");
    assert_eq!(node.applied(&p).map(|s| s.phase), Some(Phase::Running));
}
