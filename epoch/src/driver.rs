//! The control loop of an incarnation: executes what the epoch coordinator decides.

mod commit;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use conveyor_model::epoch::{Action, Coordinator, Event};
use conveyor_model::log::{Command, Committed, Outcome, Phase, Refusal};
use conveyor_model::plan::Plan;
use conveyor_model::progress::{Progress, Report};
use conveyor_model::{Epoch, Error, Incarnation, Kind, Positions, Result, RowCounters, TaskId, Watermark};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::backoff::Backoff;
use crate::crew::{Crew, Roll, tasks};
use crate::failpoints::{self, pass};
use crate::metrics::EpochMetrics;
use crate::start::{self, Start};
use crate::{Components, GONE, Settings};

/// How long a member that lost its neighbour waits to be told why.
const ECHO_WITHIN: Duration = Duration::from_secs(1);

/// How an incarnation ended, short of an error.
#[derive(Debug)]
pub enum End {
    /// All sources have ended and everything is committed and published.
    Finished,
    /// The sources were told to stop; everything that they had read is committed and published.
    Drained,
    /// As `Drained`, because too many rows fail.
    Paused(Error),
}

/// The members' end of a control loop.
#[derive(Clone)]
pub struct Handle {
    /// What the members have to know: the newest value counts.
    pub progress: watch::Receiver<Progress>,
    /// What the members say. A report that holds still may be repeated.
    pub reports: mpsc::UnboundedSender<Report>,
}

/// The control loop's state.
pub struct Driver {
    plan: Arc<Plan>,
    plan_version: u64,
    incarnation: Incarnation,
    components: Components,
    settings: Settings,
    metrics: Arc<EpochMetrics>,
    coordinator: Coordinator,
    roll: Roll,
    progress: watch::Sender<Progress>,
    reports: mpsc::UnboundedReceiver<Report>,
    /// Reports that came while one of another kind was waited for.
    backlog: VecDeque<Report>,
    committed: Option<Committed>,
    /// Begun by an earlier control loop of this incarnation.
    pending: Option<Epoch>,
    /// Rows since the first epoch, by node.
    totals: BTreeMap<String, RowCounters>,
    /// Rows committed by this control loop, by node.
    counters: BTreeMap<String, RowCounters>,
    watermark: Option<Watermark>,
    /// Committed positions by source node, for splits that no task reports any more.
    carried: BTreeMap<String, Positions>,
    state: State,
}

/// What changes from report to report.
#[derive(Default)]
struct State {
    /// Source tasks that have not ended.
    reading: BTreeSet<TaskId>,
    /// All source tasks.
    sources: BTreeSet<TaskId>,
    /// Source tasks that have told upstream of an epoch.
    acknowledged: BTreeMap<TaskId, Epoch>,
    /// A source was stopped before its end.
    cut_short: bool,
    /// Something has happened that the next epoch would commit.
    changed: bool,
    /// Rows sent by edge, from the acks of the epoch under way.
    sent: BTreeMap<TaskId, Vec<(usize, u64)>>,
    /// Dead letters by code, from the same acks.
    codes: BTreeMap<TaskId, BTreeMap<String, u64>>,
    begun_us: u64,
    deadline: Option<Instant>,
    paused: Option<Error>,
    /// The last epoch is committed.
    done: bool,
    epochs: u64,
    /// Epochs published since old manifests were cleaned up.
    unclean: usize,
    dead_letters: BTreeMap<String, u64>,
}

impl Driver {
    /// A control loop and the members' end of it.
    pub fn new(
        plan: Arc<Plan>,
        plan_version: u64,
        start: Start,
        crew: &Crew,
        components: Components,
        settings: Settings,
        metrics: Arc<EpochMetrics>,
    ) -> (Self, Handle) {
        let (sender, reports) = mpsc::unbounded_channel();
        let committed = start.committed.as_ref().map_or(Epoch(0), |c| c.epoch);
        let published = if crew.running { Epoch(0) } else { committed };
        let (progress, watched) = watch::channel(Progress {
            start: crew.running,
            committed,
            published,
            manifest: start.committed.as_ref().map(|c| Arc::new(c.manifest.clone())),
            ..Progress::default()
        });
        metrics.started(committed.0, components.clock.monotonic_us());
        let sources: BTreeSet<TaskId> = tasks(&plan).filter(|(_, reads)| *reads).map(|(id, _)| id).collect();
        let state = State { reading: sources.clone(), sources, changed: true, ..State::default() };
        let driver = Self {
            coordinator: Coordinator::new(tasks(&plan).map(|(id, _)| id)),
            roll: Roll::new(crew),
            carried: start.positions(&plan, plan_version),
            totals: start.manifest.as_ref().map(|m| m.totals.clone()).unwrap_or_default(),
            watermark: start.manifest.as_ref().and_then(|m| m.watermark),
            incarnation: start.incarnation,
            committed: start.committed,
            pending: start.pending,
            counters: BTreeMap::new(),
            backlog: VecDeque::new(),
            plan,
            plan_version,
            components,
            settings,
            metrics,
            progress,
            reports,
            state,
        };
        (driver, Handle { progress: watched, reports: sender })
    }

