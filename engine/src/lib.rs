//! Runs a plan: tasks of sources, operators and sinks, joined by edges in credits, cut into epochs that commit.
//!
//! The engine knows contracts (`conveyor_model`) and expressions, and names of neither connectors nor stores.

pub mod lookups;
pub mod operator;
pub mod operators;
pub mod partition;
