//! The life of a pipeline's epochs, from begin to clean-up: one control loop, for `run` and for the routers.
//!
//! It knows the log, the manifests and what members report; where the members run is not its affair. Which order things
//! have is fixed in `docs/adr/0001-one-commit-point.md`.

mod backoff;
mod conserve;
mod crew;
mod driver;
mod failpoints;
mod metrics;
mod start;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use conveyor_model::Clock;
use conveyor_model::log::Log;
use conveyor_model::manifest::Manifests;

pub use backoff::Backoff;
pub use crew::{Crew, tasks};
pub use driver::{Driver, End, Handle};
pub use failpoints::FAILPOINTS;
pub use metrics::{EpochMetrics, EpochSnapshot};
pub use start::{Start, read};

/// Code of a task's or a member's error when its neighbour is gone: only the echo of what happened to the neighbour.
pub const GONE: &str = "edge-closed";

/// The parts of the world that the control loop touches.
#[derive(Clone)]
pub struct Components {
    /// What is agreed.
    pub log: Arc<dyn Log>,
    /// Where epochs' manifests lie.
    pub manifests: Arc<dyn Manifests>,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

/// Settings of the control loop.
#[derive(Debug, Clone)]
pub struct Settings {
    /// An epoch that takes longer is given up; its rows go into the next one. `None` follows the pipeline's checkpoint
    /// interval, see [`Settings::timeout`].
    pub epoch_timeout: Option<Duration>,
    /// Committed manifests that are kept.
    pub keep_manifests: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { epoch_timeout: None, keep_manifests: 3 }
    }
}

/// Least time that an epoch gets where nothing else is set: barriers and uploads wait for whatever is slow.
const LEAST_TIMEOUT: Duration = Duration::from_secs(60);
/// Checkpoint intervals after which an epoch is given up, where they are longer than that.
const TIMEOUT_INTERVALS: u32 = 10;

impl Settings {
    /// Time that an epoch of a pipeline with this checkpoint interval gets: what is set, or else ten intervals, a minute at
    /// least. A process that hangs without losing its lease holds the pipeline up for so long.
    pub fn timeout(&self, interval: Duration) -> Duration {
        self.epoch_timeout.unwrap_or_else(|| LEAST_TIMEOUT.max(interval.saturating_mul(TIMEOUT_INTERVALS)))
    }
}
