//! Tasks that take their rows from edges.

use conveyor_model::{Positions, Result, RowCounters, Watermark};
use futures::FutureExt;

use super::worker::Worker;
use crate::edge::inlet_set::{Arrival, InletSet};

/// A task with inlets.
pub(crate) struct StageTask {
    pub(crate) worker: Worker,
    pub(crate) inlets: InletSet,
    /// The inlets have said that event time is at its very end.
    pub(crate) whole: bool,
    /// Some of its rows come from another process.
    pub(crate) from_afar: bool,
}

impl StageTask {
    /// Runs until it is cancelled.
    ///
    /// # Errors
    /// What stops the pipeline.
    pub(crate) async fn run(mut self) -> Result<()> {
        loop {
            let progress = self.worker.progress();
            self.worker.forget(&progress);
            self.inlets.abort(progress.aborted);
            if self.worker.has_ended() {
                // No barrier comes any more from upstream, so the control loop's word stands for it.
                if let Some(epoch) = self.worker.wanted_epoch(&progress) {
                    self.worker.barrier(epoch, Positions::new()).await?;
                }
                self.worker.told().await;
                continue;
            }
            self.rest().await;
            match self.next().await? {
                Some(arrival) => {
                    self.take(arrival).await?;
                    tokio::task::yield_now().await;
                }
                None => continue,
            }
        }
    }

    /// The next arrival, or `None` when the control loop spoke first. Held rows go on before a wait.
    async fn next(&mut self) -> Result<Option<Arrival>> {
        if let Some(arrival) = self.inlets.next().now_or_never() {
            return arrival.map(Some);
        }
        self.worker.flush().await?;
        // Both are cancel-safe: the set keeps what it took, and the newest word is read anew.
        tokio::select! {
            biased;
            arrival = self.inlets.next() => arrival.map(Some),
            () = self.worker.told() => Ok(None),
        }
    }

    async fn rest(&mut self) {
        if let Some(delay) = self.worker.delay() {
            tokio::time::sleep(delay).await;
        }
    }

    async fn take(&mut self, arrival: Arrival) -> Result<()> {
        match arrival {
            Arrival::Data(batch) => {
                if self.worker.shared.counts_at_stages && self.from_afar {
                    let now_us = self.worker.shared.now_us();
                    self.worker.shared.ratio.rows(batch.num_rows() as u64, now_us);
                }
                self.worker.count(RowCounters { rows_in: batch.num_rows() as u64, ..RowCounters::default() });
                self.worker.rows(batch).await
            }
            Arrival::Barrier(epoch) => self.worker.barrier(epoch, Positions::new()).await,
            Arrival::Watermark(Watermark::MAX) => {
                // Told to the chain at the end, together with what the steps hold back.
                self.whole = true;
                Ok(())
            }
            Arrival::Watermark(watermark) => self.worker.advance(watermark).await,
            Arrival::Idle => self.worker.idle().await,
            Arrival::End => self.worker.end(self.whole).await,
        }
    }
}
