//! `conveyorctl` as a client of a cluster: which cluster is meant, and its REST API.

pub mod client;
pub mod context;

pub use client::{Client, Reply};
pub use context::{Contexts, Target};
