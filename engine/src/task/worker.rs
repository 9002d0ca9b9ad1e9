//! What every task does with rows, watermarks, barriers and ends, wherever its input comes from.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::Bytes;
use conveyor_epoch::Backoff;
use conveyor_model::manifest::TaskAck;
use conveyor_model::plan::Retry;
use conveyor_model::progress::{Progress, Report};
use conveyor_model::{
    Batch, Epoch, Error, Frame, Kind, Positions, Result, RowCounters, TaskId, Watermark, planted,
};
use tokio::sync::watch;

use super::Shared;
use super::dead::DeadBox;
use super::shares::{Shares, add_codes};
use super::sink::Output;
use crate::chain::{Chain, Flow};
use crate::coalesce::Coalescer;
use crate::failpoints::{self, pass};
use crate::metrics::NodeMetrics;

/// A task without its input.
pub(crate) struct Worker {
    pub(crate) id: TaskId,
    pub(crate) name: Arc<str>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) progress: watch::Receiver<Progress>,
    pub(crate) metrics: Arc<NodeMetrics>,
    pub(crate) dead: DeadBox,
    chain: Chain,
    coalescer: Coalescer,
    output: Output,
    shares: Shares,
    watermark: Watermark,
    /// A watermark that waits behind held rows.
    held_mark: Option<Watermark>,
    ended: bool,
    /// The newest epoch whose barrier this task has passed.
    passed: Epoch,
}

/// The parts of a worker.
pub(crate) struct Parts {
    pub(crate) id: TaskId,
    pub(crate) name: Arc<str>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) metrics: Arc<NodeMetrics>,
    pub(crate) dead: DeadBox,
    pub(crate) chain: Chain,
    pub(crate) output: Output,
    /// Below this the task's watermark must not fall.
    pub(crate) floor: Watermark,
}

