//! A member: what one process runs of an incarnation. It recovers, waits for the others, runs its tasks, and publishes what
//! is committed where that is its part.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use conveyor_epoch::{Backoff, Start};
use conveyor_model::log::Committed;
use conveyor_model::plan::{FORMAT, NodeInput, Plan};
use conveyor_model::progress::{self, Progress, Report};
use conveyor_model::{Epoch, Error, Incarnation, Result, TaskId};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::build::Builder;
use crate::config::{Components, Config};
use crate::lookups::LookupTables;
use crate::metrics::Metrics;
use crate::publish::{Publisher, sinks};
use crate::ratio::Ratio;
use crate::restore::{Restored, steps_here};
use crate::task::Shared;
use crate::tasks::Tasks;

/// One process's part of an incarnation.
#[derive(Clone)]
pub struct Part {
    /// The plan.
    pub plan: Arc<Plan>,
    /// Its version.
    pub plan_version: u64,
    /// Fencing token.
    pub incarnation: Incarnation,
    /// Number of this member.
    pub member: progress::Member,
    /// The epoch that it starts from.
    pub committed: Option<Committed>,
    /// The newest epoch that a target can have applied.
    pub newest_published: Option<Epoch>,
    /// The newest epoch from before a reset.
    pub forgotten: Option<Epoch>,
    /// Tasks that run here.
    pub tasks: BTreeSet<TaskId>,
    /// Where all other tasks run: address of the process, `host:port`.
    pub peers: BTreeMap<TaskId, String>,
    /// Names of the sink nodes whose committed epochs this member publishes.
    pub publishes: BTreeSet<String>,
    /// Whether it publishes the pipeline's dead letters.
    pub publishes_dead_letters: bool,
}

impl Part {
    /// The part of a process that runs everything.
    pub fn whole(plan: &Arc<Plan>, plan_version: u64, start: &Start) -> Self {
        Self {
            plan: plan.clone(),
            plan_version,
            incarnation: start.incarnation,
            member: 0,
            committed: start.committed.clone(),
            newest_published: start.newest_published,
            forgotten: start.forgotten,
            tasks: conveyor_epoch::tasks(plan).map(|(id, _)| id).collect(),
            peers: BTreeMap::new(),
            publishes: sinks(plan).map(|(node, _)| node.name.clone()).collect(),
            publishes_dead_letters: true,
        }
    }
}

/// Where a member works, and how it is talked to.
pub struct Place {
    /// Where data tasks run.
    pub compute: tokio::runtime::Handle,
    /// The control loop's word: the newest value counts.
    pub progress: watch::Receiver<Progress>,
    /// The control loop's ear.
    pub reports: mpsc::UnboundedSender<Report>,
    /// Ends the member at once.
    pub stop: CancellationToken,
}

/// Works until it is told to stop. What goes wrong is reported as [`Report::Failed`]; after that the member does nothing
/// more. When this returns, its tasks have ended.
///
/// Called within a tokio runtime, which does the control work.
pub async fn work(part: Part, components: Components, config: Config, metrics: Arc<Metrics>, place: Place) {
    let reports = place.reports.clone();
    let pipeline = part.plan.pipeline.clone();
    let worker = Working { part, components, config, metrics, place };
    if let Err(error) = worker.work().await
        && reports.send(Report::Failed(error.in_pipeline(pipeline))).is_err()
    {
        tracing::debug!("a member failed after its control loop was gone");
    }
}

struct Working {
    part: Part,
    components: Components,
    config: Config,
    metrics: Arc<Metrics>,
    place: Place,
}

impl Working {
    async fn work(mut self) -> Result<()> {
        if self.part.plan.format != FORMAT {
            let message = format!("the plan has form {}, this engine knows {FORMAT}", self.part.plan.format);
            return Err(Error::bad_input("plan-format", message).help("compile the manifest again"));
        }
        let refresh = CancellationToken::new();
        let _stop_refresh = refresh.clone().drop_guard();
        let stop = self.place.stop.clone();
        let Some(prepared) = stop.run_until_cancelled(self.prepare(refresh)).await else { return Ok(()) };
        let mut running = prepared?;
        let ended = running.watch(&mut self.place.progress, &stop).await;
        running.tasks.stop().await;
        ended
    }

    /// Publishes what was committed before, waits for the others, then loads, opens and builds everything and starts the
    /// tasks.
    async fn prepare(&mut self, refresh: CancellationToken) -> Result<Running> {
        let member = self.part.member;
        let publisher = self.recover().await?;
        self.tell(Report::Recovered { member });
        let first = told(&mut self.place.progress, |p| p.start).await;
        let (part, components) = (&self.part, &self.components);
        let manifest = match &part.committed {
            Some(committed) => {
                Some(components.manifests.read(&part.plan.pipeline, &committed.manifest).await?)
            }
            None => None,
        };
        let restored = Restored::load(manifest.as_ref(), part, components).await?;
        let used: BTreeSet<&str> = steps_here(part).filter_map(|s| s.op.lookup_table()).collect();
        let mut wanted = part.plan.lookups.clone();
        wanted.retain(|name, _| used.contains(name.as_str()));
        let lookups = LookupTables::load(&wanted, &components.registry).await?;
        let (inner, watched) = watch::channel(first);
        let shared = Arc::new(self.shared(watched));
        let builder = Builder {
            shared: shared.clone(),
            components,
            part,
            metrics: &self.metrics,
            lookups: &lookups,
            restored: &restored,
        };
        let tasks = builder.tasks().await?;
        let tasks = Tasks::spawn(tasks, &part.plan, &self.place.compute);
        self.keep_fresh(&lookups, &refresh);
        let publishing = publisher.map(|p| self.follow_commits(p));
        self.tell(Report::Running { member });
        Ok(Running { shared, tasks, inner, publishing })
    }

