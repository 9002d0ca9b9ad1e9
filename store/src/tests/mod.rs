//! Tests of the crate on a real directory, in memory, and on stores that fail.

mod clean;
mod dlq;
mod failpoints;
mod faults;
mod integrity;

use std::collections::BTreeMap;
use std::sync::Arc;

use conveyor_model::manifest::{Manifest, ManifestRef, Manifests, NamedAck, TaskAck};
use conveyor_model::plan::{DlqPlan, Plan};
use conveyor_model::state::StateRef;
use conveyor_model::{Clock, Epoch, Incarnation, NodeId, PipelineId, RowCounters, TaskId};

use crate::Store;
use crate::objects::{Local, Objects, Remote};

struct FixedClock(i64);

impl Clock for FixedClock {
    fn wall_us(&self) -> i64 {
        self.0
    }

    fn monotonic_us(&self) -> u64 {
        0
    }
}

/// 2026-01-02T03:04:05.678901Z
const NOW: i64 = 1_767_323_045_678_901;

fn clock() -> Arc<dyn Clock> {
    Arc::new(FixedClock(NOW))
}

fn memory() -> Arc<dyn Objects> {
    Arc::new(Remote::new(Arc::new(object_store::memory::InMemory::new())))
}

fn local(dir: &tempfile::TempDir) -> Arc<dyn Objects> {
    let path = dir.path();
    Arc::new(Local::open(path, &path.to_string_lossy()).expect("opens"))
}

fn pipeline() -> PipelineId {
    PipelineId::new("default", "late-flights")
}

fn task(subtask: u32) -> TaskId {
    TaskId { node: NodeId(0), subtask }
}

fn manifest(epoch: u64, parent: Option<(u64, ManifestRef)>, state: &[StateRef]) -> Manifest {
    let ack = TaskAck {
        task: task(0),
        positions: BTreeMap::new(),
        state: state.iter().enumerate().map(|(n, s)| (format!("step{n}"), s.clone())).collect(),
        staged: Vec::new(),
        dead_letters: Vec::new(),
        counters: RowCounters::default(),
        watermark: None,
        finished: false,
    };
    Manifest {
        format: conveyor_model::manifest::FORMAT,
        pipeline: pipeline(),
        plan_version: 1,
        incarnation: Incarnation(1),
        epoch: Epoch(epoch),
        parent: parent.map(|(e, r)| (Epoch(e), r)),
        tasks: vec![NamedAck { node: "dedupe".into(), ack }],
        watermark: None,
        finished: false,
        totals: BTreeMap::new(),
        written_us: 7,
    }
}

fn plan() -> Plan {
    Plan {
        format: conveyor_model::plan::FORMAT,
        pipeline: pipeline(),
        mode: Default::default(),
        delivery: Default::default(),
        checkpoint_interval_ms: 1000,
        nodes: Vec::new(),
        edges: Vec::new(),
        lookups: BTreeMap::new(),
        dlq: DlqPlan { enabled: true, path: None, max_retries: 3, max_ratio: 0.05, whole_rows: false },
        forget: Default::default(),
        placement: Default::default(),
    }
}

async fn write_chain(
    store: &Store,
    epochs: std::ops::RangeInclusive<u64>,
    states: &[Vec<StateRef>],
) -> Vec<ManifestRef> {
    let mut refs: Vec<ManifestRef> = Vec::new();
    for (nth, epoch) in epochs.enumerate() {
        let parent = refs.last().map(|r| (epoch - 1, r.clone()));
        let state = states.get(nth).cloned().unwrap_or_default();
        refs.push(store.write(&manifest(epoch, parent, &state)).await.expect("written"));
    }
    refs
}
