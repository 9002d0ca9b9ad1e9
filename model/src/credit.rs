//! Credits in bytes: what a sender may still put on a channel.
//!
//! Both sides keep cumulative counters since the start of `(incarnation, channel)`, never deltas, so that a lost or
//! repeated grant does no harm.

use arrow_array::{Array, RecordBatch};

/// Largest window of one channel, in bytes.
pub const MAX_WINDOW: u64 = 64 << 20;
/// Smallest cost charged for a batch: even an empty one takes a slot.
pub const MIN_COST: u64 = 64;

/// Cost of a batch in bytes: the memory that its rows reference, slice-aware.
///
/// A slice of a large buffer costs what the slice covers. String views cost their views and the bytes they point to.
pub fn cost(rows: &RecordBatch) -> u64 {
    let bytes: u64 = rows.columns().iter().map(|c| column_cost(c.as_ref())).sum();
    bytes.max(MIN_COST)
}

/// Cost of one column, as [`cost`] counts it.
pub fn column_cost(array: &dyn Array) -> u64 {
    use arrow_array::cast::AsArray;
    use arrow_schema::DataType;
    match array.data_type() {
        DataType::Utf8View => 16 * array.len() as u64 + array.as_string_view().total_bytes_len() as u64,
        DataType::BinaryView => 16 * array.len() as u64 + array.as_binary_view().total_bytes_len() as u64,
        _ => {
            let data = array.to_data();
            data.get_slice_memory_size().unwrap_or_else(|_| array.get_array_memory_size()) as u64
        }
    }
}

/// Sender's side of a channel: how much was granted and how much was spent, both since its start.
#[derive(Debug, Clone, Default)]
pub struct CreditLedger {
    granted: u64,
    spent: u64,
}

impl CreditLedger {
    /// A ledger with a first window.
    pub fn new(window: u64) -> Self {
        Self { granted: window, spent: 0 }
    }

    /// Takes note of a cumulative grant; an older or repeated one changes nothing.
    pub fn grant(&mut self, total: u64) {
        self.granted = self.granted.max(total);
    }

    /// Bytes that may be sent now.
    pub fn available(&self) -> u64 {
        self.granted.saturating_sub(self.spent)
    }

    /// Bytes sent so far.
    pub fn spent(&self) -> u64 {
        self.spent
    }

    /// Spends `cost` if it is covered; a batch that is larger than the whole window goes when nothing is in flight.
    pub fn try_spend(&mut self, cost: u64, in_flight: u64) -> bool {
        let ok = cost <= self.available() || in_flight == 0;
        if ok {
            self.spent += cost;
        }
        ok
    }
}

/// Receiver's side: the window follows the drain rate, `W = clamp(rate x 1 s, 2 batches, 64 MiB)`.
pub fn window(drained_bytes_per_second: f64, largest_batch: u64) -> u64 {
    let floor = (2 * largest_batch).min(MAX_WINDOW);
    (drained_bytes_per_second as u64).clamp(floor, MAX_WINDOW)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_and_old_grants_do_no_harm() {
        let mut ledger = CreditLedger::new(100);
        assert!(ledger.try_spend(80, 0));
        assert!(!ledger.try_spend(40, 80));
        ledger.grant(180);
        ledger.grant(120);
        ledger.grant(180);
        assert_eq!(ledger.available(), 100);
        assert!(ledger.try_spend(40, 80));
        assert_eq!(ledger.spent(), 120);
    }

    #[test]
    fn an_oversized_batch_goes_alone() {
        let mut ledger = CreditLedger::new(10);
        assert!(!ledger.try_spend(50, 1));
        assert!(ledger.try_spend(50, 0));
    }

    #[test]
    fn window_follows_the_rate_within_bounds() {
        assert_eq!(window(0.0, 1000), 2000);
        assert_eq!(window(1e12, 1000), MAX_WINDOW);
        assert_eq!(window(1e6, 1000), 1_000_000);
    }
}
