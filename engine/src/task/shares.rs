//! What a task owes the epochs since the last committed one.
//!
//! An ack is cumulative: an aborted epoch's rows are in the next ack. Only a commit makes the task forget.

use std::collections::{BTreeMap, VecDeque};

use conveyor_model::manifest::StagedRef;
use conveyor_model::{Epoch, RowCounters};

/// A task's part of one epoch, or of several together.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Share {
    /// Rows and bytes.
    pub(crate) counters: RowCounters,
    /// Objects staged by the sink.
    pub(crate) staged: Vec<StagedRef>,
    /// Dead-letter objects.
    pub(crate) dead_letters: Vec<StagedRef>,
    /// Rows sent by edge.
    pub(crate) sent: Vec<(usize, u64)>,
    /// Bytes that count against the budget of uncommitted ones.
    pub(crate) uncommitted: u64,
    /// Dead letters by code.
    pub(crate) codes: BTreeMap<String, u64>,
}

impl Share {
    fn add(&mut self, other: &Share) {
        self.counters.add(&other.counters);
        self.staged.extend(other.staged.iter().cloned());
        self.dead_letters.extend(other.dead_letters.iter().cloned());
        self.uncommitted += other.uncommitted;
        add_codes(&mut self.codes, &other.codes);
        for &(edge, rows) in &other.sent {
            match self.sent.iter_mut().find(|(e, _)| *e == edge) {
                Some((_, sum)) => *sum += rows,
                None => self.sent.push((edge, rows)),
            }
        }
    }
}

/// Adds dead letters by code.
pub(crate) fn add_codes(sum: &mut BTreeMap<String, u64>, more: &BTreeMap<String, u64>) {
    for (code, n) in more {
        match sum.get_mut(code) {
            Some(sum) => *sum += n,
            None => {
                sum.insert(code.clone(), *n);
            }
        }
    }
}

/// Shares of the epochs that are not known to be committed, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Shares {
    /// Since the last barrier.
    pub(crate) open: Share,
    closed: VecDeque<(Epoch, Share)>,
}

impl Shares {
    /// Ends the open share at the barrier of `epoch` and returns the sum since the last committed epoch.
    pub(crate) fn close(&mut self, epoch: Epoch) -> Share {
        self.closed.push_back((epoch, std::mem::take(&mut self.open)));
        let mut sum = Share::default();
        self.closed.iter().for_each(|(_, share)| sum.add(share));
        sum
    }

    /// Forgets what is committed; returns the bytes that no longer count against the budget.
    pub(crate) fn forget(&mut self, committed: Epoch) -> u64 {
        let mut freed = 0;
        while self.closed.front().is_some_and(|(epoch, _)| *epoch <= committed) {
            freed += self.closed.pop_front().map_or(0, |(_, share)| share.uncommitted);
        }
        freed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(shares: &mut Shares, n: u64) {
        shares.open.counters.rows_in += n;
        shares.open.uncommitted += n;
        shares.open.sent = vec![(3, n)];
    }

    #[test]
    fn an_aborted_epoch_merges_into_the_next_and_a_committed_one_is_forgotten() {
        let mut shares = Shares::default();
        rows(&mut shares, 5);
        assert_eq!(shares.close(Epoch(1)).counters.rows_in, 5);
        rows(&mut shares, 7);
        let both = shares.close(Epoch(2));
        assert_eq!((both.counters.rows_in, both.sent), (12, vec![(3, 12)]));
        assert_eq!(shares.forget(Epoch(2)), 12);
        rows(&mut shares, 1);
        assert_eq!(shares.close(Epoch(4)).counters.rows_in, 1);
        assert_eq!(shares.forget(Epoch(3)), 0);
    }
}