    /// Rows committed by this control loop, by node.
    pub fn counters(&self) -> &BTreeMap<String, RowCounters> {
        &self.counters
    }

    /// Rows committed since the pipeline's first epoch, by node.
    pub fn totals(&self) -> &BTreeMap<String, RowCounters> {
        &self.totals
    }

    /// Dead letters committed by this control loop, by code.
    pub fn dead_letters(&self) -> &BTreeMap<String, u64> {
        &self.state.dead_letters
    }

    /// Epochs committed by this control loop.
    pub fn epochs(&self) -> u64 {
        self.state.epochs
    }

    /// Waits until all members have recovered and run, then drives epochs until everything has ended. Dropping the future is
    /// how an incarnation is left at once.
    ///
    /// # Errors
    /// The first thing that stops the pipeline.
    pub async fn drive(&mut self, drain: CancellationToken) -> Result<End> {
        self.assemble(&drain).await?;
        if let Some(pending) = self.pending.take() {
            self.abort(pending, "its control loop is gone").await?;
        }
        let mut ticks = interval(self.interval());
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.tick().await;
        while !self.state.done {
            if let Some(report) = self.backlog.pop_front() {
                self.on_report(report).await?;
                continue;
            }
            let deadline = self.state.deadline;
            let draining = self.progress.borrow().drain;
            // Every branch is cancel-safe: the queue keeps what is not taken, tokens and timers stay as they are.
            tokio::select! {
                biased;
                report = self.reports.recv() => self.on_report(there(report)).await?,
                () = drain.cancelled(), if !draining => self.drain(),
                // An epoch without anything new would write a manifest and a log entry to say so.
                _ = ticks.tick(), if self.state.changed && self.coordinator.is_idle() => {
                    self.feed(Event::Due).await?;
                }
                () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                    self.timed_out().await?;
                }
            }
        }
        self.await_published().await?;
        self.await_sources().await?;
        self.clean_up().await;
        Ok(match self.state.paused.take() {
            Some(error) => End::Paused(error),
            None if self.state.cut_short => End::Drained,
            None => End::Finished,
        })
    }

    /// Waits for the members: nobody starts before everybody has recovered, and no epoch begins before everybody runs.
    async fn assemble(&mut self, drain: &CancellationToken) -> Result<()> {
        while !self.roll.are_running() {
            if self.roll.have_recovered() && !self.progress.borrow().start {
                self.progress.send_modify(|p| p.start = true);
            }
            let draining = self.progress.borrow().drain;
            // Both are cancel-safe, as above.
            let report = tokio::select! {
                biased;
                report = self.reports.recv() => there(report),
                () = drain.cancelled(), if !draining => {
                    self.drain();
                    continue;
                }
            };
            match report {
                Report::Recovered { member } => self.roll.recover(member),
                Report::Running { member } => self.roll.run(member),
                other => self.note(other).await?,
            }
        }
        Ok(())
    }

    /// Takes a report while something is waited for: what changes no epoch at once, the rest when its time comes.
    async fn note(&mut self, report: Report) -> Result<()> {
        match report {
            Report::Published { member, epoch } => self.published(member, epoch).await,
            Report::Acknowledged { task, epoch } => {
                self.state.acknowledged.insert(task, epoch);
            }
            Report::Failed(error) => return Err(self.cause(error).await),
            other => self.backlog.push_back(other),
        }
        Ok(())
    }

    async fn on_report(&mut self, report: Report) -> Result<()> {
        match report {
            Report::Ack { epoch, ack, sent, codes } => {
                if self.coordinator.collecting() == Some(epoch) {
                    self.state.sent.insert(ack.task, sent);
                    self.state.codes.insert(ack.task, codes);
                }
                self.feed(Event::Ack(epoch, ack)).await
            }
            Report::Refused { epoch, task, why } => self.feed(Event::Refused(epoch, task, why)).await,
            Report::SourceEnded { task, whole } => {
                self.state.cut_short |= !whole;
                let ended = self.state.reading.remove(&task) && self.state.reading.is_empty();
                if ended { self.feed(Event::Due).await } else { Ok(()) }
            }
            Report::Ratio(error) => {
                if self.state.paused.is_none() {
                    tracing::error!(%error, "too many rows fail; stopping after one more epoch");
                    self.state.paused = Some(error);
                    self.drain();
                }
                Ok(())
            }
            Report::Changed => {
                self.state.changed = true;
                Ok(())
            }
            Report::Full if self.coordinator.is_idle() => self.feed(Event::Due).await,
            Report::Full | Report::Recovered { .. } | Report::Running { .. } => Ok(()),
            other @ (Report::Acknowledged { .. } | Report::Published { .. } | Report::Failed(_)) => {
                self.note(other).await
            }
        }
    }

    /// A member that lost its neighbour is only the echo of what happened there, which another member may still tell.
    async fn cause(&mut self, first: Error) -> Error {
        if first.code() != GONE {
            return first;
        }
        let told = async {
            loop {
                if let Report::Failed(error) = there(self.reports.recv().await)
                    && error.code() != GONE
                {
                    return error;
                }
            }
        };
        tokio::time::timeout(ECHO_WITHIN, told).await.unwrap_or(first)
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
                self.state.changed = false;
                self.begin().await.map(Some)
            }
            Action::Inject(epoch) => {
                self.state.sent.clear();
                self.state.codes.clear();
                self.state.begun_us = self.components.clock.monotonic_us();
                self.state.deadline = Some(Instant::now() + self.settings.timeout(self.interval()));
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
                self.abort(epoch, &why).await?;
                Ok(Some(Event::Aborted(epoch)))
            }
            // The commit itself has told the members.
            Action::Publish(_) => Ok(None),
            Action::Degrade(why) => {
                // The log itself goes back to `Running` with the next commit.
                self.set_phase(Phase::Degraded, &why).await;
                Ok(None)
            }
        }
    }

    /// Time between two epochs.
    fn interval(&self) -> Duration {
        Duration::from_millis(self.plan.checkpoint_interval_ms.max(1))
    }

    async fn begin(&mut self) -> Result<Event> {
        pass(failpoints::BEGIN_BEFORE)?;
        let command =
            Command::BeginEpoch { pipeline: self.plan.pipeline.clone(), incarnation: self.incarnation };
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
        self.metrics.failed();
        self.state.changed = true;
        let command = Command::AbortEpoch {
            pipeline: self.plan.pipeline.clone(),
            incarnation: self.incarnation,
            epoch,
            at_us: self.components.clock.wall_us(),
        };
        match self.propose(command).await? {
            Outcome::Done | Outcome::Refused(Refusal::NotPending { .. }) => {}
            other => return Err(refused("giving up an epoch", &other)),
        }
        self.progress.send_modify(|p| p.aborted = epoch);
        Ok(())
    }

    /// Proposes a command, as long as it takes. Callers cope with an answer that was lost.
    async fn propose(&mut self, command: Command) -> Result<Outcome> {
        let mut backoff = Backoff::patient();
        loop {
            match self.components.log.propose(command.clone()).await {
                Ok(outcome) => return Ok(outcome),
                Err(error) => self.pause(backoff.after(error)?).await?,
            }
        }
    }

    /// Waits, unless a member fails meanwhile.
    async fn pause(&mut self, delay: Duration) -> Result<()> {
        let end = Instant::now() + delay;
        loop {
            // Both are cancel-safe, as above.
            tokio::select! {
                biased;
                report = self.reports.recv() => self.note(there(report)).await?,
                () = sleep_until(end) => return Ok(()),
            }
        }
    }

    async fn is_committed(&self, epoch: Epoch) -> Result<bool> {
        let state = start::read(self.components.log.as_ref(), &self.plan.pipeline).await?;
        Ok(state.committed.is_some_and(|c| c.epoch == epoch && c.incarnation == self.incarnation))
    }

    /// Notes the phase; a log that does not answer is no reason to stop here.
    pub async fn set_phase(&self, phase: Phase, reason: &str) {
        let command = Command::SetPhase {
            pipeline: self.plan.pipeline.clone(),
            incarnation: self.incarnation,
            phase,
            reason: reason.to_owned(),
            expect_version: None,
            at_us: self.components.clock.wall_us(),
        };
        match self.components.log.propose(command).await {
            Ok(Outcome::Done) => {}
            Ok(other) => tracing::debug!(?phase, ?other, "the phase was not taken"),
            Err(error) => tracing::warn!(?phase, %error, "the phase could not be noted"),
        }
    }

    fn newest(&self) -> Epoch {
        self.committed.as_ref().map_or(Epoch(0), |c| c.epoch)
    }

    async fn clean_up(&self) {
        let Some(committed) = &self.committed else { return };
        let keep = self.settings.keep_manifests.max(1);
        let done = self.components.manifests.clean_up(&self.plan.pipeline, &committed.manifest, keep).await;
        if let Err(error) = done.and_then(|()| pass(failpoints::CLEANED_UP)) {
            tracing::warn!(%error, "old manifests could not be cleaned up; the next time will");
        }
    }
}

/// A report from the queue. When no member holds its end any more, all of them have gone without a word.
fn there(report: Option<Report>) -> Report {
    report.unwrap_or_else(|| {
        Report::Failed(Error::runtime("members-gone", "all members of the incarnation are gone"))
    })
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
