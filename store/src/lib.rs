//! What must survive in object storage: manifests, plans, operator state, dead letters.
//!
//! Only `paths` spells a key. Objects are written once, create-if-absent, and read with their hash. Deciding *when* to
//! write, commit or clean up is not done here.

mod backups;
mod blocking;
mod clean;
pub mod dlq;
mod objects;
mod paths;
mod store;

#[cfg(test)]
mod tests;

#[cfg(feature = "simulation")]
pub use objects::faulty as simulation;

pub use backups::Backups;
pub use dlq::{DeadLetterReader, DeadLetterStore};
pub use store::Store;

/// Names of the crash points of this crate, before and after every durable step; see the feature `failpoints`.
pub const FAILPOINTS: &[&str] = &[
    "store-before-put",
    "store-after-put-write",
    "store-after-put-link",
    "store-after-put",
    "store-before-move",
    "store-after-move-link",
    "store-after-move",
    "store-before-delete",
    "store-before-dlq-flush",
    "store-after-dlq-flush",
    "store-before-dlq-sweep",
    "store-after-dlq-sweep",
];
