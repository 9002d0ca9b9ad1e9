//! The control loop of a run: executes what the epoch coordinator decides, and watches over the tasks.

mod conserve;
mod tasks;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use conveyor_model::epoch::{Action, Coordinator, Event};
use conveyor_model::log::{Command, Committed, Log, Outcome, Phase, Refusal};
use conveyor_model::manifest::{FORMAT, Manifest, ManifestRef, Manifests, NamedAck, TaskAck};
use conveyor_model::plan::{NodeInput, NodeOutput, Retry};
use conveyor_model::{Epoch, Error, Kind, Positions, Result, RowCounters, TaskId, Watermark};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::failpoints::{self, pass};
use crate::metrics::Metrics;
use crate::publish::Publisher;
use crate::restore;
use crate::task::shares::add_codes;
use crate::task::{Backoff, Progress, Shared, TaskEvent};
pub(crate) use tasks::Tasks;

/// How often ages in the metrics are brought up to date.
const METRICS_EVERY: Duration = Duration::from_millis(100);

/// How long sources may take to acknowledge the last epoch upstream.
const ACKNOWLEDGE_WITHIN: Duration = Duration::from_secs(5);

/// How a run ended, short of an error.
#[derive(Debug)]
pub(crate) enum End {
    /// All sources have ended and everything is committed and published.
    Finished,
    /// The sources were told to stop; everything that they had read is committed and published.
    Drained,
    /// As `Drained`, because too many rows fail.
    Paused(Error),
}

/// The control loop's state.
pub(crate) struct Driver {
    pub(crate) shared: Arc<Shared>,
    pub(crate) plan_version: u64,
    pub(crate) log: Arc<dyn Log>,
    pub(crate) manifests: Arc<dyn Manifests>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) coordinator: Coordinator,
    pub(crate) progress: watch::Sender<Progress>,
    pub(crate) events: mpsc::UnboundedReceiver<TaskEvent>,
    pub(crate) tasks: Tasks,
    pub(crate) publisher: Option<Publisher>,
    pub(crate) publishing: Option<JoinHandle<(Publisher, Manifest, Result<()>)>>,
    pub(crate) committed: Option<Committed>,
    /// Rows since the first epoch, by node.
    pub(crate) totals: BTreeMap<String, RowCounters>,
    /// Rows committed by this run, by node.
    pub(crate) counters: BTreeMap<String, RowCounters>,
    pub(crate) watermark: Option<Watermark>,
    /// Restored positions by source node, for splits that no task reports any more.
    pub(crate) carried: BTreeMap<String, Positions>,
    pub(crate) state: State,
}

/// What changes from event to event.
#[derive(Default)]
pub(crate) struct State {
    /// Source tasks that have not ended.
    reading: BTreeSet<TaskId>,
    /// All source tasks.
    sources: BTreeSet<TaskId>,
    /// A source was stopped before its end.
    cut_short: bool,
    /// Rows sent by edge, from the acks of the epoch under way.
    sent: BTreeMap<TaskId, Vec<(usize, u64)>>,
    /// Dead letters by code, from the same acks.
    codes: BTreeMap<TaskId, BTreeMap<String, u64>>,
    begun_us: u64,
    deadline: Option<Instant>,
    paused: Option<Error>,
    /// The last epoch is committed.
    done: bool,
    pub(crate) epochs: u64,
    /// Dead letters committed by this run, by code.
    pub(crate) dead_letters: BTreeMap<String, u64>,
}

impl State {
    /// At the start of a run with these source tasks.
    pub(crate) fn new(sources: BTreeSet<TaskId>) -> Self {
        Self { reading: sources.clone(), sources, ..Self::default() }
    }
}

impl Driver {
    /// Runs until everything has ended. Dropping the future is how a run is stopped at once.
    ///
    /// # Errors
    /// The first thing that stops the pipeline.
    pub(crate) async fn drive(&mut self, drain: CancellationToken) -> Result<End> {
        let every = Duration::from_millis(self.shared.plan.checkpoint_interval_ms.max(1));
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.tick().await;
        let mut metric_ticks = interval(METRICS_EVERY);
        while !self.state.done {
            let deadline = self.state.deadline.unwrap_or_else(|| Instant::now() + METRICS_EVERY);
            let draining = self.progress.borrow().drain;
            // Every branch is cancel-safe: queues and join sets keep what is not taken, tokens and timers stay as they are.
            tokio::select! {
                biased;
                error = self.tasks.failure() => return Err(error),
                event = self.events.recv() => if let Some(event) = event { self.on_task(event).await? },
                published = joined(&mut self.publishing) => self.published(published).await?,
                () = drain.cancelled(), if !draining => self.drain(),
                // An epoch without anything new would write a manifest and a log entry to say so.
                _ = ticks.tick() => if self.shared.changed.load(Relaxed) { self.feed(Event::Due).await? },
                () = sleep_until(deadline), if self.state.deadline.is_some() => self.timed_out().await?,
                _ = metric_ticks.tick() => self.metrics.set_now(self.shared.now_us()),
            }
        }
        self.await_publisher().await?;
        self.await_sources().await?;
        self.clean_up().await;
        Ok(match self.state.paused.take() {
            Some(error) => End::Paused(error),
            None if self.state.cut_short => End::Drained,
            None => End::Finished,
        })
    }

