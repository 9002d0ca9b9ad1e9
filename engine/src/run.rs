//! Runs a plan from its committed epoch to its end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use conveyor_model::epoch::Coordinator;
use conveyor_model::log::Phase;
use conveyor_model::plan::{FORMAT, NodeInput, Plan};
use conveyor_model::{Epoch, Error, Kind, Result, RowCounters};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::build::{Builder, Task};
use crate::config::{Components, Config, NodeSummary, Shutdown, Summary};
use crate::epochs::{Driver, End, State, Tasks};
use crate::lookups::LookupTables;
use crate::metrics::Metrics;
use crate::publish::Publisher;
use crate::ratio::Ratio;
use crate::restore::{Restored, Start, start};
use crate::runtime::Compute;
use crate::task::{Progress, Shared};

/// Runs a plan: fences earlier starts, goes on from the committed epoch, commits and publishes epochs, and returns when
/// the pipeline has finished, was drained or was stopped. A job that had finished before reads what is new since then.
///
/// Called within a multi-threaded tokio runtime, which does the control work; data tasks run on threads of their own.
///
/// # Errors
/// The first thing that stops the pipeline, with its place. Nothing uncommitted is published, and the next run goes on
/// from the committed epoch.
pub async fn run(
    plan: Arc<Plan>,
    plan_version: u64,
    components: Components,
    config: Config,
    metrics: Arc<Metrics>,
    shutdown: Shutdown,
) -> Result<Summary> {
    let pipeline = plan.pipeline.clone();
    let run = Run { plan, plan_version, components, config, metrics };
    run.run(shutdown).await.map_err(|e| e.in_pipeline(pipeline))
}

struct Run {
    plan: Arc<Plan>,
    plan_version: u64,
    components: Components,
    config: Config,
    metrics: Arc<Metrics>,
}

impl Run {
    async fn run(self, shutdown: Shutdown) -> Result<Summary> {
        let started_us = self.components.clock.monotonic_us();
        if self.plan.format != FORMAT {
            let message = format!("the plan has form {}, this engine knows {FORMAT}", self.plan.format);
            return Err(Error::bad_input("plan-format", message).help("compile the manifest again"));
        }
        let start = start(&self.plan, self.plan_version, &self.components).await?;
        self.metrics.epoch().started(start.committed.as_ref().map_or(0, |c| c.epoch.0), started_us);
        let mut publisher = self.publisher(&start).await?;
        if let Some(manifest) = &start.manifest {
            publisher.publish(manifest).await?;
        }
        let refresh = CancellationToken::new();
        let _stop_refresh = refresh.clone().drop_guard();
        let compute = Compute::start(self.config.worker_threads)?;
        let stop = shutdown.stop.clone();
        let prepared = stop.run_until_cancelled(self.prepare(start, publisher, &compute, refresh)).await;
        let Some(prepared) = prepared else {
            return Ok(self.summary(started_us, None));
        };
        let mut driver = prepared?;
        let end = stop.run_until_cancelled(driver.drive(shutdown.drain)).await;
        driver.tasks.stop().await;
        let summary =
            |finished, drained| Summary { finished, drained, ..self.summary(started_us, Some(&driver)) };
        match end {
            None => Ok(summary(false, false)),
            Some(Ok(End::Finished)) => Ok(summary(true, false)),
            Some(Ok(End::Drained)) => {
                driver.set_phase(Phase::Paused, "drained").await;
                Ok(summary(false, true))
            }
            Some(Ok(End::Paused(error))) => {
                driver.set_phase(Phase::Paused, &error.to_string()).await;
                Err(error)
            }
            Some(Err(error)) => {
                if error.kind() != Kind::Fenced {
                    driver.set_phase(Phase::Failed, &error.to_string()).await;
                }
                Err(error)
            }
        }
    }

    async fn publisher(&self, start: &Start) -> Result<Publisher> {
        let mut publisher = Publisher::open(&self.plan, &self.components, start).await?;
        publisher.check_ledgers(start.newest_published).await?;
        Ok(publisher)
    }

