//! What sinks without a ledger share: a committer that has nothing to do, and where a sink's bytes go.

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use conveyor_model::manifest::StagedRef;
use conveyor_model::sink::Committer;
use conveyor_model::{Epoch, Error, Result};

/// Commits for a sink that has written everything through already: it only remembers the newest epoch.
#[derive(Debug, Default)]
pub(crate) struct NoLedger {
    newest: Option<Epoch>,
}

#[async_trait]
impl Committer for NoLedger {
    async fn ledger(&mut self) -> Result<Option<Epoch>> {
        Ok(self.newest)
    }

    async fn commit(&mut self, epoch: Epoch, _staged: &[StagedRef], _last: bool) -> Result<()> {
        self.newest = self.newest.max(Some(epoch));
        Ok(())
    }
}

/// A stream that several subtasks write whole pieces to: standard output, or a buffer in a test.
#[derive(Clone)]
pub(crate) struct Output(Arc<Mutex<Box<dyn Write + Send>>>);

impl Output {
    /// Wraps a stream.
    pub(crate) fn new(stream: impl Write + Send + 'static) -> Self {
        Self(Arc::new(Mutex::new(Box::new(stream))))
    }

    /// Writes one piece, uninterrupted by others.
    ///
    /// # Errors
    /// `output-closed` when nobody reads any more.
    pub(crate) fn write(&self, bytes: &[u8]) -> Result<()> {
        let mut stream = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        stream.write_all(bytes).and_then(|()| stream.flush()).map_err(|e| {
            Error::runtime("output-closed", "standard output takes no more")
                .because(e)
                .help("keep the reader of the pipe open, or write to a file")
        })
    }
}

/// A limit on bytes per second.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    rate: Option<u64>,
    due: Option<tokio::time::Instant>,
}

impl Pace {
    /// At most `rate` bytes per second; `None` for no limit.
    pub(crate) fn new(rate: Option<u64>) -> Self {
        Self { rate, due: None }
    }

    /// Waits until what was written before is paid for, and notes `bytes` more.
    pub(crate) async fn spend(&mut self, bytes: u64) {
        let Some(rate) = self.rate.filter(|_| bytes > 0) else { return };
        let now = tokio::time::Instant::now();
        let due = self.due.map_or(now, |due| due.max(now));
        tokio::time::sleep_until(due).await;
        self.due = Some(due + Duration::from_secs_f64(bytes as f64 / rate.max(1) as f64));
    }
}
