//! Work that takes a while, off the threads that drive tasks.

use conveyor_model::simulation;
use tokio::task::{JoinError, spawn_blocking};

/// Runs `work` on a thread that may be busy; in a simulation, which has one thread, at once.
///
/// # Errors
/// When the process stops meanwhile, or the work panics.
pub(crate) async fn run<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, JoinError> {
    if simulation::on() { Ok(work()) } else { spawn_blocking(work).await }
}