    /// Opens what publishes, refuses targets that are ahead of us, and publishes the epoch that we start from.
    async fn recover(&self) -> Result<Option<Publisher>> {
        let part = &self.part;
        let mut publisher = Publisher::open(part, &self.components).await?;
        publisher.check_ledgers(part.newest_published).await?;
        if publisher.has_nothing_to_do() {
            return Ok(None);
        }
        if let Some(committed) = &part.committed {
            let manifest = self.components.manifests.read(&part.plan.pipeline, &committed.manifest).await?;
            publisher.publish(&manifest).await?;
            self.tell(Report::Published { member: part.member, epoch: committed.epoch });
        }
        Ok(Some(publisher))
    }

    /// Publishes epoch after epoch as they are committed.
    fn follow_commits(&self, mut publisher: Publisher) -> JoinHandle<Result<()>> {
        let Part { plan, member, committed, .. } = self.part.clone();
        let manifests = self.components.manifests.clone();
        let reports = self.place.reports.clone();
        let mut progress = self.place.progress.clone();
        let mut newest = committed.map_or(Epoch(0), |c| c.epoch);
        tokio::spawn(async move {
            loop {
                let next = told(&mut progress, |p| p.committed > newest).await;
                let Some(reference) = next.manifest else {
                    return Err(Error::runtime("manifest-unnamed", "a committed epoch names no manifest"));
                };
                let mut backoff = Backoff::patient();
                let manifest = loop {
                    match manifests.read(&plan.pipeline, &reference).await {
                        Ok(manifest) => break manifest,
                        Err(error) => tokio::time::sleep(backoff.after(error)?).await,
                    }
                };
                publisher.publish(&manifest).await?;
                newest = manifest.epoch;
                if reports.send(Report::Published { member, epoch: newest }).is_err() {
                    tracing::debug!("the control loop has ended before a publisher");
                }
            }
        })
    }

    fn shared(&self, progress: watch::Receiver<Progress>) -> Shared {
        let plan = &self.part.plan;
        let reads_here = |id: &TaskId| matches!(plan.node(id.node).input, NodeInput::Source(_));
        Shared {
            plan: plan.clone(),
            incarnation: self.part.incarnation,
            config: self.config.clone(),
            clock: self.components.clock.clone(),
            state: self.components.state.clone(),
            control: tokio::runtime::Handle::current(),
            reports: self.place.reports.clone(),
            progress,
            ratio: Ratio::new(plan.dlq.max_ratio),
            counts_at_stages: !self.part.tasks.iter().any(reads_here),
            uncommitted: AtomicU64::new(0),
            changed: AtomicBool::new(true),
            event_times: event_times(plan),
        }
    }

    fn keep_fresh(&self, lookups: &LookupTables, stop: &CancellationToken) {
        for (name, lookup) in &self.part.plan.lookups {
            if let Some(every_ms) = lookup.refresh_ms
                && lookups.has(name)
            {
                let every = Duration::from_millis(every_ms.max(1));
                let registry = self.components.registry.clone();
                let tables = lookups.clone();
                tokio::spawn(tables.keep_fresh(name.clone(), lookup.clone(), every, registry, stop.clone()));
            }
        }
    }

    fn tell(&self, report: Report) {
        if self.place.reports.send(report).is_err() {
            tracing::debug!("the control loop has ended before a member");
        }
    }
}

/// A member at work.
struct Running {
    shared: Arc<Shared>,
    tasks: Tasks,
    inner: watch::Sender<Progress>,
    publishing: Option<JoinHandle<Result<()>>>,
}

impl Running {
    /// Hands on the control loop's word, until something fails or the member is stopped.
    async fn watch(
        &mut self,
        progress: &mut watch::Receiver<Progress>,
        stop: &CancellationToken,
    ) -> Result<()> {
        let mut injected = Epoch(0);
        loop {
            // Every branch is cancel-safe: queues and join sets keep what is not taken, a watch keeps its newest value.
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                error = self.tasks.failure() => return Err(error),
                published = joined(&mut self.publishing) => return published,
                () = changed(progress) => {
                    let next = progress.borrow_and_update().clone();
                    if next.inject > injected {
                        injected = next.inject;
                        // What changes from here on may miss the barrier, and is told anew.
                        self.shared.changed.store(false, Relaxed);
                    }
                    self.inner.send_replace(next);
                }
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(publishing) = &self.publishing {
            publishing.abort();
        }
    }
}

/// Waits until the control loop says so; for ever once it is gone, since the member is about to be stopped then. Cancel-safe.
async fn told(progress: &mut watch::Receiver<Progress>, enough: impl FnMut(&Progress) -> bool) -> Progress {
    match progress.wait_for(enough).await.map(|p| p.clone()) {
        Ok(progress) => progress,
        Err(_) => std::future::pending().await,
    }
}

/// Waits for news, for ever if there will be none. Cancel-safe.
async fn changed(progress: &mut watch::Receiver<Progress>) {
    if progress.changed().await.is_err() {
        std::future::pending().await
    }
}

/// Waits for the publisher's failure, for ever if there is none at work. Cancel-safe.
async fn joined(publishing: &mut Option<JoinHandle<Result<()>>>) -> Result<()> {
    match publishing {
        Some(handle) => handle.await.unwrap_or_else(|e| {
            Err(Error::runtime("publish-panicked", "publishing an epoch ended in a panic").because(e))
        }),
        None => std::future::pending().await,
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
