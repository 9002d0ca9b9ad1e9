//! Tasks that read a source.

use std::collections::VecDeque;
use std::time::Duration;

use conveyor_epoch::Backoff;
use conveyor_model::dead_letter::RowError;
use conveyor_model::plan::{Late, Retry};
use conveyor_model::progress::{Progress, Report};
use conveyor_model::source::{Read, Source, SourceRows};
use conveyor_model::{Batch, Epoch, Error, Positions, Result, RowCounters, planted};

use super::worker::Worker;
use crate::event_time::{EventTimes, times};
use crate::failpoints::{self, pass};
use crate::operator::{Failed, StepInfo};

/// A task with a source.
pub(crate) struct SourceTask {
    pub(crate) worker: Worker,
    pub(crate) source: Box<dyn Source>,
    pub(crate) info: StepInfo,
    pub(crate) events: Option<EventTimes>,
    pub(crate) retry: Retry,
    /// Positions of epochs that are not known to be committed.
    pub(crate) positions: VecDeque<(Epoch, Positions)>,
    pub(crate) draining: bool,
    pub(crate) idle: bool,
    /// Nothing has come since the source was last found with nothing to read.
    pub(crate) quiet: bool,
    /// The split of the last rows; another one means that splits were opened or finished.
    pub(crate) split: Option<std::sync::Arc<str>>,
}

impl SourceTask {
    /// Runs until it is cancelled.
    ///
    /// # Errors
    /// What stops the pipeline.
    pub(crate) async fn run(mut self) -> Result<()> {
        let mut backoff = Backoff::new(self.retry);
        loop {
            let progress = self.worker.progress();
            self.follow(&progress).await?;
            if self.worker.has_ended() {
                self.worker.told().await;
                continue;
            }
            if let Some(delay) = self.worker.delay() {
                self.rest(delay).await;
                continue;
            }
            if self.worker.shared.is_full() && !self.draining {
                self.worker.shared.tell(Report::Full);
                self.worker.told().await;
                continue;
            }
            match self.source.read().await {
                Ok(read) => {
                    backoff.reset();
                    self.take(read).await?;
                    // With more tasks than threads all of them are to move on, or a barrier would wait for a whole file.
                    tokio::task::yield_now().await;
                }
                Err(error) => {
                    let delay = backoff.after(self.locate(error))?;
                    self.rest(delay).await;
                }
            }
        }
    }

    /// Does what the control loop has asked for since the last look.
    async fn follow(&mut self, progress: &Progress) -> Result<()> {
        self.worker.forget(progress);
        self.acknowledge(progress.published).await;
        if progress.drain && !self.draining {
            self.draining = true;
            if !self.worker.has_ended() {
                self.source.drain();
            }
        }
        let Some(epoch) = self.worker.wanted_epoch(progress) else { return Ok(()) };
        let ahead = if planted("positions-after-barrier") { Some(self.source.read().await?) } else { None };
        let mut positions = self.source.positions();
        if let Some(events) = &self.events {
            events.fill(&mut positions);
        }
        pass(failpoints::INJECTED)?;
        self.positions.push_back((epoch, positions.clone()));
        self.worker.barrier(epoch, positions).await?;
        match ahead {
            Some(read) => self.take(read).await,
            None => Ok(()),
        }
    }

    /// Tells upstream what is committed.
    async fn acknowledge(&mut self, published: Epoch) {
        let mut newest = None;
        while self.positions.front().is_some_and(|(epoch, _)| *epoch <= published) {
            newest = self.positions.pop_front();
        }
        // An epoch that was given up is not committed, but one after it covers it; only an exact match may be told.
        let Some((epoch, positions)) = newest.filter(|(epoch, _)| *epoch == published) else { return };
        if let Err(error) = self.source.committed(epoch, &positions).await {
            tracing::warn!(source = %self.info.name, %epoch, %error, "upstream did not take the acknowledgement");
        }
        self.worker.shared.tell(Report::Acknowledged { task: self.worker.id, epoch });
    }

