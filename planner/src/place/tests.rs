//! Laws of placement.

use std::sync::Arc;

use arrow_schema::Schema;
use conveyor_model::PipelineId;
use conveyor_model::plan::{
    Delivery, DlqPlan, Edge, FORMAT, Forget, Mode, NodeInput, NodeOutput, Retry, SinkPlan, SourcePlan,
};
use conveyor_model::predicate::Predicate;
use proptest::prelude::*;

use super::*;

/// A chain of nodes: a source, stages, a sink, with these parallelisms.
fn chain(widths: &[u32]) -> Plan {
    let schema = Arc::new(Schema::empty());
    let last = widths.len() - 1;
    let node = |(i, &parallelism): (usize, &u32)| Node {
        id: NodeId(i as u32),
        name: format!("n{i}"),
        parallelism,
        input: if i == 0 { NodeInput::Source(Box::new(source())) } else { NodeInput::Edges },
        steps: Vec::new(),
        output: if i == last { NodeOutput::Sink(Box::new(sink())) } else { NodeOutput::Edges },
        schema: schema.clone(),
    };
    let edge = |i: usize| Edge {
        name: format!("n{i}->n{}", i + 1),
        from: NodeId(i as u32),
        to: NodeId(i as u32 + 1),
        partition: if widths[i] == widths[i + 1] { Partition::Forward } else { Partition::RoundRobin },
        when: None,
        projection: None,
        schema: schema.clone(),
        window_bytes: 1 << 20,
    };
    Plan {
        format: FORMAT,
        pipeline: PipelineId::new("default", "p"),
        mode: Mode::Job,
        delivery: Delivery::ExactlyOnce,
        checkpoint_interval_ms: 1000,
        nodes: widths.iter().enumerate().map(node).collect(),
        edges: (0..last).map(edge).collect(),
        lookups: BTreeMap::new(),
        dlq: DlqPlan { enabled: true, path: None, max_retries: 3, max_ratio: 1.0, whole_rows: false },
        forget: Forget::default(),
        placement: Wishes::default(),
    }
}

fn source() -> SourcePlan {
    SourcePlan {
        name: "s".into(),
        connector: "in".into(),
        config: serde_json::Value::Null,
        full_schema: Arc::new(Schema::empty()),
        projection: Vec::new(),
        predicate: Predicate::default(),
        event_time: None,
        retry: Retry::default(),
    }
}

fn sink() -> SinkPlan {
    SinkPlan {
        name: "t".into(),
        connector: "out".into(),
        config: serde_json::Value::Null,
        delivery: Delivery::ExactlyOnce,
        retry: Retry::default(),
    }
}

fn site(id: &str) -> Site {
    Site {
        id: id.into(),
        sources: ["in".to_owned()].into(),
        sinks: ["out".to_owned()].into(),
        cores: 2,
        ..Site::default()
    }
}

fn sites() -> impl Strategy<Value = Vec<Site>> {
    let one = (any::<bool>(), any::<bool>(), 0u32..4, 0u32..9, prop::bool::ANY);
    prop::collection::vec(one, 0..6).prop_map(|all| {
        let make = |(i, (reads, writes, cores, tasks, gold)): (usize, (bool, bool, u32, u32, bool))| Site {
            id: format!("s{i}"),
            sources: if reads { ["in".to_owned()].into() } else { BTreeSet::new() },
            sinks: if writes { ["out".to_owned()].into() } else { BTreeSet::new() },
            labels: if gold { [("tier".to_owned(), "gold".to_owned())].into() } else { BTreeMap::new() },
            cores,
            tasks,
            memory_bytes: u64::from(tasks) << 22,
            ..Site::default()
        };
        all.into_iter().enumerate().map(make).collect()
    })
}

fn wishes() -> impl Strategy<Value = Wishes> {
    (any::<bool>(), any::<bool>()).prop_map(|(gold, spread)| Wishes {
        labels: if gold { [("tier".to_owned(), "gold".to_owned())].into() } else { BTreeMap::new() },
        spread,
    })
}

