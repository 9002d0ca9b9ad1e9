//! The compute runtime: threads for data tasks alone, so that commits and credits never wait behind a busy kernel.

use conveyor_model::{Error, Result};
use tokio::runtime::{Builder, Handle, Runtime};

/// A runtime of its own that can be dropped within another one.
pub struct Compute(Option<Runtime>);

impl Compute {
    /// Starts `threads` worker threads (at least one).
    ///
    /// # Errors
    /// If the system gives no threads.
    pub fn start(threads: usize) -> Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(threads.max(1))
            .thread_name("conveyor-compute")
            .enable_all()
            .build()
            .map_err(|e| Error::runtime("compute-runtime", "compute threads cannot be started").because(e))?;
        Ok(Self(Some(runtime)))
    }

    /// Where tasks are spawned.
    pub fn handle(&self) -> &Handle {
        self.0.as_ref().expect("the runtime is there until it is dropped").handle()
    }
}

impl Drop for Compute {
    fn drop(&mut self) {
        // A plain drop would block the async context that we are dropped in.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
