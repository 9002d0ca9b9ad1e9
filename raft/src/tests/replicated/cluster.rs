//! Three nodes in one process: commits, leaders that die or are cut off, followers that lag.

use std::time::Duration;

use conveyor_model::Kind;
use conveyor_model::log::{Log, Outcome};
use futures::future::join_all;

use super::*;
use crate::testing::Faults;

const ALL: [u64; 3] = [1, 2, 3];

fn others(id: u64) -> Vec<u64> {
    ALL.into_iter().filter(|other| *other != id).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn any_node_takes_proposals_and_every_node_reads_what_was_acknowledged() {
    let cluster = Cluster::start(3, 1, settings()).await;
    for id in ALL {
        let outcome = done(cluster.node(id), put(id as u8, 0, 1)).await;
        assert_eq!(outcome, Outcome::PlanVersion(1));
        for reader in ALL {
            let seen = cluster.node(reader).read(&pipeline(id as u8)).await.expect("read").expect("there");
            assert_eq!(seen.version, 1, "proposed on {id}, read on {reader}");
        }
    }
    assert_eq!(cluster.node(2).list().await.expect("listed").len(), 3);
    let refused = done(cluster.node(3), put(1, 7, 2)).await;
    assert!(matches!(refused, Outcome::Refused(_)), "a refusal of the state machine is an answer");
    cluster.converge().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn proposals_that_wait_together_share_entries() {
    let cluster = Cluster::start(3, 2, settings()).await;
    let leader = cluster.leader_among(&ALL).await;
    let before = cluster.node(leader).status().last.expect("a log");
    let answers = join_all((0..200u8).map(|n| done(cluster.node(leader), put(n, 0, 1)))).await;
    assert!(answers.into_iter().all(|outcome| outcome == Outcome::PlanVersion(1)));
    let entries = cluster.node(leader).status().last.expect("a log") - before;
    assert!(entries <= 50, "200 commands took {entries} entries");
    cluster.converge().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_leader_is_replaced_and_comes_back_as_a_follower() {
    let mut cluster = Cluster::start(3, 3, settings()).await;
    for round in 0..3u8 {
        let leader = cluster.leader_among(&ALL).await;
        let term = cluster.node(leader).status().term;
        assert_eq!(done(cluster.node(leader), put(round, 0, 1)).await, Outcome::PlanVersion(1));
        cluster.kill(leader).await;
        let rest = others(leader);
        let next = cluster.leader_among(&rest).await;
        assert!(cluster.node(next).status().term > term, "one leader a term");
        let seen = cluster.node(rest[0]).read(&pipeline(round)).await.expect("read").expect("kept");
        assert_eq!(seen.version, 1);
        assert_eq!(done(cluster.node(rest[1]), put(round, 1, 2)).await, Outcome::PlanVersion(2));
        cluster.open(leader).await.expect("opens again");
        cluster.converge().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_without_a_majority_commits_nothing_and_gives_way() {
    let quick = Settings { answer_within: Duration::from_secs(2), ..settings() };
    let cluster = Cluster::start(3, 4, quick).await;
    let old = cluster.leader_among(&ALL).await;
    assert_eq!(done(cluster.node(old), put(0, 0, 1)).await, Outcome::PlanVersion(1));
    let rest = others(old);
    cluster.network.partition(&[old], &rest);
    let (lost, read) = tokio::join!(cluster.node(old).propose(put(0, 1, 9)), cluster.node(old).list());
    let (lost, read) = (lost.expect_err("no majority"), read.expect_err("no majority"));
    assert_eq!((lost.kind(), lost.code()), (Kind::Unavailable, "log-unanswered"), "{lost}");
    assert_eq!((read.kind(), read.code()), (Kind::Unavailable, "no-leader"), "{read}");
    let new = cluster.leader_among(&rest).await;
    assert_eq!(done(cluster.node(new), put(0, 1, 2)).await, Outcome::PlanVersion(2));
    cluster.network.heal();
    cluster.converge().await;
    let seen = cluster.node(old).read(&pipeline(0)).await.expect("read").expect("there");
    assert_eq!(seen.plan, Some(object(2)), "what the minority was given is gone");
    assert_eq!(seen.version, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_way_that_is_cut_in_one_direction_only_does_not_stop_the_cluster() {
    let cluster = Cluster::start(3, 5, settings()).await;
    let leader = cluster.leader_among(&ALL).await;
    let rest = others(leader);
    cluster.network.cut(leader, rest[0]);
    assert_eq!(done(cluster.node(rest[1]), put(0, 0, 1)).await, Outcome::PlanVersion(1));
    cluster.network.heal();
    cluster.converge().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_lags_far_behind_gets_a_snapshot() {
    let mut cluster = Cluster::start(3, 6, settings()).await;
    let leader = cluster.leader_among(&ALL).await;
    let lagging = others(leader)[0];
    cluster.kill(lagging).await;
    for n in 0..60u8 {
        assert_eq!(done(cluster.node(leader), put(n, 0, 1)).await, Outcome::PlanVersion(1));
    }
    let wait = cluster.node(leader).raft().wait(Some(PATIENCE));
    wait.metrics(|m| m.purged.is_some_and(|p| p.index > 30), "purged").await.expect("purged");
    cluster.open(lagging).await.expect("opens again");
    cluster.converge().await;
    let wait = cluster.node(lagging).raft().wait(Some(PATIENCE));
    wait.metrics(|m| m.snapshot.is_some_and(|s| s.index > 30), "installed").await.expect("installed");
    // What it was sent is on its disk, whole.
    cluster.kill(lagging).await;
    cluster.open(lagging).await.expect("opens from the snapshot");
    assert_eq!(cluster.node(lagging).list().await.expect("listed").len(), 60);
    cluster.converge().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_whole_cluster_starts_again_with_what_it_had() {
    let mut cluster = Cluster::start(3, 7, settings()).await;
    for n in 0..30u8 {
        assert_eq!(done(cluster.node(1), put(n, 0, 1)).await, Outcome::PlanVersion(1));
    }
    for id in ALL {
        cluster.kill(id).await;
    }
    for id in ALL {
        cluster.open(id).await.expect("opens again");
    }
    assert_eq!(cluster.node(2).list().await.expect("listed").len(), 30);
    cluster.converge().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_loses_and_delays_only_slows() {
    let cluster = Cluster::start(3, 8, settings()).await;
    let lossy = Faults { lose_request: 0.05, lose_answer: 0.05, delay: Duration::from_millis(5) };
    cluster.network.set_faults(lossy);
    let mut unknown = 0;
    for n in 0..40u8 {
        // An answer may be lost: the same command again gets the same one.
        while cluster.node(u64::from(n % 3) + 1).propose(put(n, 0, 1)).await.is_err() {
            unknown += 1;
            assert!(unknown < 100);
        }
    }
    cluster.network.set_faults(Faults::default());
    cluster.converge().await;
    assert_eq!(cluster.node(1).list().await.expect("listed").len(), 40);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_meets_a_command_it_does_not_know_halts() {
    use conveyor_proto::{encode, v1};
    let cluster = Cluster::start(3, 9, settings()).await;
    let leader = cluster.leader_among(&ALL).await;
    let victim = others(leader)[0];
    let status = cluster.node(leader).status();
    let entry = v1::PlacedEntry {
        log_id: Some(v1::LogId { term: status.term, index: 1_000_000 }),
        // A command without a variant: how a newer version's command looks to this one.
        entry: Some(v1::LogEntry {
            payload: Some(v1::log_entry::Payload::Batch(v1::CommandBatch {
                commands: vec![v1::Command { command: None }],
            })),
        }),
    };
    let append = v1::AppendEntries {
        vote: Some(v1::Vote { term: status.term, voted_for: Some(leader), committed: true }),
        entries: vec![entry],
        ..v1::AppendEntries::default()
    };
    let request = v1::RaftRequest {
        cluster: "test".into(),
        from: leader,
        from_disk: format!("disk-{leader}"),
        to: victim,
        to_disk: format!("disk-{victim}"),
        body: Some(v1::raft_request::Body::Append(append)),
    };
    cluster.node(victim).serve(&encode(&request)).await;
    let error = cluster.node(victim).list().await.expect_err("halted");
    assert_eq!((error.kind(), error.code()), (Kind::Corrupt, "proto-unknown"), "{error}");
    assert!(cluster.node(victim).status().stopped.is_some());
    assert_eq!(done(cluster.node(leader), put(0, 0, 1)).await, Outcome::PlanVersion(1), "the others go on");
}