    /// Waits, but not longer than until the control loop speaks.
    async fn rest(&mut self, delay: Duration) {
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            () = self.worker.told() => {}
        }
    }

    async fn take(&mut self, read: Read) -> Result<()> {
        if let Some((total, read)) = self.source.progress() {
            self.worker.metrics.progress(self.worker.id, total, read);
        }
        self.worker.metrics.idle(self.worker.id, !matches!(read, Read::Rows(_)));
        match read {
            Read::Rows(rows) => self.rows(rows).await,
            Read::Idle => {
                if !self.quiet {
                    // Behind the last rows the source has noted that their splits are read to the end.
                    self.quiet = true;
                    self.worker.shared.touch();
                }
                self.worker.flush().await?;
                self.sync_splits();
                self.advance().await
            }
            Read::End => {
                let whole = !self.draining;
                self.worker.end(whole).await?;
                self.worker.shared.tell(Report::SourceEnded { task: self.worker.id, whole });
                Ok(())
            }
        }
    }

    async fn rows(&mut self, read: SourceRows) -> Result<()> {
        let SourceRows { batch, split, rejected, pruned, bytes } = read;
        self.quiet = false;
        self.worker.shared.touch();
        let rows_in = batch.num_rows() as u64 + rejected.len() as u64 + pruned;
        self.worker.shared.ratio.rows(rows_in, self.worker.shared.now_us());
        self.worker.count_uncommitted(if bytes > 0 {
            bytes
        } else {
            conveyor_model::credit::cost(batch.rows())
        });
        let mut delta = RowCounters { rows_in, filtered: pruned, bytes, ..RowCounters::default() };
        delta.dead_letters = self.worker.dead.raw(&self.info, rejected).await?;
        if self.split.as_ref() != Some(&split) {
            self.sync_splits();
            self.split = Some(split.clone());
        }
        let batch = self.drop_late(batch, &split, &mut delta).await?;
        self.worker.count(delta);
        if !batch.is_empty() {
            self.worker.rows(batch).await?;
        }
        self.advance().await
    }

    /// Notes event times, and takes out late rows where they are not to be kept.
    async fn drop_late(
        &mut self,
        batch: Batch,
        split: &std::sync::Arc<str>,
        delta: &mut RowCounters,
    ) -> Result<Batch> {
        let now_us = self.worker.shared.now_us();
        let Some(events) = &mut self.events else { return Ok(batch) };
        let Some(late) = events.rows(split, batch.rows(), now_us).map_err(|e| e.at(&self.info.name))? else {
            return Ok(batch);
        };
        let settings = events.settings();
        let picked = |e| Error::runtime("late-rows", "late rows cannot be picked").because(e);
        let on_time = arrow::compute::not(&late).map_err(picked)?;
        match settings.late {
            Late::Keep => return Ok(batch),
            Late::Drop => delta.filtered += late.true_count() as u64,
            Late::Dlq => {
                let rows = batch.filter(&late).map_err(picked)?;
                let column = settings.column.clone();
                let errors = times(rows.rows(), &column)?
                    .iter()
                    .map(|t| late_error(t, &column, settings.allowed_lateness_ms))
                    .collect();
                delta.dead_letters += self.worker.dead.typed(&self.info, Failed { rows, errors }).await?;
            }
        }
        batch.filter(&on_time).map_err(picked)
    }

    fn sync_splits(&mut self) {
        if let Some(events) = &mut self.events {
            events.sync(&self.source.positions(), self.worker.shared.now_us());
        }
    }

    async fn advance(&mut self) -> Result<()> {
        let now_us = self.worker.shared.now_us();
        let Some(events) = &mut self.events else { return Ok(()) };
        let (watermark, idle) = events.watermark(now_us);
        self.worker.advance(watermark).await?;
        if idle && !self.idle {
            self.worker.shared.touch();
            self.worker.idle().await?;
        }
        self.idle = idle;
        Ok(())
    }

    fn locate(&self, error: Error) -> Error {
        match &self.split {
            Some(split) => error.at(&self.info.name).in_split(split),
            None => error.at(&self.info.name),
        }
    }
}

fn late_error(time_us: Option<i64>, column: &str, allowed_ms: u64) -> RowError {
    let time = conveyor_model::Watermark(time_us.unwrap_or_default());
    RowError::new(
        "late",
        format!("event time {time} is more than {allowed_ms} ms before the newest of its split"),
    )
    .column(column)
}