    /// Loads, opens and builds everything, and starts the tasks.
    async fn prepare(
        &self,
        start: Start,
        publisher: Publisher,
        compute: &Compute,
        refresh: CancellationToken,
    ) -> Result<Driver> {
        let restored =
            Restored::load(start.manifest.as_ref(), &self.plan, self.plan_version, &self.components).await?;
        let lookups = LookupTables::load(&self.plan, &self.components.registry).await?;
        let (events, from_tasks) = mpsc::unbounded_channel();
        let committed = start.committed.as_ref().map_or(Epoch(0), |c| c.epoch);
        let first = Progress { committed, published: committed, ..Progress::default() };
        let (progress, watched) = watch::channel(first);
        let shared = Arc::new(Shared {
            plan: self.plan.clone(),
            incarnation: start.incarnation,
            config: self.config.clone(),
            clock: self.components.clock.clone(),
            state: self.components.state.clone(),
            control: Handle::current(),
            events,
            progress: watched,
            ratio: Ratio::new(self.plan.dlq.max_ratio),
            uncommitted: AtomicU64::new(0),
            changed: AtomicBool::new(true),
            event_times: event_times(&self.plan),
        });
        let builder = Builder {
            shared: shared.clone(),
            components: &self.components,
            plan_version: self.plan_version,
            metrics: &self.metrics,
            lookups: &lookups,
            restored: &restored,
        };
        let tasks = builder.tasks().await?;
        let coordinator = Coordinator::new(tasks.iter().map(|(id, _)| *id));
        let reading = tasks.iter().filter(|(_, t)| matches!(t, Task::Source(_))).map(|(id, _)| *id).collect();
        let tasks = Tasks::spawn(tasks, &self.plan, compute.handle());
        self.keep_fresh(&lookups, &refresh);
        Ok(Driver {
            shared,
            plan_version: self.plan_version,
            log: self.components.log.clone(),
            manifests: self.components.manifests.clone(),
            metrics: self.metrics.clone(),
            coordinator,
            progress,
            events: from_tasks,
            tasks,
            publisher: Some(publisher),
            publishing: None,
            committed: start.committed,
            carried: self.plan.nodes.iter().map(|n| (n.name.clone(), restored.positions(&n.name))).collect(),
            totals: restored.totals,
            counters: BTreeMap::new(),
            watermark: restored.watermark,
            state: State::new(reading),
        })
    }

    fn keep_fresh(&self, lookups: &LookupTables, stop: &CancellationToken) {
        for (name, lookup) in &self.plan.lookups {
            if let Some(every_ms) = lookup.refresh_ms {
                let every = Duration::from_millis(every_ms.max(1));
                let registry = self.components.registry.clone();
                let tables = lookups.clone();
                tokio::spawn(tables.keep_fresh(name.clone(), lookup.clone(), every, registry, stop.clone()));
            }
        }
    }

    /// What a run has committed that neither finished nor was drained.
    fn summary(&self, started_us: u64, driver: Option<&Driver>) -> Summary {
        let now_us = self.components.clock.monotonic_us();
        self.metrics.set_now(now_us);
        let of = |all: Option<&BTreeMap<String, RowCounters>>, name: &str| {
            all.and_then(|all| all.get(name)).copied().unwrap_or_default()
        };
        let nodes = self.plan.nodes.iter().map(|node| NodeSummary {
            name: node.name.clone(),
            kind: self.metrics.node(node.id).kind(),
            counters: of(driver.map(|d| &d.counters), &node.name),
            totals: of(driver.map(|d| &d.totals), &node.name),
        });
        Summary {
            finished: false,
            drained: false,
            epochs: driver.map_or(0, |d| d.state.epochs),
            nodes: nodes.collect(),
            dead_letters_by_code: driver.map(|d| d.state.dead_letters.clone()).unwrap_or_default(),
            elapsed: Duration::from_micros(now_us.saturating_sub(started_us)),
        }
    }
}

fn event_times(plan: &Plan) -> BTreeMap<String, String> {
    plan.nodes
        .iter()
        .filter_map(|n| match &n.input {
            NodeInput::Source(source) => {
                source.event_time.as_ref().map(|e| (source.name.clone(), e.column.clone()))
            }
            NodeInput::Edges => None,
        })
        .collect()
}
