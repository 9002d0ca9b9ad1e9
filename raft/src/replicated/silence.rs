//! A leader that no majority answers falls silent for a while, so that another one can be elected.
//!
//! Where only the way to the leader is broken, followers go on hearing it and elect nobody, while nothing can be agreed: the
//! cluster would stand still for as long as the fault lasts. After the silence it speaks again for a moment, since it may be the
//! only one that can lead: then an answer brings it back, or makes it step down.

use std::sync::OnceLock;
use std::time::Duration;

use openraft::RaftMetrics;
use tokio::sync::watch;

use super::types::Peer;

/// When this node is silent.
pub(crate) struct Silence {
    metrics: OnceLock<watch::Receiver<RaftMetrics<u64, Peer>>>,
    rhythm: Rhythm,
}

/// Lengths of the silence and of what is before and between.
#[derive(Debug, Clone, Copy)]
struct Rhythm {
    /// Without an answer of a majority for so long, the leader falls silent.
    after: Duration,
    /// For so long, which is more than followers wait before they elect another one.
    quiet: Duration,
    /// Then it speaks for so long.
    speak: Duration,
}

impl Silence {
    /// For these settings of the log: the longest wait before an election, and the pause between heartbeats.
    pub(crate) fn new(election: Duration, heartbeat: Duration) -> Self {
        let rhythm = Rhythm { after: 2 * election, quiet: 3 * election, speak: 2 * heartbeat };
        Self { metrics: OnceLock::new(), rhythm }
    }

    /// From now on the node says how it stands; before that nobody is silent.
    pub(crate) fn follow(&self, metrics: watch::Receiver<RaftMetrics<u64, Peer>>) {
        // A node has one stream of metrics, which is set once, when it starts.
        drop(self.metrics.set(metrics));
    }

    /// Whether this node leads and is to be silent now.
    pub(crate) fn holds(&self) -> bool {
        let Some(metrics) = self.metrics.get() else { return false };
        let unheard = metrics.borrow().millis_since_quorum_ack;
        unheard.is_some_and(|ms| self.rhythm.is_silent(Duration::from_millis(ms)))
    }
}

impl Rhythm {
    fn is_silent(&self, unheard: Duration) -> bool {
        let Some(over) = unheard.checked_sub(self.after) else { return false };
        over.as_millis() % (self.quiet + self.speak).as_millis().max(1) < self.quiet.as_millis()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leader_without_a_majority_is_silent_and_speaks_now_and_then() {
        let Silence { rhythm, .. } = Silence::new(Duration::from_millis(900), Duration::from_millis(150));
        let silent = |ms| rhythm.is_silent(Duration::from_millis(ms));
        assert!(
            [0, 1_000, 1_799].into_iter().all(|ms| !silent(ms)),
            "a majority answers, or did a moment ago"
        );
        assert!([1_800, 3_000, 4_499].into_iter().all(silent), "for longer than followers wait");
        assert!([4_500, 4_799].into_iter().all(|ms| !silent(ms)), "it may be the only one that can lead");
        assert!(silent(4_800) && !silent(7_600));
    }
}
