//! Drives one incarnation: fences or takes over, tells members how far things are, notes how it ends.

use std::sync::Arc;

use conveyor_epoch::{Driver, End, EpochMetrics, Start};
use conveyor_model::log::Phase;
use conveyor_model::manifest::ManifestRef;
use conveyor_model::plan::Plan;
use conveyor_model::{Error, Incarnation, PipelineId, Result};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::assignment::Assignment;
use crate::crew::{Crew, SharedCrew};
use crate::sidecars::Outboxes;

/// Tells runs of one pipeline apart.
pub(crate) type RunId = u64;

/// What the control loop hears of the tasks that work for it.
pub(crate) enum Event {
    /// The log has given the incarnation: members can be told.
    Began { pipeline: PipelineId, run: RunId, crew: SharedCrew },
    /// A plan has come from the store.
    Loaded { pipeline: PipelineId, reference: ManifestRef, plan: Result<Arc<Plan>> },
    /// The log has answered to a phase.
    Noted { pipeline: PipelineId },
    /// It is over.
    Ended { pipeline: PipelineId, run: RunId, end: Ended },
}

/// How a run ended.
pub(crate) struct Ended {
    /// `None` if it was left on purpose.
    pub(crate) result: Option<Result<()>>,
    /// It has committed at least one epoch.
    pub(crate) progressed: bool,
}

/// Where a run begins.
pub(crate) enum How {
    /// A new incarnation of this assignment.
    Start,
    /// The incarnation that the log names; `true` if all members have said that they run.
    Adopt { running: bool },
}

/// All that a run needs.
pub(crate) struct Job {
    pub(crate) run: RunId,
    pub(crate) how: How,
    pub(crate) plan: Arc<Plan>,
    pub(crate) reference: ManifestRef,
    pub(crate) assignment: Assignment,
    pub(crate) components: conveyor_epoch::Components,
    pub(crate) settings: conveyor_epoch::Settings,
    pub(crate) metrics: Arc<EpochMetrics>,
    pub(crate) boxes: Outboxes,
    pub(crate) events: mpsc::Sender<Event>,
    pub(crate) drain: CancellationToken,
    pub(crate) stop: CancellationToken,
}

impl Job {
    /// Runs until the end, or until it is stopped.
    pub(crate) async fn run(self) {
        let pipeline = self.plan.pipeline.clone();
        let mut progressed = false;
        let result = self.stop.run_until_cancelled(self.drive(&mut progressed)).await;
        let ended = Event::Ended { pipeline, run: self.run, end: Ended { result, progressed } };
        // Without a receiver the term is over, and nobody cares any more.
        self.events.send(ended).await.ok();
    }

    async fn drive(&self, progressed: &mut bool) -> Result<()> {
        let version = self.assignment.version;
        let (start, running) = match self.how {
            How::Start => {
                let text = self.assignment.to_text();
                (Start::fence(&self.plan, version, &self.components, &text).await?, false)
            }
            How::Adopt { running } => (Start::adopt(&self.plan, version, &self.components).await?, running),
        };
        let incarnation = start.incarnation;
        let roll = Crew::roll(&self.assignment, &self.plan, running);
        let (mut driver, handle) = Driver::new(
            self.plan.clone(),
            version,
            start.clone(),
            &roll,
            self.components.clone(),
            self.settings.clone(),
            self.metrics.clone(),
        );
        let (mut progress, last) = (handle.progress.clone(), handle.progress.clone());
        let crew =
            Arc::new(Crew::new(&self.plan, self.reference.clone(), self.assignment.clone(), &start, handle));
        let began = Event::Began { pipeline: self.plan.pipeline.clone(), run: self.run, crew: crew.clone() };
        self.events.send(began).await.map_err(|_| Error::runtime("term-over", "the term is over"))?;
        let first = progress.borrow().committed;
        let tell = async {
            while progress.changed().await.is_ok() {
                let newest = progress.borrow_and_update().clone();
                crew.update_all(&newest, &self.boxes);
            }
            // The driver's end of the channel lives as long as the driver.
            std::future::pending::<()>().await;
        };
        // Stopping drops this future wherever it is; what it has committed by then is noted as it happens.
        let seen = async {
            last.clone().wait_for(|p| p.committed > first).await.is_ok().then(|| *progressed = true);
            std::future::pending::<()>().await;
        };
        let end = tokio::select! {
            end = driver.drive(self.drain.clone()) => end,
            () = tell => return Ok(()),
            () = seen => return Ok(()),
        };
        self.note(&driver, incarnation, end?).await;
        Ok(())
    }

    /// The words with which it was asked to drain.
    async fn asked(&self) -> String {
        let state = self.components.log.read(&self.plan.pipeline).await;
        let reason = state.ok().flatten().filter(|s| s.phase == Phase::Draining).map(|s| s.reason);
        reason.filter(|r| !r.is_empty()).unwrap_or_else(|| "drained".to_owned())
    }

    /// Notes the end in the log. If that fails the state still says that the pipeline is to run, and it is tried again.
    async fn note(&self, driver: &Driver, incarnation: Incarnation, end: End) {
        let pipeline = &self.plan.pipeline;
        let (phase, reason) = match end {
            End::Finished => (Phase::Finished, "all rows are committed and published".to_owned()),
            End::Drained => (Phase::Paused, self.asked().await),
            End::Paused(error) => (Phase::Paused, error.to_string()),
        };
        tracing::info!(%pipeline, %incarnation, ?phase, reason, "the pipeline has ended");
        driver.set_phase(phase, &reason).await;
    }
}
