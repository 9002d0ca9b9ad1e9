//! Laws: the committed output does not depend on batches, parallelism, windows or on where runs were cut.

use std::sync::Arc;
use std::time::Duration;

use conveyor_model::plan::{EventTime, Late, Mode, Partition, Plan};
use conveyor_model::step::{Dedupe, OnFail, Op, Rule};
use proptest::prelude::*;

use crate::testing::connectors::Numbers;
use crate::testing::plans::{World, plan};
use crate::{Metrics, Shutdown};

/// Reads, keeps late rows out, filters, checks a rule, removes duplicates by key across splits, and splits into two sinks.
fn pipeline(parallelism: [u32; 4], window: u64) -> Plan {
    let mut plan = plan(Mode::Job);
    let times =
        EventTime { column: "t".into(), allowed_lateness_ms: 0, idle_timeout_ms: None, late: Late::Dlq };
    let source = plan.source("src", parallelism[0], Some(times));
    let rule = Rule { name: "lucky".into(), expr: "id % 13 <> 5".into() };
    let filter = plan.stage(
        "filter",
        parallelism[1],
        vec![
            Op::Filter { expr: "60 / (id % 7) > 5 + id % 7".into() },
            Op::Validate { rules: vec![rule], on_fail: OnFail::Dlq },
        ],
    );
    let unique = plan.stage(
        "unique",
        parallelism[2],
        vec![Op::Dedupe(Dedupe {
            keys: vec!["id".into()],
            event_time: "t".into(),
            within_ms: 1_000_000,
            max_keys: 1_000_000,
        })],
    );
    let (low, rest) = (plan.sink("low", parallelism[3]), plan.sink("rest", 1));
    plan.edge(source, filter, Partition::RoundRobin);
    plan.edge(filter, unique, Partition::Hash(vec!["id".into()]));
    plan.edge(unique, low, Partition::RoundRobin).when = Some("id < 50".into());
    plan.edge(unique, rest, Partition::RoundRobin).when = Some("id >= 40".into());
    plan.0.edges.iter_mut().for_each(|e| e.window_bytes = window);
    plan.0.checkpoint_interval_ms = 1;
    plan.0
}

fn bad(id: i64) -> bool {
    id % 11 == 3
}

fn late(id: i64) -> bool {
    id % 17 == 16
}

/// Whether a row comes to the rule.
fn kept(id: i64) -> bool {
    !bad(id) && !late(id) && id % 7 != 0 && 60 / (id % 7) > 5 + id % 7
}

fn passes(id: i64) -> bool {
    kept(id) && id % 13 != 5
}

fn dead(id: i64) -> bool {
    bad(id) || late(id) || id % 7 == 0 || kept(id) && id % 13 == 5
}

/// Ids of a target: which of several equal rows was the first is a matter of arrival.
fn unique_ids(world: &World, target: &str) -> Vec<i64> {
    let mut ids: Vec<i64> = world.rows(target).into_iter().map(|(_, id)| id).collect();
    ids.sort_unstable();
    ids
}

async fn check(parallelism: [u32; 4], window: u64, batch: i64, cuts: Vec<u64>) {
    let world = World::with(Numbers {
        splits: 3,
        rows: 120,
        batch,
        bad,
        time_us: |id| if late(id) { id - 10 } else { id } * 1000,
    });
    let plan = pipeline(parallelism, window);
    let mut newest = None;
    let mut watermark_grows = || {
        let now = world.log.0.lock().watermark;
        assert!(now >= newest, "the watermark went back from {newest:?} to {now:?}");
        newest = now;
    };
    for cut in cuts {
        let metrics = Arc::new(Metrics::new(&plan));
        let shutdown = Shutdown::default();
        let stop = async {
            while metrics.snapshot().nodes.iter().map(|n| n.counters.rows_in).sum::<u64>() < cut {
                watermark_grows();
                tokio::task::yield_now().await;
            }
            if cut % 2 == 0 { shutdown.stop.cancel() } else { shutdown.drain.cancel() }
        };
        let run = world.run_watched(&plan, shutdown.clone(), metrics.clone());
        tokio::pin!(run);
        tokio::select! {
            done = &mut run => { done.unwrap(); }
            () = stop => { run.await.unwrap(); }
        }
        watermark_grows();
    }
    let summary = tokio::time::timeout(Duration::from_secs(60), world.run(&plan)).await.unwrap().unwrap();
    watermark_grows();
    assert!(summary.finished);
    assert!(summary.nodes.iter().all(|n| n.totals.conserved()));
    let good: Vec<i64> = (0..120).filter(|&i| passes(i)).collect();
    assert_eq!(unique_ids(&world, "low"), good.iter().copied().filter(|&i| i < 50).collect::<Vec<_>>());
    assert_eq!(unique_ids(&world, "rest"), good.iter().copied().filter(|&i| i >= 40).collect::<Vec<_>>());
    let letters: Vec<u64> = world.dlq.letters().into_iter().map(|(_, position, _)| position).collect();
    let mut expected: Vec<u64> = (0..120).filter(|i| dead(*i)).flat_map(|i| [i as u64; 3]).collect();
    let mut found = letters;
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected, "every bad row of every split is one dead letter");
    let totals = &summary.nodes[0].totals;
    assert_eq!(totals.rows_in, 360, "every row was committed once");
    let sum = |of: fn(&conveyor_model::RowCounters) -> u64| {
        summary.nodes.iter().map(|n| of(&n.totals)).sum::<u64>()
    };
    assert_eq!(sum(|t| t.dead_letters), found.len() as u64, "what was counted as dead is there");
    // Over the whole pipeline: what came in went out, is dead, or was filtered. Only rows that both sinks want go out twice.
    let out = (unique_ids(&world, "low").len() + unique_ids(&world, "rest").len()) as u64;
    let twice = good.iter().filter(|i| (40..50).contains(*i)).count() as u64;
    let accounted = out + sum(|t| t.dead_letters) + sum(|t| t.filtered);
    assert_eq!(360 + twice, accounted, "{:?}", summary.nodes);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn the_output_depends_on_the_input_alone(
        parallelism in prop::array::uniform4(1u32..=4),
        window in prop_oneof![Just(1u64), Just(3000), Just(1 << 20)],
        batch in 1i64..60,
        cuts in prop::collection::vec(1u64..900, 0..4),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(check(parallelism, window, batch, cuts));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_in_flight_stays_within_the_windows() {
    let world = World::new(2, 50_000, 200);
    let mut plan = plan(Mode::Job);
    let source = plan.source("src", 2, None);
    let slow = plan.stage("slow", 1, vec![Op::Filter { expr: "id >= 0".into() }]);
    let sink = plan.sink("out", 1);
    plan.edge(source, slow, Partition::RoundRobin).window_bytes = 20_000;
    plan.edge(slow, sink, Partition::RoundRobin).window_bytes = 20_000;
    let metrics = Arc::new(Metrics::new(&plan.0));
    let mut most = 0;
    let run = world.run_watched(&plan.0, Shutdown::default(), metrics.clone());
    tokio::pin!(run);
    let summary = loop {
        tokio::select! {
            done = &mut run => break done.unwrap(),
            () = tokio::task::yield_now() => {
                let snapshot = metrics.snapshot();
                let in_flight = |e: &crate::EdgeSnapshot| e.window - e.credits_available;
                most = most.max(snapshot.edges.iter().map(in_flight).sum::<u64>());
            }
        }
    };
    assert!(summary.finished);
    assert!(most > 0 && most <= 3 * 20_000, "{most} bytes in flight on three channels of 20000");
}
