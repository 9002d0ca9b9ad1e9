//! The control plane: accepts plans, places tasks, completes epochs, reports status. It never touches a batch.
//!
//! [`run`] is the process. Every router holds the log; the one that leads also holds the control loop, which hears
//! sidecars, decides with pure functions, and does. All of that is dropped the moment it leads no more.

mod assignment;
mod config;
pub mod control;
mod controller;
mod crew;
mod hub;
mod input;
mod lead;
pub mod logs;
pub mod manifests;
mod node;
mod reconcile;
pub mod rest;
mod restarts;
mod run;
mod runner;
mod sidecars;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod transport;
mod wire;

#[cfg(test)]
mod tests;

pub use config::{Components, Config, Settings};
pub use control::Control;
pub use conveyor_epoch::Settings as EpochSettings;
pub use run::{Router, run};
pub use sidecars::service::LEADER;
