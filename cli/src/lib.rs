//! `conveyorctl` as a library: a thin client of the other crates, one module a verb.

pub mod args;
pub mod cluster;
pub mod commands;
pub mod crash;
pub mod exit;
pub mod letters;
pub mod logging;
pub mod manifests;
pub mod metrics_server;
pub mod node;
pub mod output;
pub mod process;
pub mod progress;
pub mod replay;
pub mod settings;
pub mod signals;
pub mod summary;
