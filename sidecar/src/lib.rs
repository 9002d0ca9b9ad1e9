//! The data plane: runs the tasks that it is told to run.
//!
//! A sidecar holds on to the router that leads ([`run`]), runs members of pipelines with the engine, and exchanges rows with
//! other sidecars over Arrow Flight. It decides nothing about placement.

mod agent;
mod board;
mod config;
mod directory;
mod discover;
mod feed;
mod filters;
mod guard;
mod heartbeat;
mod http;
mod members;
pub mod prometheus;
mod run;
mod sticky;
mod world;

pub use config::{Components, Config};
pub use conveyor_flight::Settings as EdgeSettings;
pub use run::{Shutdown, run};
