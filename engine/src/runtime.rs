//! The compute runtime: threads for data tasks alone, so that commits and credits never wait behind a busy kernel.

use conveyor_model::{Error, Result};
use tokio::runtime::{Builder, Handle, Runtime};

/// A runtime of its own that can be dropped within another one.
pub struct Compute(Option<Runtime>, Handle);

impl Compute {
    /// Starts `threads` worker threads (at least one).
    ///
    /// # Errors
    /// If the system gives no threads.
    pub fn start(threads: usize) -> Result<Self> {
        // A simulation has one thread.
        if conveyor_model::simulation::on() {
            return Ok(Self(None, Handle::current()));
        }
        let runtime = Builder::new_multi_thread()
            .worker_threads(threads.max(1))
            .thread_name("conveyor-compute")
            .enable_all()
            .build()
            .map_err(|e| Error::runtime("compute-runtime", "compute threads cannot be started").because(e))?;
        let handle = runtime.handle().clone();
        Ok(Self(Some(runtime), handle))
    }

    /// Where tasks are spawned.
    pub fn handle(&self) -> &Handle {
        &self.1
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
