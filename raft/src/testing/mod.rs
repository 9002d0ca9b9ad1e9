//! What tests and measurements of a replicated log share: a network within the process that can be cut, slowed and made to
//! lose messages under a seed.

#[cfg(feature = "simulation")]
pub mod disks;
mod network;

pub use network::{Faults, LocalNetwork};
