//! The commit of an epoch: conservation, manifest, log entry; and what follows it.

use std::sync::Arc;
use std::time::Duration;

use conveyor_model::log::{Command, Committed, Outcome, Refusal};
use conveyor_model::manifest::{FORMAT, Manifest, ManifestRef, NamedAck, TaskAck};
use conveyor_model::plan::{NodeInput, NodeOutput};
use conveyor_model::progress::Member;
use conveyor_model::{Epoch, Result, TaskId, Watermark, planted};
use tokio::time::{Instant, sleep_until};

use super::{Driver, refused, there};
use crate::backoff::Backoff;
use crate::conserve;
use crate::failpoints::{self, pass};

/// How long sources may take to acknowledge the last epoch upstream.
const ACKNOWLEDGE_WITHIN: Duration = Duration::from_secs(5);

impl Driver {
    pub(super) async fn commit(&mut self, epoch: Epoch, acks: Vec<TaskAck>) -> Result<()> {
        pass(failpoints::ALL_ACKED)?;
        let plan = self.plan.clone();
        conserve::check(&plan, &acks, &self.state.sent)?;
        let last = acks.iter().all(|a| a.finished);
        let manifest = self.manifest(epoch, acks, last && !self.state.cut_short);
        // At most one epoch is committed and not published, so a restart has to finish one at most.
        self.await_published().await?;
        let reference = self.write(&manifest).await?;
        if planted("publish-before-commit") {
            let early = Arc::new(reference.clone());
            self.progress.send_modify(|p| (p.committed, p.manifest) = (epoch, Some(early)));
            while self.roll.published(epoch) < epoch {
                let report = there(self.reports.recv().await);
                self.note(report).await?;
            }
        }
        let command = Command::CommitEpoch {
            pipeline: plan.pipeline.clone(),
            version: self.plan_version,
            incarnation: self.incarnation,
            epoch,
            parent: self.committed.as_ref().map(|c| c.epoch),
            manifest: reference.clone(),
            watermark: manifest.watermark,
            last: manifest.finished,
            at_us: manifest.written_us,
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
        for task in &manifest.tasks {
            self.counters.entry(task.node.clone()).or_default().add(&task.ack.counters);
        }
        self.totals = manifest.totals;
        for (code, n) in self.state.codes.values().flatten() {
            *self.state.dead_letters.entry(code.clone()).or_default() += n;
        }
        self.watermark = manifest.watermark;
        self.committed =
            Some(Committed { epoch, incarnation: self.incarnation, manifest: reference.clone() });
        self.state.epochs += 1;
        let now_us = self.components.clock.monotonic_us();
        self.metrics.committed(epoch.0, self.state.begun_us, now_us);
        self.state.done = last;
        let published = self.roll.published(epoch);
        self.progress.send_modify(|p| {
            p.committed = epoch;
            p.manifest = Some(Arc::new(reference));
            p.published = p.published.max(published);
        });
    }

    fn manifest(&self, epoch: Epoch, mut acks: Vec<TaskAck>, finished: bool) -> Manifest {
        let plan = &self.plan;
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
            incarnation: self.incarnation,
            epoch,
            parent: self.committed.as_ref().map(|c| (c.epoch, c.manifest.clone())),
            tasks: tasks.collect(),
            watermark: least.filter(|&w| w > Watermark::MIN).max(self.watermark),
            finished,
            totals,
            written_us: self.components.clock.wall_us(),
        }
    }

    /// Writes a manifest, as long as it takes: while the store is down nothing commits, and nothing is lost either.
    async fn write(&mut self, manifest: &Manifest) -> Result<ManifestRef> {
        pass(failpoints::MANIFEST_BEFORE)?;
        let mut backoff = Backoff::patient();
        loop {
            match self.components.manifests.write(manifest).await {
                Ok(reference) => {
                    pass(failpoints::MANIFEST_AFTER)?;
                    return Ok(reference);
                }
                Err(error) => self.pause(backoff.after(error)?).await?,
            }
        }
    }

    /// Waits until the committed epoch is published; what else is reported meanwhile is kept.
    pub(super) async fn await_published(&mut self) -> Result<()> {
        loop {
            let newest = self.newest();
            if self.roll.published(newest) >= newest {
                return Ok(());
            }
            let report = there(self.reports.recv().await);
            self.note(report).await?;
        }
    }

    /// Waits until every source task has told upstream of the last epoch, within a time.
    pub(super) async fn await_sources(&mut self) -> Result<()> {
        let last = self.newest();
        let deadline = Instant::now() + ACKNOWLEDGE_WITHIN;
        loop {
            let told = |task: &TaskId| self.state.acknowledged.get(task).is_some_and(|e| *e >= last);
            if self.state.sources.iter().all(told) {
                return Ok(());
            }
            // Both are cancel-safe, as above.
            tokio::select! {
                biased;
                report = self.reports.recv() => self.note(there(report)).await?,
                () = sleep_until(deadline) => {
                    tracing::warn!("a source did not acknowledge the last epoch in time; the next run will");
                    return Ok(());
                }
            }
        }
    }

    /// Takes note that a publisher is further, and cleans up behind it now and then.
    pub(super) async fn published(&mut self, member: Member, epoch: Epoch) {
        if !self.roll.publish(member, epoch) {
            return;
        }
        let published = self.roll.published(self.newest());
        if published <= self.progress.borrow().published {
            return;
        }
        self.progress.send_modify(|p| p.published = published);
        self.state.unclean += 1;
        if self.state.unclean >= self.settings.keep_manifests.max(1) {
            self.state.unclean = 0;
            self.clean_up().await;
        }
    }
}
