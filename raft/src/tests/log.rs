//! The log on a real disk.

use std::path::{Path, PathBuf};

use conveyor_model::Kind;
use conveyor_model::log::{Log, Outcome};
use futures::executor::block_on;
use futures::future::join_all;

use super::*;
use crate::{LogView, Options, SingleVoterLog};

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/log-v1")
}

fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("an entry");
        if entry.file_name() != "LOCK" {
            std::fs::copy(entry.path(), to.join(entry.file_name())).expect("copied");
        }
    }
}

fn open_error(dir: &Path) -> conveyor_model::Error {
    match SingleVoterLog::open(dir) {
        Ok(_) => panic!("it should not open"),
        Err(error) => error,
    }
}

#[test]
fn what_was_acknowledged_is_there_after_opening_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("a/b");
    let log = SingleVoterLog::open_with(&path, Options { snapshot_every: 3 }).expect("opens");
    for command in good_life(5) {
        assert!(!matches!(block_on(log.propose(command)).expect("durable"), Outcome::Refused(_)));
    }
    let before = block_on(log.list()).expect("listed");
    drop(log);
    let log = SingleVoterLog::open(&path).expect("opens again");
    assert_eq!(block_on(log.list()).expect("listed"), before);
    let state = block_on(log.read(&pipeline(0))).expect("read").expect("known");
    assert_eq!(state.committed.map(|c| c.epoch), Some(Epoch(5)));
    assert_eq!(block_on(log.read(&pipeline(1))).expect("read"), None);
}

#[test]
fn waiting_proposals_go_together_and_each_gets_its_own_answer() {
    let dir = tempfile::tempdir().expect("a directory");
    let log = SingleVoterLog::open(dir.path()).expect("opens");
    let put = |n| Command::PutPlan {
        pipeline: pipeline(n),
        plan: object(n),
        expect_version: 0,
        reset: false,
        at_us: 0,
    };
    let answers = block_on(join_all((0..200).map(|n| log.propose(put(n)))));
    assert!(answers.into_iter().all(|a| a.expect("durable") == Outcome::PlanVersion(1)));
    assert_eq!(block_on(log.list()).expect("listed").len(), 200);
}

#[test]
fn two_processes_cannot_share_a_directory() {
    let dir = tempfile::tempdir().expect("a directory");
    let log = SingleVoterLog::open(dir.path()).expect("opens");
    let error = open_error(dir.path());
    assert_eq!(error.code(), "data-dir-locked");
    assert!(error.to_string().contains(&std::process::id().to_string()), "{error}");
    drop(log);
    assert!(SingleVoterLog::open(dir.path()).is_ok());
}

/// Names and contents of all files, the lock's aside.
fn content(dir: &Path) -> Vec<(std::ffi::OsString, Vec<u8>)> {
    let entries = std::fs::read_dir(dir).expect("a directory").map(|e| e.expect("an entry"));
    let mut all: Vec<_> = entries.map(|e| (e.file_name(), std::fs::read(e.path()).expect("read"))).collect();
    all.sort();
    all
}

#[test]
fn a_view_beside_a_writer_sees_what_was_acknowledged_and_changes_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let log = SingleVoterLog::open_with(dir.path(), Options { snapshot_every: 4 }).expect("opens");
    for command in good_life(9) {
        block_on(log.propose(command)).expect("durable");
        let view = LogView::open(dir.path()).expect("looked at");
        assert_eq!(block_on(view.list()).expect("listed"), block_on(log.list()).expect("listed"));
    }
    // The writer may take a snapshot after its last answer.
    drop(log);
    let before = content(dir.path());
    let view = LogView::open(dir.path()).expect("looked at");
    let refused = block_on(view.propose(good_life(0).remove(0))).expect_err("only looked at");
    assert_eq!(refused.code(), "log-read-only");
    assert_eq!(content(dir.path()), before);
}

#[test]
fn a_view_leaves_a_torn_tail_alone_and_names_damage() {
    let dir = tempfile::tempdir().expect("a directory");
    let log = SingleVoterLog::open(dir.path()).expect("opens");
    for command in good_life(3) {
        block_on(log.propose(command)).expect("durable");
    }
    let expected = block_on(log.list()).expect("listed");
    drop(log);
    let path = dir.path().join("log-00000000000000000001.log");
    let whole = std::fs::read(&path).expect("read");
    for torn in [1, 7, 40] {
        let mut bytes = whole.clone();
        bytes.extend(std::iter::repeat_n(0x5a, torn));
        std::fs::write(&path, &bytes).expect("written");
        let before = content(dir.path());
        let view = LogView::open(dir.path()).expect("a torn tail is no damage");
        assert_eq!(block_on(view.list()).expect("listed"), expected);
        assert_eq!(content(dir.path()), before);
    }
    let mut bytes = whole;
    bytes[60] ^= 1;
    std::fs::write(&path, bytes).expect("written");
    assert_eq!(LogView::open(dir.path()).map(drop).expect_err("damage").code(), "log-corrupt");
}

#[test]
fn an_oversized_command_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let log = SingleVoterLog::open(dir.path()).expect("opens");
    let assignment = "x".repeat(2 << 20);
    let command =
        Command::NewIncarnation { pipeline: pipeline(0), expect: Incarnation(0), assignment, at_us: 0 };
    assert_eq!(block_on(log.propose(command)).expect_err("too large").code(), "command-too-large");
}

#[test]
fn an_unknown_version_halts() {
    let dir = tempfile::tempdir().expect("a directory");
    copy(&golden(), dir.path());
    for entry in std::fs::read_dir(dir.path()).expect("a directory") {
        let path = entry.expect("an entry").path();
        let before = std::fs::read(&path).expect("read");
        let mut bytes = before.clone();
        bytes[7] = 2;
        std::fs::write(&path, bytes).expect("written");
        let error = open_error(dir.path());
        assert_eq!((error.kind(), error.code()), (Kind::Corrupt, "log-version"));
        std::fs::write(&path, before).expect("written");
    }
    assert!(SingleVoterLog::open(dir.path()).is_ok());
}

/// A log as this version writes it. Logs that exist must stay readable.
#[test]
fn golden_files_are_read_and_written_alike() {
    let dir = tempfile::tempdir().expect("a directory");
    let log = SingleVoterLog::open_with(dir.path(), Options { snapshot_every: 5 }).expect("opens");
    for command in good_life(3) {
        block_on(log.propose(command)).expect("durable");
    }
    let expected = block_on(log.list()).expect("listed");
    drop(log);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(golden()).expect("a directory");
        copy(dir.path(), &golden());
    }
    let mut names: Vec<_> =
        std::fs::read_dir(golden()).expect("golden").map(|e| e.expect("an entry").file_name()).collect();
    names.sort();
    assert_eq!(names.len(), 2, "a snapshot and a segment");
    for name in &names {
        let (golden, ours) = (std::fs::read(golden().join(name)), std::fs::read(dir.path().join(name)));
        assert_eq!(golden.expect("golden"), ours.expect("ours"), "{}", name.to_string_lossy());
    }
    let copied = tempfile::tempdir().expect("a directory");
    copy(&golden(), copied.path());
    let log = SingleVoterLog::open(copied.path()).expect("opens");
    assert_eq!(block_on(log.list()).expect("listed"), expected);
}
