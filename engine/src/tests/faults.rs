//! What fails, and what must hold then.

use std::time::Duration;

use conveyor_model::Epoch;
use conveyor_model::log::Phase;
use conveyor_model::plan::{Mode, Partition, Plan};
use conveyor_model::step::Op;

use crate::testing::plans::{World, plan};

/// Two branches of one source that meet again: a diamond.
fn diamond(parallelism: u32, window: u64) -> Plan {
    let mut plan = plan(Mode::Job);
    let source = plan.source("src", parallelism, None);
    let left = plan.stage("left", parallelism, vec![Op::Filter { expr: "id % 2 = 0".into() }]);
    let right = plan.stage("right", 1, vec![Op::Filter { expr: "id % 2 = 1".into() }]);
    let join = plan.stage("join", parallelism, Vec::new());
    let sink = plan.sink("out", 1);
    plan.edge(source, left, Partition::Forward);
    plan.edge(source, right, Partition::RoundRobin);
    plan.edge(left, join, Partition::Hash(vec!["id".into()]));
    plan.edge(right, join, Partition::RoundRobin);
    plan.edge(join, sink, Partition::RoundRobin);
    plan.0.edges.iter_mut().for_each(|e| e.window_bytes = window);
    plan.0.checkpoint_interval_ms = 1;
    plan.0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_diamond_with_tiny_windows_does_not_deadlock() {
    let world = World::new(6, 3000, 50);
    let plan = diamond(3, 1);
    let run = tokio::time::timeout(Duration::from_secs(60), world.run(&plan)).await;
    let summary = run.expect("no deadlock").unwrap();
    assert!(summary.finished);
    assert_eq!(world.rows("out"), world.expected(|_| true));
    assert!(summary.nodes.iter().all(|n| n.totals.conserved()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_sink_stops_the_run_and_the_next_one_is_exact() {
    let world = World::new(4, 3000, 50);
    let plan = diamond(2, 4096);
    for at in [1, 20, 70, 110] {
        world.target("out", |t| t.fail_at = Some(at));
        let error = world.run(&plan).await.unwrap_err();
        assert_eq!(error.code(), "target-broken", "{error}");
        assert_eq!(error.place().object.as_deref(), Some("out"));
        assert_eq!(world.log.0.lock().phase, Phase::Failed);
    }
    world.target("out", |t| t.fail_at = None);
    assert!(world.run(&plan).await.unwrap().finished);
    assert_eq!(world.rows("out"), world.expected(|_| true));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_prepared_goes_into_the_next_epoch() {
    let world = World::new(2, 3000, 10);
    // Three tries each: the first two epochs are refused, the third one is not.
    world.target("out", |t| t.prepare_down = 7);
    let summary = world.run(&diamond(2, 4096)).await.unwrap();
    assert!(summary.finished);
    assert_eq!(world.rows("out"), world.expected(|_| true));
    assert!(world.log.0.lock().next_epoch > summary.epochs + 2, "two epochs were given up");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_down_for_a_while_delays_the_commit() {
    let world = World::new(1, 100, 10);
    *world.store.down.lock() = 2;
    assert!(world.run(&diamond(1, 4096)).await.unwrap().finished);
    assert_eq!(world.rows("out"), world.expected(|_| true));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_committed_epoch_that_was_not_published_is_published_by_the_next_run() {
    let world = World::new(1, 100, 10);
    let plan = diamond(1, 4096);
    world.target("out", |t| t.commit_down = 1000);
    let error = world.run(&plan).await.unwrap_err();
    assert_eq!(error.code(), "target-down");
    assert!(world.rows("out").is_empty());
    assert!(world.log.0.lock().committed.is_some(), "the commit stands");
    world.target("out", |t| t.commit_down = 0);
    assert!(world.run(&plan).await.unwrap().finished);
    assert_eq!(world.rows("out"), world.expected(|_| true));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_ahead_of_the_log_is_refused() {
    let world = World::new(1, 100, 10);
    world.target("out", |t| t.ledger = Some(Epoch(7)));
    let error = world.run(&diamond(1, 4096)).await.unwrap_err();
    assert_eq!(error.code(), "ledger-ahead");
    assert!(error.help_text().is_some());
    assert!(world.rows("out").is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_start_fences_an_older_one() {
    let world = World::new(1, 5000, 1);
    let mut plan = diamond(1, 4096);
    plan.mode = Mode::Streaming;
    let newer = async {
        while world.log.0.lock().committed.is_none() {
            tokio::task::yield_now().await;
        }
        world.log.0.lock().incarnation.0 += 1;
    };
    let (run, ()) = tokio::join!(world.run(&plan), newer);
    assert_eq!(run.unwrap_err().code(), "fenced");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_becomes_an_error_that_names_the_task() {
    let world = World::new(1, 100, 10);
    world.target("out", |t| t.panic_at = Some(2));
    let error = world.run(&diamond(1, 4096)).await.unwrap_err();
    assert_eq!((error.code(), error.place().object.as_deref()), ("task-panicked", Some("out.0")));
    assert!(error.to_string().contains("this test wants a panic"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_condition_that_does_not_compile_is_named() {
    let world = World::new(1, 10, 10);
    let mut plan = diamond(1, 4096);
    plan.edges[0].when = Some("idd > 3".into());
    let error = world.run(&plan).await.unwrap_err();
    assert_eq!(error.code(), "edge-condition");
    assert!(error.to_string().contains("src->left"), "{error}");
}
