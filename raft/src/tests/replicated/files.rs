//! A node's data directory on a real disk: golden files, identity, other uses.

use std::path::PathBuf;

use conveyor_model::Kind;
use conveyor_model::log::{Log, Outcome};

use super::*;
use crate::disk::RealDisk;
use crate::replicated::machine::Machine;
use crate::replicated::open_files;
use crate::replicated::store::LogStore;
use crate::replicated::types::{Batch, Entry, Types, log_id};
use crate::{SingleVoterLog, tests::good_life};
use openraft::storage::{RaftLogStorage, RaftLogStorageExt, RaftStateMachine};
use openraft::{EntryPayload, RaftSnapshotBuilder, Vote};

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/raft-v2")
}

fn real(dir: &Path) -> conveyor_model::Result<(Identity, LogStore, Machine)> {
    open_files(Arc::new(RealDisk), dir, 4096)
}

fn names(dir: &Path) -> Vec<String> {
    RealDisk.list(dir).expect("listed").into_iter().filter(|name| name != "LOCK").collect()
}

/// A little life: a vote, eleven entries, three of them replaced, a snapshot, a purge.
async fn live(dir: &Path) {
    ReplicatedLog::create_dir(dir, &identity(1, "golden")).expect("created");
    let (_, mut store, mut machine) = real(dir).expect("opens");
    let entry = |term, index: u64, commands: Vec<Command>| -> Entry {
        let payload =
            if commands.is_empty() { EntryPayload::Blank } else { EntryPayload::Normal(Batch(commands)) };
        openraft::Entry::<Types> { log_id: log_id(term, index), payload }
    };
    store.save_vote(&Vote::new_committed(1, 1)).await.expect("durable");
    let mut commands = good_life(4).into_iter();
    let first = entry(1, 0, Vec::new());
    let rest = (1..8).map(|index| entry(1, index, commands.next().into_iter().collect()));
    let all: Vec<Entry> = [first].into_iter().chain(rest).collect();
    store.blocking_append(all.clone()).await.expect("durable");
    store.save_vote(&Vote::new_committed(2, 3)).await.expect("durable");
    store.truncate(log_id(1, 5)).await.expect("durable");
    store.save_committed(Some(log_id(1, 4))).await.expect("noted");
    machine.apply(all[..5].to_vec()).await.expect("applied");
    store.blocking_append([entry(2, 5, Vec::new()), entry(2, 6, good_life(1))]).await.expect("durable");
    machine.get_snapshot_builder().await.build_snapshot().await.expect("built");
    store.purge(log_id(1, 2)).await.expect("durable");
}

#[tokio::test]
async fn golden_files_are_read_and_written_alike() {
    let dir = tempfile::tempdir().expect("a directory");
    live(dir.path()).await;
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(golden()).expect("a directory");
        for name in names(dir.path()) {
            std::fs::copy(dir.path().join(&name), golden().join(&name)).expect("copied");
        }
    }
    assert_eq!(names(&golden()), ["node.id", "raft-00000000000000000001.log", "raft.snap"]);
    for name in names(&golden()) {
        let (golden, ours) = (std::fs::read(golden().join(&name)), std::fs::read(dir.path().join(&name)));
        assert_eq!(golden.expect("golden"), ours.expect("ours"), "{name}");
    }
    let copied = tempfile::tempdir().expect("a directory");
    for name in names(&golden()) {
        std::fs::copy(golden().join(&name), copied.path().join(&name)).expect("copied");
    }
    let (identity, mut store, machine) = real(copied.path()).expect("opens");
    assert_eq!(identity, super::identity(1, "golden"));
    assert_eq!(store.read_vote().await.expect("read"), Some(Vote::new_committed(2, 3)));
    assert_eq!(store.read_committed().await.expect("read"), Some(log_id(1, 4)));
    let state = store.get_log_state().await.expect("read");
    assert_eq!((state.last_purged_log_id, state.last_log_id), (Some(log_id(1, 2)), Some(log_id(2, 6))));
    assert_eq!(machine.snapshot_last(), Some(log_id(1, 4)));
}

#[tokio::test]
async fn an_unknown_version_halts_and_so_does_what_is_missing() {
    let dir = tempfile::tempdir().expect("a directory");
    live(dir.path()).await;
    for name in names(dir.path()) {
        let path = dir.path().join(&name);
        let before = std::fs::read(&path).expect("read");
        let mut bytes = before.clone();
        bytes[7] = 9;
        std::fs::write(&path, bytes).expect("written");
        let error = real(dir.path()).err().expect("a newer version");
        assert_eq!((error.kind(), error.code()), (Kind::Corrupt, "log-version"), "{name}");
        std::fs::remove_file(&path).expect("removed");
        let error = real(dir.path()).err().expect("missing");
        let expected = if name == "node.id" { "data-dir-without-node" } else { "log-corrupt" };
        assert_eq!(error.code(), expected, "{name}: {error}");
        std::fs::write(&path, before).expect("written");
    }
    assert!(real(dir.path()).is_ok());
}

#[tokio::test]
async fn a_directory_has_one_use_one_node_and_one_process() {
    let dir = tempfile::tempdir().expect("a directory");
    let (single, node) = (dir.path().join("single"), dir.path().join("node"));
    drop(SingleVoterLog::open(&single).expect("opens"));
    let error = ReplicatedLog::create_dir(&single, &identity(1, "a")).expect_err("a single voter's");
    assert_eq!(error.code(), "data-dir-in-other-use");
    ReplicatedLog::create_dir(&node, &identity(1, "a")).expect("created");
    let error = ReplicatedLog::create_dir(&node, &identity(2, "b")).expect_err("has a node");
    assert_eq!(error.code(), "data-dir-in-use");
    let error = SingleVoterLog::open(&node).err().expect("a node's");
    assert_eq!(error.code(), "data-dir-in-other-use");
    let network = LocalNetwork::new(1);
    let log = ReplicatedLog::open(&node, settings(), network.transport(1)).await.expect("opens");
    let second = ReplicatedLog::open(&node, settings(), network.transport(1)).await;
    assert_eq!(second.err().expect("in use").code(), "data-dir-locked");
    log.bootstrap(&[member(1)]).await.expect("a cluster of one");
    assert_eq!(done(&log, put(0, 0, 1)).await, Outcome::PlanVersion(1));
    log.shutdown().await;
    let again = ReplicatedLog::open(&node, settings(), network.transport(1)).await.expect("opens again");
    assert_eq!(again.list().await.expect("listed").len(), 1);
    again.shutdown().await;
}
