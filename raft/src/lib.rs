//! What is agreed: a pure state machine over [`conveyor_model::log::Command`]s, and the durable log under it.
//!
//! [`ClusterState`] decides, and nothing else does: no clock, no randomness, no I/O, no hash-map order. The log makes
//! commands durable before it applies them. [`SingleVoterLog`] is the log of one process, [`ReplicatedLog`] that of a
//! cluster's nodes: the same state machine over the same records.

mod disk;
mod error;
mod history;
mod record;
mod recover;
mod replicated;
mod restore;
mod sealed;
mod segment;
mod single;
mod snapshot;
mod state;
pub mod testing;
mod view;
mod writer;

#[cfg(any(test, feature = "simulation"))]
mod simdisk;
#[cfg(test)]
mod tests;

pub use replicated::{
    Changes, Identity, Leadership, Member, NodeStatus, ReplicatedLog, Role, Rpc, Settings, Status, Transport,
};
pub use single::{Options, SingleVoterLog};
pub use state::ClusterState;
pub use view::LogView;

/// Names of the crash points of this crate, before and after every durable step; see the feature `failpoints`.
pub const FAILPOINTS: &[&str] = &[
    "raft-before-append",
    "raft-after-append",
    "raft-after-sync",
    "raft-before-snapshot",
    "raft-after-snapshot-write",
    "raft-after-snapshot",
    "raft-after-segment",
    "raft-after-delete",
    "raft-before-wal-write",
    "raft-after-wal-write",
    "raft-after-wal-sync",
    "raft-after-wal-segment",
    "raft-after-wal-delete",
    "raft-before-raft-snapshot",
    "raft-after-raft-snapshot",
    "raft-before-install",
    "raft-after-install",
    "raft-commit-appended",
    "raft-members-appended",
];
