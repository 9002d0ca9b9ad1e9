//! Counters of a pipeline's epochs, that anyone may read at any time.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counters of epochs.
#[derive(Debug, Default)]
pub struct EpochMetrics {
    committed: AtomicU64,
    commits: AtomicU64,
    last_commit_us: AtomicU64,
    last_duration_us: AtomicU64,
    failures: AtomicU64,
}

/// Epochs at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct EpochSnapshot {
    /// Newest committed epoch, 0 for none.
    pub committed: u64,
    /// Epochs committed by this process.
    pub commits: u64,
    /// Seconds since the last commit, or since the start.
    pub age_seconds: f64,
    /// Seconds from begin to commit of the last one.
    pub last_duration_seconds: f64,
    /// Epochs given up.
    pub failures: u64,
}

impl EpochMetrics {
    pub(crate) fn started(&self, committed: u64, now_us: u64) {
        self.committed.store(committed, Relaxed);
        self.last_commit_us.store(now_us, Relaxed);
    }

    pub(crate) fn committed(&self, epoch: u64, begun_us: u64, now_us: u64) {
        self.committed.store(epoch, Relaxed);
        self.commits.fetch_add(1, Relaxed);
        self.last_commit_us.store(now_us, Relaxed);
        self.last_duration_us.store(now_us.saturating_sub(begun_us), Relaxed);
    }

    pub(crate) fn failed(&self) {
        self.failures.fetch_add(1, Relaxed);
    }

    /// Everything as it is at `now_us` of the monotonic clock.
    pub fn snapshot(&self, now_us: u64) -> EpochSnapshot {
        EpochSnapshot {
            committed: self.committed.load(Relaxed),
            commits: self.commits.load(Relaxed),
            age_seconds: now_us.saturating_sub(self.last_commit_us.load(Relaxed)) as f64 / 1e6,
            last_duration_seconds: self.last_duration_us.load(Relaxed) as f64 / 1e6,
            failures: self.failures.load(Relaxed),
        }
    }
}