    async fn on_task(&mut self, event: TaskEvent) -> Result<()> {
        match event {
            TaskEvent::Ack { epoch, ack, sent, codes } => {
                if self.coordinator.collecting() == Some(epoch) {
                    self.state.sent.insert(ack.task, sent);
                    self.state.codes.insert(ack.task, codes);
                }
                self.feed(Event::Ack(epoch, ack)).await
            }
            TaskEvent::Refused { epoch, task, why } => self.feed(Event::Refused(epoch, task, why)).await,
            TaskEvent::SourceEnded { task, whole } => {
                self.state.cut_short |= !whole;
                self.state.reading.remove(&task);
                if self.state.reading.is_empty() { self.feed(Event::Due).await } else { Ok(()) }
            }
            TaskEvent::Ratio(error) => {
                if self.state.paused.is_none() {
                    tracing::error!(%error, "too many rows fail; stopping after one more epoch");
                    self.state.paused = Some(error);
                    self.drain();
                }
                Ok(())
            }
            // Of interest at the very end alone, where it is waited for.
            TaskEvent::Acknowledged { .. } => Ok(()),
            TaskEvent::Full if self.coordinator.is_idle() => self.feed(Event::Due).await,
            TaskEvent::Full => Ok(()),
            TaskEvent::Failed(error) => Err(error),
        }
    }

    fn drain(&mut self) {
        self.progress.send_modify(|p| p.drain = true);
    }

    async fn timed_out(&mut self) -> Result<()> {
        self.state.deadline = None;
        match self.coordinator.collecting() {
            Some(epoch) => self.feed(Event::TimedOut(epoch)).await,
            None => Ok(()),
        }
    }

    /// Gives the coordinator an event and does what it decides, and what it decides on that, until it is content.
    async fn feed(&mut self, event: Event) -> Result<()> {
        let mut todo: VecDeque<Action> = self.coordinator.on(event).into();
        while let Some(action) = todo.pop_front() {
            if self.state.done {
                return Ok(());
            }
            if let Some(next) = self.execute(action).await? {
                todo.extend(self.coordinator.on(next));
            }
        }
        Ok(())
    }

    async fn execute(&mut self, action: Action) -> Result<Option<Event>> {
        match action {
            Action::Begin => {
                // What changes from here on may miss the barrier, and calls for another epoch.
                self.shared.changed.store(false, Relaxed);
                self.begin().await.map(Some)
            }
            Action::Inject(epoch) => {
                self.state.sent.clear();
                self.state.codes.clear();
                self.state.begun_us = self.shared.now_us();
                self.state.deadline = Some(Instant::now() + self.shared.config.epoch_timeout);
                self.progress.send_modify(|p| p.inject = epoch);
                Ok(None)
            }
            Action::Commit(epoch, acks) => {
                self.state.deadline = None;
                self.commit(epoch, acks).await?;
                Ok(Some(Event::Committed(epoch)))
            }
            Action::Abort(epoch, why) => {
                self.state.deadline = None;
                self.shared.touch();
                self.abort(epoch, &why).await?;
                Ok(Some(Event::Aborted(epoch)))
            }
            // The commit itself has told the tasks and started the publisher.
            Action::Publish(_) => Ok(None),
            Action::Degrade(why) => {
                // The log itself goes back to `Running` with the next commit.
                self.set_phase(Phase::Degraded, &why).await;
                Ok(None)
            }
        }
    }

    async fn begin(&mut self) -> Result<Event> {
        pass(failpoints::BEGIN_BEFORE)?;
        let command = Command::BeginEpoch {
            pipeline: self.shared.plan.pipeline.clone(),
            incarnation: self.shared.incarnation,
        };
        let epoch = match self.propose(command).await? {
            // Pending already under our own token: an answer to an earlier try was lost.
            Outcome::Begun(epoch) | Outcome::Refused(Refusal::EpochPending(epoch)) => epoch,
            other => return Err(refused("a new epoch", &other)),
        };
        pass(failpoints::BEGIN_AFTER)?;
        Ok(Event::Begun(epoch))
    }

