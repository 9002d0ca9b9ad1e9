//! Plans made by hand, and a world to run them in.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use conveyor_model::connector::Registry;
use conveyor_model::plan::{
    Delivery, DlqPlan, Edge, EventTime, FORMAT, Forget, Mode, Node, NodeInput, NodeOutput, Partition, Plan,
    Retry, SinkPlan, SourcePlan,
};
use conveyor_model::predicate::Predicate;
use conveyor_model::step::{Op, Step};
use conveyor_model::{Epoch, NodeId, PipelineId, Result};
use parking_lot::Mutex;

use super::connectors::{NumberConnector, Numbers, Row, Target, TargetConnector};
use super::schema;
use super::stores::{MemoryDlq, MemoryLog, MemoryStore, NoSecrets};
use crate::{Components, Config, Metrics, Shutdown, Summary, SystemClock, run};

/// A plan under construction. Nodes are added in topological order.
pub(crate) struct PlanBuilder(pub(crate) Plan);

impl PlanBuilder {
    pub(crate) fn new(mode: Mode) -> Self {
        Self(Plan {
            format: FORMAT,
            pipeline: PipelineId::new("default", "test"),
            mode,
            delivery: Delivery::ExactlyOnce,
            checkpoint_interval_ms: 5,
            nodes: Vec::new(),
            edges: Vec::new(),
            lookups: BTreeMap::new(),
            dlq: DlqPlan { enabled: true, path: None, max_retries: 3, max_ratio: 1.0, whole_rows: false },
            forget: Forget::default(),
            placement: Default::default(),
        })
    }

    fn node(
        &mut self,
        name: &str,
        parallelism: u32,
        input: NodeInput,
        steps: Vec<Step>,
        output: NodeOutput,
    ) -> NodeId {
        let id = NodeId(self.0.nodes.len() as u32);
        let name = name.to_owned();
        self.0.nodes.push(Node { id, name, parallelism, input, steps, output, schema: schema() });
        id
    }

    pub(crate) fn source(&mut self, name: &str, parallelism: u32, event_time: Option<EventTime>) -> NodeId {
        let source = SourcePlan {
            name: name.into(),
            connector: "memory".into(),
            config: serde_json::Value::Null,
            full_schema: schema(),
            projection: vec!["id".into(), "t".into()],
            predicate: Predicate::default(),
            event_time,
            retry: Retry::default(),
        };
        self.node(name, parallelism, NodeInput::Source(Box::new(source)), Vec::new(), NodeOutput::Edges)
    }

    pub(crate) fn stage(&mut self, name: &str, parallelism: u32, ops: Vec<Op>) -> NodeId {
        let steps = ops.into_iter().enumerate().map(|(i, op)| Step {
            id: format!("{name}-{i}"),
            name: format!("{name}-{i}"),
            op,
            input: schema(),
            output: schema(),
        });
        self.node(name, parallelism, NodeInput::Edges, steps.collect(), NodeOutput::Edges)
    }

    pub(crate) fn sink(&mut self, name: &str, parallelism: u32) -> NodeId {
        let sink = SinkPlan {
            name: name.into(),
            connector: "memory".into(),
            config: serde_json::Value::Null,
            delivery: Delivery::ExactlyOnce,
            retry: Retry { max_retries: 2, base_ms: 1, max_ms: 1 },
        };
        self.node(name, parallelism, NodeInput::Edges, Vec::new(), NodeOutput::Sink(Box::new(sink)))
    }

    pub(crate) fn edge(&mut self, from: NodeId, to: NodeId, partition: Partition) -> &mut Edge {
        let name = format!("{}->{}", self.0.node(from).name, self.0.node(to).name);
        self.0.edges.push(Edge {
            name,
            from,
            to,
            partition,
            when: None,
            projection: None,
            schema: schema(),
            window_bytes: 4096,
        });
        self.0.edges.last_mut().expect("an edge was just added")
    }
}

/// Everything that outlives a run.
pub(crate) struct World {
    pub(crate) log: Arc<MemoryLog>,
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) dlq: Arc<MemoryDlq>,
    pub(crate) targets: Arc<Mutex<BTreeMap<String, Target>>>,
    pub(crate) acknowledged: Arc<Mutex<BTreeMap<u32, Epoch>>>,
    pub(crate) config: Config,
    numbers: Numbers,
}

impl World {
    pub(crate) fn new(splits: u64, rows: i64, batch: i64) -> Self {
        Self::with(Numbers { splits, rows, batch, ..Numbers::default() })
    }

    pub(crate) fn with(numbers: Numbers) -> Self {
        Self {
            log: Arc::new(MemoryLog::new()),
            store: Arc::default(),
            dlq: Arc::default(),
            targets: Arc::default(),
            acknowledged: Arc::default(),
            config: Config { worker_threads: 2, epoch_timeout: Duration::from_secs(30), ..Config::default() },
            numbers,
        }
    }

    fn components(&self) -> Components {
        let source =
            NumberConnector { numbers: self.numbers.clone(), acknowledged: self.acknowledged.clone() };
        let mut registry = Registry::default();
        registry.sources.insert("memory", Arc::new(source));
        registry.sinks.insert("memory", Arc::new(TargetConnector(self.targets.clone())));
        Components {
            registry,
            manifests: self.store.clone(),
            state: self.store.clone(),
            dlq: self.dlq.clone(),
            clock: Arc::new(SystemClock::new()),
            secrets: Arc::new(NoSecrets),
            seed: None,
            exchange: None,
        }
    }

    /// Runs a plan to its end.
    pub(crate) async fn run(&self, plan: &Plan) -> Result<Summary> {
        self.run_until(plan, Shutdown::default()).await
    }

    /// Runs a plan until it ends or is told to stop.
    pub(crate) async fn run_until(&self, plan: &Plan, shutdown: Shutdown) -> Result<Summary> {
        let metrics = Arc::new(Metrics::new(plan));
        self.run_watched(plan, shutdown, metrics).await
    }

    /// As `run_until`, with metrics to look at meanwhile.
    pub(crate) async fn run_watched(
        &self,
        plan: &Plan,
        shutdown: Shutdown,
        metrics: Arc<Metrics>,
    ) -> Result<Summary> {
        self.targets.lock().values_mut().for_each(|t| t.writes = 0);
        let (plan, log) = (Arc::new(plan.clone()), self.log.clone());
        run(plan, 1, log, self.components(), self.config.clone(), metrics, shutdown).await
    }

    /// Changes a target, which is made if it is not there.
    pub(crate) fn target(&self, name: &str, change: impl FnOnce(&mut Target)) {
        change(self.targets.lock().entry(name.to_owned()).or_default());
    }

    /// Published rows of a target.
    pub(crate) fn rows(&self, name: &str) -> Vec<Row> {
        self.targets.lock().get(name).map(Target::rows).unwrap_or_default()
    }

    /// All rows that the sources have, for which a condition holds.
    pub(crate) fn expected(&self, keep: impl Fn(i64) -> bool) -> Vec<Row> {
        let split = |s: u64| (0..self.numbers.rows).map(move |i| (format!("split-{s:02}"), i));
        (0..self.numbers.splits).flat_map(split).filter(|(_, i)| keep(*i)).collect()
    }
}