proptest! {
    #[test]
    fn laws_hold_for_any_plan_and_sites(
        widths in prop::collection::vec(1u32..5, 2..5),
        sites in sites(),
        wishes in wishes(),
        turn in 0usize..6,
    ) {
        let plan = Plan { placement: wishes.clone(), ..chain(&widths) };
        let placed = place(&plan, &sites, None);
        let mut turned = sites.clone();
        turned.rotate_left(turn % sites.len().max(1));
        prop_assert_eq!(&placed, &place(&plan, &turned, None), "the order of the sites matters");

        let may = |node: &Node, s: &Site| {
            wishes.labels.iter().all(|(k, v)| s.labels.get(k) == Some(v))
                && (node.id.0 > 0 || s.sources.contains("in"))
                && (node.id.0 as usize + 1 < widths.len() || s.sinks.contains("out"))
        };
        let possible = plan.nodes.iter().all(|n| sites.iter().any(|s| may(n, s)));
        prop_assert_eq!(placed.is_ok(), possible);
        let Ok(placed) = placed else { return Ok(()) };
        prop_assert_eq!(placed.len(), widths.iter().sum::<u32>() as usize);
        for node in &plan.nodes {
            let mut counts: BTreeMap<&str, usize> =
                sites.iter().filter(|s| may(node, s)).map(|s| (s.id.as_str(), 0)).collect();
            for subtask in 0..node.parallelism {
                let on = placed[&TaskId { node: node.id, subtask }].as_str();
                let count = counts.get_mut(on);
                prop_assert!(count.is_some(), "{} on {on}, which cannot run it", node.name);
                *count.expect("just checked") += 1;
            }
            // With `spread` keeping nodes apart comes before keeping subtasks apart.
            if !wishes.spread {
                let (least, most) = (counts.values().min(), counts.values().max());
                prop_assert!(most.expect("some") - least.expect("some") <= 1, "subtasks are not spread: {counts:?}");
            }
        }
    }

    #[test]
    fn spread_uses_as_many_sites_as_it_can(nodes in 2usize..6, count in 1usize..6) {
        let plan = Plan { placement: Wishes { spread: true, ..Wishes::default() }, ..chain(&vec![1; nodes]) };
        let sites: Vec<Site> = (0..count).map(|i| site(&format!("s{i}"))).collect();
        let placed = place(&plan, &sites, None).expect("placed");
        let used: BTreeSet<&String> = placed.values().collect();
        prop_assert_eq!(used.len(), nodes.min(count));
    }
}

#[test]
fn neighbours_stay_together_and_the_least_loaded_site_wins() {
    let sites =
        [Site { tasks: 3, ..site("a") }, Site { tasks: 1, ..site("b") }, Site { tasks: 2, ..site("c") }];
    let placed = place(&chain(&[1, 1, 1]), &sites, None).expect("placed");
    assert!(placed.values().all(|s| s == "b"), "{placed:?}");
    // Two subtasks go to two sites, and each chain stays where it began.
    let placed = place(&chain(&[2, 2]), &sites, None).expect("placed");
    let on = |node, subtask| placed[&TaskId { node: NodeId(node), subtask }].as_str();
    assert_eq!([on(0, 0), on(1, 0)], ["b", "b"]);
    assert_eq!([on(0, 1), on(1, 1)], ["c", "c"]);
}

#[test]
fn full_memory_counts_as_load() {
    let full = Site { memory_bytes: 100, taken_bytes: 1000, ..site("a") };
    let placed = place(&chain(&[1, 1]), &[full, Site { tasks: 4, ..site("b") }], None);
    assert!(placed.expect("placed").values().all(|s| s == "b"));
}

#[test]
fn a_task_stays_where_it_was_when_nothing_else_decides() {
    let sites = [site("a"), Site { tasks: 1, ..site("b") }];
    let was = Placement::from([(TaskId { node: NodeId(0), subtask: 0 }, "b".to_owned())]);
    let placed = place(&chain(&[1, 1]), &sites, Some(&was)).expect("placed");
    assert!(placed.values().all(|s| s == "b"), "{placed:?}");
}

#[test]
fn what_is_missing_is_said() {
    let mut plan = chain(&[1, 1]);
    let why = |plan: &Plan, sites: &[Site]| place(plan, sites, None).expect_err("refused").to_string();
    assert_eq!(why(&plan, &[]), "no sidecar is attached that takes tasks");
    let blind = Site { sources: BTreeSet::new(), ..site("a") };
    assert_eq!(why(&plan, &[blind]), "n0 needs the source connector in, which no attached sidecar has");
    plan.placement.labels = [("tier".to_owned(), "gold".to_owned())].into();
    assert_eq!(why(&plan, &[site("a")]), "no attached sidecar has the labels tier=gold");
}
