//! The pipeline of a simulation: source, a stage with a rule and a memory, target. And what its output has to be.

use std::collections::BTreeMap;

use conveyor_model::plan::{
    Delivery, DlqPlan, Edge, EventTime, FORMAT, Forget, Late, Mode, Node, NodeInput, NodeOutput, Partition,
    Plan, Retry, SinkPlan, SourcePlan, Wishes,
};
use conveyor_model::predicate::Predicate;
use conveyor_model::step::{Dedupe, OnFail, Op, Rule, Step};
use conveyor_model::{NodeId, PipelineId, simulation};

use crate::source::{Fate, Input, fate, schema};
use crate::target::Row;
use crate::{source, target};

/// Longer than all event times.
const FOR_EVER_MS: u64 = 3_600_000;

/// The pipeline.
pub(crate) fn id() -> PipelineId {
    PipelineId::new("default", "simulated")
}

/// A plan whose numbers the seed chooses.
pub(crate) fn plan() -> Plan {
    let parallelism = |most: u64| 1 + simulation::below(most) as u32;
    let (reads, checks, writes) = (parallelism(2), parallelism(2), parallelism(2));
    let patient = Retry { max_retries: 20, base_ms: 20, max_ms: 200 };
    let source = SourcePlan {
        name: "in".into(),
        connector: source::NAME.into(),
        config: serde_json::Value::Null,
        full_schema: schema(),
        projection: schema().fields().iter().map(|f| f.name().clone()).collect(),
        predicate: Predicate::default(),
        event_time: Some(EventTime {
            column: "t".into(),
            allowed_lateness_ms: 0,
            idle_timeout_ms: None,
            late: Late::Keep,
        }),
        retry: patient,
    };
    let sink = SinkPlan {
        name: "out".into(),
        connector: target::NAME.into(),
        config: serde_json::Value::Null,
        delivery: Delivery::ExactlyOnce,
        retry: patient,
    };
    let nodes = nodes(source, sink, (reads, checks, writes));
    let window_bytes = 1 << (9 + simulation::below(6));
    let edge = |from: &str, to: &str, (a, b), partition| Edge {
        name: format!("{from}->{to}"),
        from: NodeId(a),
        to: NodeId(b),
        partition,
        when: None,
        projection: None,
        schema: schema(),
        window_bytes,
    };
    Plan {
        format: FORMAT,
        pipeline: id(),
        mode: Mode::Job,
        delivery: Delivery::ExactlyOnce,
        checkpoint_interval_ms: 150 + simulation::below(450),
        nodes,
        edges: vec![
            edge("in", "check", (0, 1), Partition::Hash(vec!["key".into()])),
            edge("check", "out", (1, 2), Partition::RoundRobin),
        ],
        lookups: BTreeMap::new(),
        dlq: DlqPlan { enabled: true, path: None, max_retries: 3, max_ratio: 1.0, whole_rows: false },
        forget: Forget::default(),
        placement: Wishes { spread: true, ..Wishes::default() },
    }
}

fn nodes(source: SourcePlan, sink: SinkPlan, (reads, checks, writes): (u32, u32, u32)) -> Vec<Node> {
    let node = |id: u32, name: &str, parallelism, input, steps, output| Node {
        id: NodeId(id),
        name: name.into(),
        parallelism,
        input,
        steps,
        output,
        schema: schema(),
    };
    vec![
        node(0, "in", reads, NodeInput::Source(Box::new(source)), Vec::new(), NodeOutput::Edges),
        node(1, "check", checks, NodeInput::Edges, steps(), NodeOutput::Edges),
        node(2, "out", writes, NodeInput::Edges, Vec::new(), NodeOutput::Sink(Box::new(sink))),
    ]
}

fn steps() -> Vec<Step> {
    let step = |id: &str, op| Step { id: id.into(), name: id.into(), op, input: schema(), output: schema() };
    let rule = Rule { name: "not-eight".into(), expr: "id % 31 <> 8".into() };
    vec![
        step("rule", Op::Validate { rules: vec![rule], on_fail: OnFail::Dlq }),
        step(
            "once",
            Op::Dedupe(Dedupe {
                keys: vec!["key".into()],
                event_time: "t".into(),
                within_ms: FOR_EVER_MS,
                max_keys: 1_000_000,
            }),
        ),
    ]
}

/// All rows of the input with this fate, in order.
pub(crate) fn expected(input: Input, of: &[Fate]) -> Vec<Row> {
    (0..input.splits)
        .flat_map(|split| (0..input.rows).filter(|id| of.contains(&fate(*id))).map(move |id| (split, id)))
        .collect()
}
