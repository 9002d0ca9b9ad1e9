//! A world in memory, for the tests of this crate and of those that use it.

mod plans;
mod stores;

pub use plans::PlanBuilder;
pub use stores::{MemoryLog, MemoryStore};
