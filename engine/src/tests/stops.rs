//! Ends of all kinds: finished, drained, stopped, paused.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use conveyor_model::log::Phase;
use conveyor_model::plan::{EventTime, Late, Mode, Partition};
use conveyor_model::step::Op;

use crate::testing::connectors::Numbers;
use crate::testing::plans::{PlanBuilder, World, plan};
use crate::{Metrics, Shutdown};

fn source_to_sink(mode: Mode) -> PlanBuilder {
    let mut plan = crate::testing::plans::plan(mode);
    let source = plan.source("src", 2, None);
    let sink = plan.sink("out", 2);
    plan.edge(source, sink, Partition::RoundRobin);
    plan
}

/// Waits until a condition over the metrics holds.
async fn until(metrics: &Metrics, what: impl Fn(&crate::Snapshot) -> bool) {
    let wait = async {
        while !what(&metrics.snapshot()) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), wait).await.expect("the condition holds within 30 seconds");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_finished_job_reads_nothing_twice() {
    let world = World::new(3, 1000, 64);
    let plan = source_to_sink(Mode::Job);
    let summary = world.run(&plan.0).await.unwrap();
    assert!(summary.finished && !summary.drained && summary.epochs >= 1);
    assert_eq!(world.rows("out"), world.expected(|_| true));
    assert_eq!(summary.nodes[1].totals.rows_out, 3000);
    assert_eq!(world.log.0.lock().phase, Phase::Finished);
    let again = world.run(&plan.0).await.unwrap();
    assert!(again.finished);
    assert_eq!(again.nodes[1].totals.rows_out, 3000);
    assert_eq!(again.nodes[1].counters.rows_out, 0);
    assert_eq!(world.rows("out").len(), 3000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_drains_acknowledges_upstream_and_goes_on() {
    let world = World::new(2, 500, 10);
    let plan = source_to_sink(Mode::Streaming);
    let metrics = Arc::new(Metrics::new(&plan.0));
    let shutdown = Shutdown::default();
    let (run, ()) = tokio::join!(world.run_watched(&plan.0, shutdown.clone(), metrics.clone()), async {
        until(&metrics, |s| s.nodes[1].counters.rows_out == 1000 && s.epoch.commits >= 1).await;
        shutdown.drain.cancel();
    });
    let summary = run.unwrap();
    assert!(summary.drained && !summary.finished);
    assert_eq!(world.rows("out"), world.expected(|_| true));
    assert_eq!(world.log.0.lock().phase, Phase::Paused);
    let acknowledged = world.acknowledged.lock().clone();
    let committed = world.log.0.lock().committed.as_ref().map(|c| c.epoch).unwrap();
    assert_eq!(acknowledged, BTreeMap::from([(0, committed), (1, committed)]));
    let mut job = plan.0.clone();
    job.mode = Mode::Job;
    let summary = world.run(&job).await.unwrap();
    assert!(summary.finished);
    assert_eq!(world.rows("out").len(), 1000, "nothing is read twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_in_the_middle_loses_nothing() {
    let world = World::new(4, 20_000, 100);
    let plan = source_to_sink(Mode::Job);
    let metrics = Arc::new(Metrics::new(&plan.0));
    let shutdown = Shutdown::default();
    let (run, ()) = tokio::join!(world.run_watched(&plan.0, shutdown.clone(), metrics.clone()), async {
        until(&metrics, |s| s.source_rows() >= 1000).await;
        shutdown.drain.cancel();
    });
    let summary = run.unwrap();
    assert!(summary.drained != summary.finished);
    assert_eq!(
        world.rows("out").len() as u64,
        metrics.snapshot().source_rows(),
        "all that was read is published"
    );
    assert!(world.run(&plan.0).await.unwrap().finished);
    assert_eq!(world.rows("out"), world.expected(|_| true));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_at_once_is_made_good_by_the_next_run() {
    let world = World::new(4, 20_000, 100);
    let plan = source_to_sink(Mode::Job);
    for rows in [500, 9000, 30_000] {
        let metrics = Arc::new(Metrics::new(&plan.0));
        let shutdown = Shutdown::default();
        let (run, ()) = tokio::join!(world.run_watched(&plan.0, shutdown.clone(), metrics.clone()), async {
            until(&metrics, |s| s.source_rows() >= rows).await;
            shutdown.stop.cancel();
        });
        assert!(!run.unwrap().drained);
    }
    assert!(world.run(&plan.0).await.unwrap().finished);
    assert_eq!(world.rows("out"), world.expected(|_| true));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_not_committed_is_in_no_counter_of_the_summary() {
    let bad = |id| id % 10 == 0;
    let world = World::with(Numbers { splits: 2, rows: 20_000, batch: 100, bad, ..Numbers::default() });
    let plan = source_to_sink(Mode::Job);
    let metrics = Arc::new(Metrics::new(&plan.0));
    let shutdown = Shutdown::default();
    let (run, ()) = tokio::join!(world.run_watched(&plan.0, shutdown.clone(), metrics.clone()), async {
        until(&metrics, |s| s.nodes.iter().any(|n| !n.rejected.is_empty())).await;
        shutdown.stop.cancel();
    });
    let stopped = run.unwrap();
    let counted = |summary: &crate::Summary| {
        let nodes: u64 = summary.nodes.iter().map(|n| n.counters.dead_letters).sum();
        assert_eq!(summary.dead_letters_by_code.values().sum::<u64>(), nodes, "{summary:?}");
        nodes
    };
    let rest = world.run(&plan.0).await.unwrap();
    assert_eq!(counted(&stopped) + counted(&rest), 4000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_many_dead_letters_pause_the_pipeline_after_a_commit() {
    let bad = |id| id >= 2000;
    let world = World::with(Numbers { splits: 1, rows: 100_000, batch: 100, bad, ..Numbers::default() });
    let mut plan = source_to_sink(Mode::Job);
    plan.0.dlq.max_ratio = 0.05;
    let error = world.run(&plan.0).await.unwrap_err();
    assert_eq!(error.code(), "dlq-ratio");
    assert!(error.to_string().contains("a bad number"), "{error}");
    assert_eq!(world.log.0.lock().phase, Phase::Paused);
    let letters = world.dlq.letters();
    assert!(letters.len() >= 101 && letters.len() < 98_000, "{}", letters.len());
    assert_eq!(world.rows("out").len(), 2000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_dead_letters_the_first_bad_row_stops_the_pipeline_and_is_shown() {
    let world =
        World::with(Numbers { splits: 1, rows: 100, batch: 10, bad: |id| id == 37, ..Numbers::default() });
    let mut plan = source_to_sink(Mode::Job);
    plan.0.dlq.enabled = false;
    let error = world.run(&plan.0).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "a row failed and dead letters are off: a bad number (bad-number); the row: 37 (pipeline default/test, at src, \
         in split-00, position 37) [row-failed]; mend the data, or set dlq.enabled to keep failing rows and go on"
    );
    assert_eq!(world.log.0.lock().phase, Phase::Failed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_take_every_edge_that_wants_them_or_are_filtered_or_dead() {
    let world = World::new(1, 100, 7);
    let mut plan = plan(Mode::Job);
    let source = plan.source("src", 1, None);
    let (low, even) = (plan.sink("low", 1), plan.sink("even", 2));
    plan.edge(source, low, Partition::RoundRobin).when = Some("100 / (id - 50) < -5".into());
    plan.edge(source, even, Partition::Hash(vec!["id".into()])).when = Some("id % 2 = 0 AND id < 60".into());
    let summary = world.run(&plan.0).await.unwrap();
    assert_eq!(world.rows("low"), world.expected(|id| (34..50).contains(&id)));
    assert_eq!(world.rows("even"), world.expected(|id| id % 2 == 0 && id < 60 && id != 50));
    assert_eq!(world.dlq.letters(), [("split-00".into(), 50, "division-by-zero".into())]);
    let source = summary.nodes[0].counters;
    assert!(source.conserved() && source.dead_letters == 1 && source.rows_in == 100, "{source:?}");
    assert_eq!(
        source.rows_out,
        world.expected(|i| i != 50 && (i < 60 && i % 2 == 0 || (34..50).contains(&i))).len() as u64
    );
    assert_eq!(summary.dead_letters_by_code["division-by-zero"], 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn late_rows_go_where_they_are_told_to() {
    // Every tenth row is 20 ms back; 5 ms are allowed.
    let time_us = |id: i64| if id % 10 == 9 && id > 20 { (id - 20) * 1000 } else { id * 1000 };
    let numbers = Numbers { splits: 2, rows: 200, batch: 16, time_us, ..Numbers::default() };
    let late = |id: i64| id % 10 == 9 && id > 20;
    for what in [Late::Keep, Late::Drop, Late::Dlq] {
        let world = World::with(numbers.clone());
        let mut plan = plan(Mode::Job);
        let times =
            EventTime { column: "t".into(), allowed_lateness_ms: 5, idle_timeout_ms: None, late: what };
        let source = plan.source("src", 2, Some(times));
        let sink = plan.sink("out", 1);
        plan.edge(source, sink, Partition::RoundRobin);
        let summary = world.run(&plan.0).await.unwrap();
        let counters = summary.nodes[0].counters;
        assert!(counters.conserved() && counters.rows_in == 400);
        assert_eq!(world.rows("out"), world.expected(|id| what == Late::Keep || !late(id)));
        let letters = world.dlq.letters();
        assert_eq!(letters.len(), if what == Late::Dlq { 36 } else { 0 });
        assert!(letters.iter().all(|(_, position, code)| late(*position as i64) && code == "late"));
        assert_eq!(counters.filtered, if what == Late::Drop { 36 } else { 0 });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_watermark_reaches_the_log_and_never_goes_back() {
    let world = World::new(2, 300, 10);
    let mut plan = plan(Mode::Streaming);
    let times =
        EventTime { column: "t".into(), allowed_lateness_ms: 5, idle_timeout_ms: None, late: Late::Keep };
    let source = plan.source("src", 2, Some(times));
    let stage = plan.stage("keep", 2, vec![Op::Filter { expr: "id >= 0".into() }]);
    let sink = plan.sink("out", 1);
    plan.edge(source, stage, Partition::RoundRobin);
    plan.edge(stage, sink, Partition::RoundRobin);
    let metrics = Arc::new(Metrics::new(&plan.0));
    let shutdown = Shutdown::default();
    let (run, ()) = tokio::join!(world.run_watched(&plan.0, shutdown.clone(), metrics.clone()), async {
        until(&metrics, |s| s.nodes[2].counters.rows_out == 600).await;
        shutdown.drain.cancel();
    });
    assert!(run.unwrap().drained);
    let committed = world.log.0.lock().watermark.expect("a watermark is committed");
    assert!(committed.0 <= 294_000, "{committed}");
    let mut job = plan.0.clone();
    job.mode = Mode::Job;
    assert!(world.run(&job).await.unwrap().finished);
    assert!(world.log.0.lock().watermark >= Some(committed));
}
