//! A world to run plans in.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use conveyor_epoch::testing::{MemoryLog, MemoryStore};
use conveyor_model::connector::Registry;
use conveyor_model::plan::{Mode, Plan};
use conveyor_model::{Epoch, Result};
use parking_lot::Mutex;

use super::connectors::{NumberConnector, Numbers, Row, Target, TargetConnector};
use super::stores::{MemoryDlq, NoSecrets};
use crate::{Components, Config, Metrics, Shutdown, Summary, SystemClock, run};

pub(crate) use conveyor_epoch::testing::PlanBuilder;

/// A plan without nodes over the test rows.
pub(crate) fn plan(mode: Mode) -> PlanBuilder {
    PlanBuilder::new(mode, super::schema())
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
            config: Config {
                worker_threads: 2,
                epoch_timeout: Some(Duration::from_secs(30)),
                ..Config::default()
            },
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