impl Worker {
    /// Puts a worker together.
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts { id, name, shared, metrics, dead, chain, output, floor } = parts;
        // Rows that pass no step have the size that their source or the task before gave them.
        let target = if chain.is_empty() { 0 } else { shared.config.coalesce_rows };
        metrics.watermark(id, floor);
        Self {
            id,
            name,
            progress: shared.progress.clone(),
            shared,
            metrics,
            dead,
            chain,
            coalescer: Coalescer::new(target),
            output,
            shares: Shares::default(),
            watermark: floor,
            held_mark: None,
            ended: false,
            passed: Epoch(0),
        }
    }

    /// The newest word of the control loop.
    pub(crate) fn progress(&mut self) -> Progress {
        self.progress.borrow_and_update().clone()
    }

    /// Waits until the control loop says something new. Cancel-safe.
    pub(crate) async fn told(&mut self) {
        // An error means that the control loop is gone: this task is about to be cancelled.
        if self.progress.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Forgets what is committed.
    pub(crate) fn forget(&mut self, progress: &Progress) {
        let known = if planted("abort-forgets") {
            progress.committed.max(progress.aborted)
        } else {
            progress.committed
        };
        let freed = self.shares.forget(known);
        if freed > 0 {
            self.shared.uncommitted.fetch_sub(freed, Relaxed);
        }
    }

    /// The epoch whose barrier is asked for and not passed yet.
    pub(crate) fn wanted_epoch(&self, progress: &Progress) -> Option<Epoch> {
        let wanted = progress.inject;
        (wanted > self.passed && wanted > progress.aborted && wanted > progress.committed).then_some(wanted)
    }

    /// Whether nothing follows from this task.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended
    }

    /// How long the chain wants to rest before the next batch.
    pub(crate) fn delay(&self) -> Option<Duration> {
        self.chain.delay()
    }

    /// Counts rows and bytes in this task's share of the epoch and in the metrics.
    pub(crate) fn count(&mut self, delta: RowCounters) {
        self.shares.open.counters.add(&delta);
        self.metrics.add(&delta);
    }

    /// Counts bytes that wait for a commit.
    pub(crate) fn count_uncommitted(&mut self, bytes: u64) {
        self.shares.open.uncommitted += bytes;
        self.shared.uncommitted.fetch_add(bytes, Relaxed);
    }

    /// Sends rows through the chain and on.
    ///
    /// # Errors
    /// What a step, an edge, the sink or the dead letters report.
    pub(crate) async fn rows(&mut self, batch: Batch) -> Result<()> {
        let mut flow = Flow::default();
        self.chain.on_batch(batch, &mut flow)?;
        self.carry(flow).await?;
        // What was too much at once comes in parts, each gone before the next is made.
        let mut flow = Flow::default();
        while self.chain.go_on(&mut flow)? {
            self.carry(std::mem::take(&mut flow)).await?;
        }
        Ok(())
    }

    /// Tells the chain and the next tasks that event time has advanced.
    ///
    /// # Errors
    /// As for `rows`.
    pub(crate) async fn advance(&mut self, watermark: Watermark) -> Result<()> {
        if watermark <= self.watermark {
            return Ok(());
        }
        self.watermark = watermark;
        self.shared.touch();
        self.metrics.watermark(self.id, watermark);
        let mut flow = Flow::default();
        self.chain.on_watermark(watermark, &mut flow)?;
        self.carry(flow).await?;
        self.held_mark = Some(watermark);
        if self.coalescer.is_empty() { self.send_mark().await } else { Ok(()) }
    }

    /// Says that there are no rows for now.
    ///
    /// # Errors
    /// As for `rows`.
    pub(crate) async fn idle(&mut self) -> Result<()> {
        self.flush().await?;
        self.output.control(Frame::Idle).await
    }

    /// Sends on what is held back.
    ///
    /// # Errors
    /// As for `rows`.
    pub(crate) async fn flush(&mut self) -> Result<()> {
        let mut ready = Vec::new();
        self.coalescer.flush(&mut ready)?;
        self.deliver(ready).await?;
        self.send_mark().await
    }

    /// Ends the task's output; `whole` says that its input was read to the very end, so that steps give out what they
    /// hold back. After a drain they keep it in their state instead.
    ///
    /// # Errors
    /// As for `rows`.
    pub(crate) async fn end(&mut self, whole: bool) -> Result<()> {
        if whole {
            self.advance(Watermark::MAX).await?;
            let mut flow = Flow::default();
            self.chain.on_end(&mut flow)?;
            self.carry(flow).await?;
        }
        self.flush().await?;
        self.ended = true;
        self.output.control(Frame::End).await
    }

    async fn carry(&mut self, flow: Flow) -> Result<()> {
        let Flow { batches, failed, filtered, expanded } = flow;
        let mut delta = RowCounters { filtered, expanded, ..RowCounters::default() };
        for (step, rows) in failed {
            delta.dead_letters += self.dead.typed(&step, rows).await?;
        }
        self.count(delta);
        let mut ready = Vec::new();
        for batch in batches {
            self.coalescer.push(batch, &mut ready)?;
        }
        self.deliver(ready).await?;
        if self.coalescer.is_empty() { self.send_mark().await } else { Ok(()) }
    }

    async fn deliver(&mut self, batches: Vec<Batch>) -> Result<()> {
        for batch in batches {
            let sent = self.output.send(batch).await?;
            let mut delta =
                RowCounters { rows_out: sent.rows, filtered: sent.filtered, ..RowCounters::default() };
            for (step, rows) in sent.failed {
                delta.dead_letters += self.dead.typed(&step, rows).await?;
            }
            delta.bytes = self.output.take_bytes();
            self.count(delta);
        }
        Ok(())
    }

    async fn send_mark(&mut self) -> Result<()> {
        match self.held_mark.take() {
            Some(watermark) => self.output.control(Frame::Watermark(watermark)).await,
            None => Ok(()),
        }
    }

    /// Passes a barrier: flushes, takes snapshots, sends it on, makes this task's share durable and acknowledges it.
    ///
    /// # Errors
    /// What stops the pipeline. What a later epoch can mend is told to the control loop as refused instead.
    pub(crate) async fn barrier(&mut self, epoch: Epoch, positions: Positions) -> Result<()> {
        self.passed = epoch;
        pass(failpoints::BARRIER)?;
        // Not marked as seen, hence the clone: the task's own loop has to look at it too.
        let progress = word_of(self.progress.clone(), epoch).await;
        self.forget(&progress);
        self.flush().await?;
        let snapshots = self.chain.snapshot()?;
        if !self.ended {
            self.output.control(Frame::Barrier(epoch)).await?;
        }
        if let Err(error) = self.stage(epoch).await {
            if error.kind() != Kind::Unavailable {
                return Err(error);
            }
            self.shared.tell(Report::Refused { epoch, task: self.id, why: error.to_string() });
            return Ok(());
        }
        let share = self.shares.close(epoch);
        let watermark =
            (Watermark::MIN < self.watermark && self.watermark < Watermark::MAX).then_some(self.watermark);
        let ack = TaskAck {
            task: self.id,
            positions,
            state: BTreeMap::new(),
            staged: share.staged,
            dead_letters: if planted("dead-letters-unacked") { Vec::new() } else { share.dead_letters },
            counters: share.counters,
            watermark,
            finished: self.ended,
        };
        let upload = Upload {
            shared: self.shared.clone(),
            epoch,
            ack,
            sent: share.sent,
            codes: share.codes,
            name: self.name.clone(),
        };
        if snapshots.is_empty() || planted("ack-before-state") {
            upload.acknowledge()
        } else {
            // Rows go on while the snapshot travels; the ack follows when it has arrived.
            self.shared.control.spawn(upload.run(snapshots));
            Ok(())
        }
    }

    async fn stage(&mut self, epoch: Epoch) -> Result<()> {
        pass(failpoints::PREPARE_BEFORE)?;
        let staged = self.output.prepare(epoch).await?;
        self.shares.open.staged.extend(staged);
        let bytes = self.output.take_bytes();
        self.count(RowCounters { bytes, ..RowCounters::default() });
        pass(failpoints::PREPARE_AFTER)?;
        let dead = self.dead.stage(epoch).await?;
        self.shares.open.dead_letters.extend(dead);
        add_codes(&mut self.shares.open.codes, &self.dead.take_codes());
        pass(failpoints::DEAD_LETTERS_STAGED)?;
        if let Output::Edges(edges) = &mut self.output {
            for (edge, rows) in edges.take_sent() {
                self.shares.open.sent.push((edge, rows));
            }
        }
        Ok(())
    }
}