    async fn abort(&mut self, epoch: Epoch, why: &str) -> Result<()> {
        tracing::warn!(%epoch, %why, "epoch given up; its rows go into the next one");
        self.metrics.epoch().failed();
        let command = Command::AbortEpoch {
            pipeline: self.shared.plan.pipeline.clone(),
            incarnation: self.shared.incarnation,
            epoch,
        };
        match self.propose(command).await? {
            Outcome::Done | Outcome::Refused(Refusal::NotPending { .. }) => {}
            other => return Err(refused("giving up an epoch", &other)),
        }
        self.progress.send_modify(|p| p.aborted = epoch);
        Ok(())
    }

    async fn commit(&mut self, epoch: Epoch, acks: Vec<TaskAck>) -> Result<()> {
        pass(failpoints::ALL_ACKED)?;
        let plan = self.shared.plan.clone();
        conserve::check(&plan, &acks, &self.state.sent)?;
        let last = acks.iter().all(|a| a.finished);
        let manifest = self.manifest(epoch, acks, last && !self.state.cut_short);
        // At most one epoch is committed and not published, so a restart has to finish one at most.
        self.await_publisher().await?;
        let reference = self.write(&manifest).await?;
        let command = Command::CommitEpoch {
            pipeline: plan.pipeline.clone(),
            version: self.plan_version,
            incarnation: self.shared.incarnation,
            epoch,
            parent: self.committed.as_ref().map(|c| c.epoch),
            manifest: reference.clone(),
            watermark: manifest.watermark,
            last: manifest.finished,
        };
        match self.propose(command).await? {
            Outcome::Done => {}
            Outcome::Refused(Refusal::NotPending { .. }) if self.is_committed(epoch).await? => {}
            other => return Err(refused("a commit", &other)),
        }
        pass(failpoints::COMMIT_AFTER)?;
        self.committed_now(manifest, reference, last);
        Ok(())
    }

    fn committed_now(&mut self, manifest: Manifest, reference: ManifestRef, last: bool) {
        let epoch = manifest.epoch;
        let incarnation = self.shared.incarnation;
        self.committed = Some(Committed { epoch, incarnation, manifest: reference });
        self.totals.clone_from(&manifest.totals);
        for task in &manifest.tasks {
            self.counters.entry(task.node.clone()).or_default().add(&task.ack.counters);
        }
        self.state.codes.values().for_each(|codes| add_codes(&mut self.state.dead_letters, codes));
        self.watermark = manifest.watermark;
        self.state.epochs += 1;
        self.metrics.epoch().committed(epoch.0, self.state.begun_us, self.shared.now_us());
        self.progress.send_modify(|p| p.committed = epoch);
        if let Some(mut publisher) = self.publisher.take() {
            self.publishing = Some(tokio::spawn(async move {
                let done = publisher.publish(&manifest).await;
                (publisher, manifest, done)
            }));
        }
        self.state.done = last;
    }

    fn manifest(&self, epoch: Epoch, mut acks: Vec<TaskAck>, finished: bool) -> Manifest {
        let plan = &self.shared.plan;
        let mut totals = self.totals.clone();
        let mut carried = self.carried.clone();
        for ack in &mut acks {
            let node = plan.node(ack.task.node);
            totals.entry(node.name.clone()).or_default().add(&ack.counters);
            ack.finished &= !self.state.cut_short;
            if let Some(left) = carried.get_mut(&node.name) {
                left.retain(|split, _| !ack.positions.contains_key(split));
            }
        }
        let least = acks
            .iter()
            .filter(|a| matches!(plan.node(a.task.node).output, NodeOutput::Sink(_)) && !a.finished)
            .map(|a| a.watermark.unwrap_or(Watermark::MIN))
            .min();
        let tasks = acks.into_iter().map(|mut ack| {
            let node = plan.node(ack.task.node);
            if let (NodeInput::Source(_), 0) = (&node.input, ack.task.subtask) {
                ack.positions.extend(carried.remove(&node.name).unwrap_or_default());
            }
            NamedAck { node: node.name.clone(), ack }
        });
        Manifest {
            format: FORMAT,
            pipeline: plan.pipeline.clone(),
            plan_version: self.plan_version,
            incarnation: self.shared.incarnation,
            epoch,
            parent: self.committed.as_ref().map(|c| (c.epoch, c.manifest.clone())),
            tasks: tasks.collect(),
            watermark: least.filter(|&w| w > Watermark::MIN).max(self.watermark),
            finished,
            totals,
            written_us: self.shared.clock.wall_us(),
        }
    }

    /// Writes a manifest, as long as it takes: while the store is down nothing commits, and nothing is lost either.
    async fn write(&mut self, manifest: &Manifest) -> Result<ManifestRef> {
        pass(failpoints::MANIFEST_BEFORE)?;
        let mut backoff = Backoff::new(patient());
        loop {
            match self.manifests.write(manifest).await {
                Ok(reference) => {
                    pass(failpoints::MANIFEST_AFTER)?;
                    return Ok(reference);
                }
                Err(error) => self.pause(backoff.after(error)?).await?,
            }
        }
    }

