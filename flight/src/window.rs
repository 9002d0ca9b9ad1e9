//! The window that a receiver grants: it follows the drain rate.

use conveyor_model::credit;

/// The window before the drain rate is known, in bytes.
pub(crate) const FIRST_WINDOW: u64 = 1 << 20;
/// How often the drain rate is measured.
const RATE_EVERY_US: u64 = 50_000;

/// What was drained, how fast, and what is granted by that. All counts are bytes of cost since the channel's start.
#[derive(Debug)]
pub(crate) struct Window {
    limit: u64,
    largest: u64,
    granted: u64,
    refunded: u64,
    since_us: u64,
    drained_then: u64,
    bytes_per_second: f64,
}

impl Window {
    /// A window of at most `limit` bytes, or two batches.
    pub(crate) fn new(limit: u64, now_us: u64) -> Self {
        Self {
            limit,
            largest: 0,
            granted: FIRST_WINDOW.min(limit),
            refunded: 0,
            since_us: now_us,
            drained_then: 0,
            bytes_per_second: 0.0,
        }
    }

    /// The sender has a smaller limit of its own.
    pub(crate) fn limit_to(&mut self, limit: u64) {
        self.limit = self.limit.min(limit);
    }

    /// The reader has taken a batch of `cost`.
    pub(crate) fn refund(&mut self, cost: u64, now_us: u64) {
        self.refunded += cost;
        self.largest = self.largest.max(cost);
        self.measure(now_us);
        // Until the first measurement the first window stands, unless batches are larger.
        let rate = self.bytes_per_second.max(FIRST_WINDOW as f64);
        let window = credit::window(rate, self.largest).min(self.limit.max(2 * self.largest));
        self.granted = self.granted.max(self.refunded + window);
    }

    fn measure(&mut self, now_us: u64) {
        let elapsed_us = now_us.saturating_sub(self.since_us);
        if elapsed_us < RATE_EVERY_US {
            return;
        }
        let now = (self.refunded - self.drained_then) as f64 * 1e6 / elapsed_us as f64;
        self.bytes_per_second = (self.bytes_per_second + now) / 2.0;
        (self.since_us, self.drained_then) = (now_us, self.refunded);
    }

    /// What the sender may have spent.
    pub(crate) fn granted(&self) -> u64 {
        self.granted
    }

    /// What the reader has taken.
    pub(crate) fn refunded(&self) -> u64 {
        self.refunded
    }

    /// The largest batch so far.
    pub(crate) fn largest(&self) -> u64 {
        self.largest
    }
}
