//! Where a task's rows go: its edges, or a sink with retries.

use std::sync::Arc;

use arrow::array::UInt32Array;
use conveyor_epoch::Backoff;
use conveyor_model::manifest::StagedRef;
use conveyor_model::plan::Retry;
use conveyor_model::sink::Sink;
use conveyor_model::{Batch, Epoch, Error, Frame, Result};

use crate::edge::fan_out::{FanOut, Sent};
use crate::operator::{Failed, StepInfo};

/// The end of a task.
pub(crate) enum Output {
    /// Other tasks.
    Edges(FanOut),
    /// Outside.
    Sink(SinkOutput),
}

/// A sink's subtask.
pub(crate) struct SinkOutput {
    /// The sink.
    pub(crate) sink: Box<dyn Sink>,
    /// Its name in the manifest, where dead letters of its own are found.
    pub(crate) info: StepInfo,
    /// Tries of writes.
    pub(crate) retry: Retry,
    /// Bytes that were counted already.
    pub(crate) counted: u64,
}

impl Output {
    /// Hands on rows.
    ///
    /// # Errors
    /// If a receiver is gone, or the sink cannot take rows even after retries.
    pub(crate) async fn send(&mut self, batch: Batch) -> Result<Sent> {
        match self {
            Output::Edges(edges) => edges.send(batch).await,
            Output::Sink(sink) => sink.write(batch).await,
        }
    }

    /// Sends a control frame; a sink needs none.
    ///
    /// # Errors
    /// If a receiver is gone.
    pub(crate) async fn control(&mut self, frame: Frame) -> Result<()> {
        match self {
            Output::Edges(edges) => edges.control(frame).await,
            Output::Sink(_) => Ok(()),
        }
    }

    /// Makes durable what was written since the last call.
    ///
    /// # Errors
    /// As for `Sink::prepare`, after retries.
    pub(crate) async fn prepare(&mut self, epoch: Epoch) -> Result<Vec<StagedRef>> {
        let Output::Sink(sink) = self else { return Ok(Vec::new()) };
        let mut backoff = Backoff::new(sink.retry);
        loop {
            match sink.sink.prepare(epoch).await {
                Ok(staged) => return Ok(staged),
                Err(error) => tokio::time::sleep(backoff.after(error.at(&sink.info.name))?).await,
            }
        }
    }

    /// Bytes written outside since the last call.
    pub(crate) fn take_bytes(&mut self) -> u64 {
        let Output::Sink(sink) = self else { return 0 };
        let now = sink.sink.bytes();
        now.saturating_sub(std::mem::replace(&mut sink.counted, now))
    }
}

impl SinkOutput {
    async fn write(&mut self, batch: Batch) -> Result<Sent> {
        let rows = batch.num_rows() as u64;
        let mut backoff = Backoff::new(self.retry);
        let refused = loop {
            match self.sink.write(batch.clone()).await {
                Ok(refused) => break refused,
                Err(error) => tokio::time::sleep(backoff.after(error.at(&self.info.name))?).await,
            }
        };
        let mut sent = Sent { rows, ..Sent::default() };
        if !refused.is_empty() {
            let (rows, errors): (Vec<u32>, Vec<_>) = refused.into_iter().map(|(r, e)| (r as u32, e)).unzip();
            sent.rows -= rows.len() as u64;
            let rows = batch
                .take(&UInt32Array::from(rows))
                .map_err(|e| Error::runtime("sink-refused", "refused rows cannot be picked").because(e))?;
            sent.failed.push((self.info.clone(), Failed { rows, errors }));
        }
        Ok(sent)
    }
}

/// A step's id and name that are the same word.
pub(crate) fn named(name: &str) -> StepInfo {
    let name: Arc<str> = name.into();
    StepInfo { id: name.clone(), name }
}