    /// Proposes a command, as long as it takes. Callers cope with an answer that was lost.
    async fn propose(&mut self, command: Command) -> Result<Outcome> {
        let mut backoff = Backoff::new(patient());
        loop {
            match self.log.propose(command.clone()).await {
                Ok(outcome) => return Ok(outcome),
                Err(error) => self.pause(backoff.after(error)?).await?,
            }
        }
    }

    async fn pause(&mut self, delay: Duration) -> Result<()> {
        tokio::select! {
            biased;
            error = self.tasks.failure() => Err(error),
            () = tokio::time::sleep(delay) => Ok(()),
        }
    }

    async fn is_committed(&self, epoch: Epoch) -> Result<bool> {
        let state = restore::read(self.log.as_ref(), &self.shared.plan.pipeline).await?;
        Ok(state.committed.is_some_and(|c| c.epoch == epoch && c.incarnation == self.shared.incarnation))
    }

    /// Notes the phase; a log that does not answer is no reason to stop here.
    pub(crate) async fn set_phase(&self, phase: Phase, reason: &str) {
        let command = Command::SetPhase {
            pipeline: self.shared.plan.pipeline.clone(),
            incarnation: self.shared.incarnation,
            phase,
            reason: reason.to_owned(),
        };
        match self.log.propose(command).await {
            Ok(Outcome::Done) => {}
            Ok(other) => tracing::debug!(?phase, ?other, "the phase was not taken"),
            Err(error) => tracing::warn!(?phase, %error, "the phase could not be noted"),
        }
    }

    async fn await_publisher(&mut self) -> Result<()> {
        if self.publishing.is_none() {
            return Ok(());
        }
        let published = tokio::select! {
            biased;
            published = joined(&mut self.publishing) => published,
            error = self.tasks.failure() => return Err(error),
        };
        self.published(published).await
    }

    /// Waits until every source task has told upstream of the last epoch, within a time.
    async fn await_sources(&mut self) -> Result<()> {
        let last = self.committed.as_ref().map_or(Epoch(0), |c| c.epoch);
        let mut waiting = self.state.sources.clone();
        let deadline = Instant::now() + ACKNOWLEDGE_WITHIN;
        while !waiting.is_empty() {
            // Every branch is cancel-safe, as above.
            tokio::select! {
                biased;
                error = self.tasks.failure() => return Err(error),
                event = self.events.recv() => if let Some(TaskEvent::Acknowledged { task, epoch }) = event
                    && epoch == last
                {
                    waiting.remove(&task);
                },
                () = sleep_until(deadline) => {
                    tracing::warn!("a source did not acknowledge the last epoch in time; the next run will");
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    async fn published(&mut self, published: Published) -> Result<()> {
        self.publishing = None;
        let (publisher, manifest, done) = published.map_err(|e| {
            Error::runtime("publish-panicked", "publishing an epoch ended in a panic").because(e)
        })?;
        done?;
        self.publisher = Some(publisher);
        self.progress.send_modify(|p| p.published = manifest.epoch);
        if self.state.epochs.is_multiple_of(self.shared.config.keep_manifests.max(1) as u64) {
            self.clean_up().await;
        }
        Ok(())
    }

    async fn clean_up(&self) {
        let Some(committed) = &self.committed else { return };
        let keep = self.shared.config.keep_manifests.max(1);
        let done = self.manifests.clean_up(&self.shared.plan.pipeline, &committed.manifest, keep).await;
        if let Err(error) = done.and_then(|()| pass(failpoints::CLEANED_UP)) {
            tracing::warn!(%error, "old manifests could not be cleaned up; the next time will");
        }
    }
}

type Published = Result<(Publisher, Manifest, Result<()>), tokio::task::JoinError>;

/// Waits for the publisher, for ever if there is none at work. Cancel-safe.
async fn joined(publishing: &mut Option<JoinHandle<(Publisher, Manifest, Result<()>)>>) -> Published {
    match publishing {
        Some(handle) => handle.await,
        None => std::future::pending().await,
    }
}

fn patient() -> Retry {
    Retry { max_retries: u32::MAX, base_ms: 100, max_ms: 5_000 }
}

fn refused(what: &str, outcome: &Outcome) -> Error {
    match outcome {
        Outcome::Refused(why @ Refusal::Fenced { .. }) => Error::new(
            Kind::Fenced,
            "fenced",
            format!("the log refused {what}"),
        )
        .because(why.clone())
        .help(
            "another process runs this pipeline now; this one has stopped without committing anything more",
        ),
        Outcome::Refused(why) => {
            Error::new(Kind::Fenced, "log-refused", format!("the log refused {what}")).because(why.clone())
        }
        other => Error::runtime("log-answer", format!("the log answered {other:?} to {what}")),
    }
}
