//! Runs a plan: tasks of sources, operators and sinks, joined by edges in credits, cut into epochs that commit.
//!
//! The engine knows contracts (`conveyor_model`) and expressions, and names of neither connectors nor stores.

mod build;
mod chain;
mod clock;
mod coalesce;
mod compact;
mod config;
mod edge;
mod event_time;
mod failpoints;
pub mod lookups;
mod member;
mod metrics;
pub mod operator;
pub mod operators;
pub mod partition;
mod publish;
mod ratio;
mod restore;
mod run;
mod runtime;
mod task;
mod tasks;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use clock::SystemClock;
pub use config::{Components, Config, NodeSummary, Shutdown, Summary};
pub use conveyor_epoch::EpochSnapshot;
pub use failpoints::FAILPOINTS;
pub use member::{Part, Place, work};
pub use metrics::{EdgeSnapshot, Metrics, NodeSnapshot, Snapshot};
pub use run::run;
pub use runtime::Compute;
