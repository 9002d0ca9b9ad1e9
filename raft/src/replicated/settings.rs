//! Settings of a node, apart from its components.

use std::time::Duration;

use conveyor_model::{Error, Result};
use openraft::{Config, SnapshotPolicy};

/// Settings of a [`ReplicatedLog`](super::ReplicatedLog). All nodes of a cluster should have the same.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Pause between a leader's heartbeats, and the time that a follower has to answer one. Above the time of an fsync.
    pub heartbeat: Duration,
    /// A follower without a leader waits for `election.1` and then a random time between the two before it stands for
    /// election. At least three heartbeats.
    pub election: (Duration, Duration),
    /// Time for a piece of a snapshot to be taken.
    pub snapshot_piece: Duration,
    /// Longest wait of a proposal, a read or a change of the membership.
    pub answer_within: Duration,
    /// Entries between two snapshots.
    pub snapshot_every: u64,
    /// Entries that a snapshot covers and that are kept, for followers that are a little behind.
    pub keep_entries: u64,
    /// Bytes after which a new segment is started.
    pub segment_bytes: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_millis(150),
            election: (Duration::from_millis(450), Duration::from_millis(900)),
            snapshot_piece: Duration::from_secs(5),
            answer_within: Duration::from_secs(10),
            snapshot_every: 1024,
            keep_entries: 256,
            segment_bytes: 4 << 20,
        }
    }
}

impl Settings {
    /// openraft's settings.
    pub(crate) fn config(&self) -> Result<Config> {
        let ms = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
        let config = Config {
            cluster_name: "conveyor".to_owned(),
            heartbeat_interval: ms(self.heartbeat),
            election_timeout_min: ms(self.election.0),
            election_timeout_max: ms(self.election.1),
            install_snapshot_timeout: ms(self.snapshot_piece),
            max_payload_entries: 256,
            replication_lag_threshold: self.snapshot_every + self.keep_entries,
            snapshot_policy: SnapshotPolicy::LogsSinceLast(self.snapshot_every.max(1)),
            snapshot_max_chunk_size: 1 << 20,
            max_in_snapshot_log_to_keep: self.keep_entries,
            ..Config::default()
        };
        config.validate().map_err(|cause| {
            Error::bad_input("log-settings", "the log's times contradict each other").because(cause)
        })
    }
}
