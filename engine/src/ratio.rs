//! The share of rows that become dead letters over a sliding minute: a changed schema must not divert everything in
//! silence.

use std::collections::VecDeque;

use parking_lot::Mutex;

/// Length of the window.
const WINDOW_SECONDS: u64 = 60;
/// Below this many rows in the window nothing is said.
pub(crate) const MIN_ROWS: u64 = 1000;

/// Counts rows and dead letters by second.
#[derive(Debug)]
pub(crate) struct Ratio {
    max: f64,
    seconds: Mutex<Seconds>,
}

#[derive(Debug, Default)]
struct Seconds {
    buckets: VecDeque<Bucket>,
    rows: u64,
    dead: u64,
}

#[derive(Debug, Default)]
struct Bucket {
    second: u64,
    rows: u64,
    dead: u64,
}

impl Ratio {
    /// A monitor that trips above `max` (0 to 1).
    pub(crate) fn new(max: f64) -> Self {
        Self { max, seconds: Mutex::default() }
    }

    /// Sources took in rows.
    pub(crate) fn rows(&self, rows: u64, now_us: u64) {
        self.seconds.lock().add(now_us, rows, 0);
    }

    /// Rows became dead letters. Returns `(dead, rows)` of the window when their ratio is above the limit.
    pub(crate) fn dead(&self, dead: u64, now_us: u64) -> Option<(u64, u64)> {
        let mut seconds = self.seconds.lock();
        seconds.add(now_us, 0, dead);
        let over = seconds.rows >= MIN_ROWS && seconds.dead as f64 > self.max * seconds.rows as f64;
        over.then_some((seconds.dead, seconds.rows))
    }
}

impl Seconds {
    fn add(&mut self, now_us: u64, rows: u64, dead: u64) {
        let second = now_us / 1_000_000;
        while let Some(first) = self.buckets.front() {
            if first.second + WINDOW_SECONDS > second {
                break;
            }
            self.rows -= first.rows;
            self.dead -= first.dead;
            self.buckets.pop_front();
        }
        if self.buckets.back().is_none_or(|b| b.second < second) {
            self.buckets.push_back(Bucket { second, ..Bucket::default() });
        }
        let last = self.buckets.back_mut().expect("a bucket was just made sure of");
        last.rows += rows;
        last.dead += dead;
        self.rows += rows;
        self.dead += dead;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trips_above_the_share_and_only_with_enough_rows() {
        let ratio = Ratio::new(0.05);
        ratio.rows(500, 0);
        assert_eq!(ratio.dead(400, 0), None, "too few rows to judge by");
        let ratio = Ratio::new(0.05);
        ratio.rows(1000, 0);
        assert_eq!(ratio.dead(50, 1), None);
        assert_eq!(ratio.dead(1, 2), Some((51, 1000)));
    }

    #[test]
    fn forgets_what_is_older_than_a_minute() {
        let ratio = Ratio::new(0.05);
        ratio.rows(2000, 0);
        assert_eq!(ratio.dead(90, 0), None);
        ratio.rows(2000, 59_000_000);
        assert_eq!(ratio.dead(90, 59_000_000), None);
        ratio.rows(1, 60_000_000);
        assert_eq!(ratio.dead(11, 60_000_000), Some((101, 2001)), "the first second is gone");
    }
}
