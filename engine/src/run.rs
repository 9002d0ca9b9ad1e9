//! Runs a plan from its committed epoch to its end, all in this process.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use conveyor_epoch::{Crew, Driver, End, Handle, Settings, Start, read};
use conveyor_model::log::{Log, Phase};
use conveyor_model::plan::Plan;
use conveyor_model::{Kind, Result, RowCounters};
use tokio::time::interval;
use tokio_util::sync::CancellationToken;

use crate::config::{Components, Config, NodeSummary, Shutdown, Summary};
use crate::member::{Part, Place, work};
use crate::metrics::Metrics;
use crate::runtime::Compute;

/// How often ages in the metrics are brought up to date.
const METRICS_EVERY: Duration = Duration::from_millis(100);

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
    log: Arc<dyn Log>,
    components: Components,
    config: Config,
    metrics: Arc<Metrics>,
    shutdown: Shutdown,
) -> Result<Summary> {
    let pipeline = plan.pipeline.clone();
    let run = Run { plan, plan_version, log, components, config, metrics };
    run.run(shutdown).await.map_err(|e| e.in_pipeline(pipeline))
}

struct Run {
    plan: Arc<Plan>,
    plan_version: u64,
    log: Arc<dyn Log>,
    components: Components,
    config: Config,
    metrics: Arc<Metrics>,
}

impl Run {
    async fn run(self, shutdown: Shutdown) -> Result<Summary> {
        let started_us = self.components.clock.monotonic_us();
        let control = conveyor_epoch::Components {
            log: self.log.clone(),
            manifests: self.components.manifests.clone(),
            clock: self.components.clock.clone(),
        };
        let settings =
            Settings { epoch_timeout: self.config.epoch_timeout, keep_manifests: self.config.keep_manifests };
        let paused = read(self.log.as_ref(), &self.plan.pipeline).await?.phase == Phase::Paused;
        let start = Start::fence(&self.plan, self.plan_version, &control, "local").await?;
        let part = Part::whole(&self.plan, self.plan_version, &start);
        let crew = Crew { members: 1, publishers: [part.member].into(), running: false };
        let (mut driver, handle) = Driver::new(
            self.plan.clone(),
            self.plan_version,
            start,
            &crew,
            control,
            settings,
            self.metrics.epoch().clone(),
        );
        if paused {
            // A start by itself does not end a pause.
            driver.set_phase(Phase::Running, "").await;
        }
        let compute = Compute::start(self.config.worker_threads)?;
        let stop = CancellationToken::new();
        let Handle { progress, reports } = handle;
        let place = Place { compute: compute.handle().clone(), progress, reports, stop: stop.clone() };
        let components = self.components.clone();
        let member = tokio::spawn(work(part, components, self.config.clone(), self.metrics.clone(), place));
        let watched = async {
            // Cancel-safe: the control loop is polled in place, and a tick does nothing but look at the clock.
            let mut ticks = interval(METRICS_EVERY);
            let driven = driver.drive(shutdown.drain);
            tokio::pin!(driven);
            loop {
                tokio::select! {
                    biased;
                    end = &mut driven => return end,
                    _ = ticks.tick() => self.metrics.set_now(self.components.clock.monotonic_us()),
                }
            }
        };
        let end = shutdown.stop.run_until_cancelled(watched).await;
        stop.cancel();
        if let Err(error) = member.await {
            tracing::error!(%error, "the tasks' keeper ended in a panic");
        }
        self.conclude(&driver, end, started_us).await
    }

    async fn conclude(&self, driver: &Driver, end: Option<Result<End>>, started_us: u64) -> Result<Summary> {
        let summary = |finished, drained| Summary { finished, drained, ..self.summary(started_us, driver) };
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

    /// What a run has committed that neither finished nor was drained.
    fn summary(&self, started_us: u64, driver: &Driver) -> Summary {
        let now_us = self.components.clock.monotonic_us();
        self.metrics.set_now(now_us);
        let of = |all: &BTreeMap<String, RowCounters>, name: &str| all.get(name).copied().unwrap_or_default();
        let nodes = self.plan.nodes.iter().map(|node| NodeSummary {
            name: node.name.clone(),
            kind: self.metrics.node(node.id).kind(),
            counters: of(driver.counters(), &node.name),
            totals: of(driver.totals(), &node.name),
        });
        Summary {
            finished: false,
            drained: false,
            epochs: driver.epochs(),
            nodes: nodes.collect(),
            dead_letters_by_code: driver.dead_letters().clone(),
            elapsed: Duration::from_micros(now_us.saturating_sub(started_us)),
        }
    }
}