/// The control loop's word of an epoch. From another process a barrier may come before it, and what became of the epoch
/// before stands in it: without it a task would acknowledge once more what is committed.
async fn word_of(mut progress: watch::Receiver<Progress>, epoch: Epoch) -> Progress {
    let known = |p: &Progress| p.inject.max(p.aborted).max(p.committed) >= epoch;
    let found = progress.wait_for(known).await.map(|p| p.clone());
    match found {
        Ok(progress) => progress,
        // The control loop is gone: this task is about to be cancelled.
        Err(_) => std::future::pending().await,
    }
}

/// Brings a task's snapshots to the store, then acknowledges its epoch.
struct Upload {
    shared: Arc<Shared>,
    epoch: Epoch,
    ack: TaskAck,
    sent: Vec<(usize, u64)>,
    codes: BTreeMap<String, u64>,
    name: Arc<str>,
}

impl Upload {
    async fn run(mut self, snapshots: Vec<(String, Bytes)>) {
        let (shared, epoch, task) = (self.shared.clone(), self.epoch, self.ack.task);
        let done = match self.put_all(snapshots).await {
            Ok(()) => self.acknowledge(),
            Err(error) => Err(error),
        };
        match done {
            Ok(()) => {}
            Err(error) if error.kind() == Kind::Unavailable => {
                shared.tell(Report::Refused { epoch, task, why: error.to_string() });
            }
            Err(error) => shared.tell(Report::Failed(error)),
        }
    }

    async fn put_all(&mut self, snapshots: Vec<(String, Bytes)>) -> Result<()> {
        pass(failpoints::STATE_BEFORE)?;
        for (step, bytes) in snapshots {
            let reference = self.put(&step, bytes).await?;
            self.ack.state.insert(step, reference);
        }
        pass(failpoints::STATE_AFTER)
    }

    async fn put(&self, step: &str, bytes: Bytes) -> Result<conveyor_model::state::StateRef> {
        let mut backoff = Backoff::new(Retry::default());
        let Shared { plan, incarnation, state, .. } = self.shared.as_ref();
        loop {
            match state.put(&plan.pipeline, *incarnation, self.ack.task, step, bytes.clone()).await {
                Ok(reference) => return Ok(reference),
                Err(error) => tokio::time::sleep(backoff.after(error.at(&self.name))?).await,
            }
        }
    }

    fn acknowledge(self) -> Result<(), Error> {
        pass(failpoints::ACK_BEFORE)?;
        let Self { epoch, ack, sent, codes, .. } = self;
        self.shared.tell(Report::Ack { epoch, ack: Box::new(ack), sent, codes });
        Ok(())
    }
}
