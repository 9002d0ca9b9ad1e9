//! Joins small batches before they go on: after a selective filter the cost of a batch would exceed that of its rows.

use conveyor_model::{Batch, Error, Result};

use crate::compact::compact;

/// Most bytes of small batches held at once.
const MAX_HELD_BYTES: u64 = 4 << 20;

/// Holds small batches until they make a whole one. Keeps the order of rows.
#[derive(Debug)]
pub(crate) struct Coalescer {
    target_rows: usize,
    held: Vec<Batch>,
    rows: usize,
    bytes: u64,
}

impl Coalescer {
    /// Aims at `target_rows` a batch; 0 or 1 hands every batch on as it is.
    pub(crate) fn new(target_rows: usize) -> Self {
        Self { target_rows, held: Vec::new(), rows: 0, bytes: 0 }
    }

    /// Whether nothing is held.
    pub(crate) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Takes a batch; what is ready to go on is put into `out`.
    ///
    /// # Errors
    /// If batches of different schemas meet: an operator broke its word.
    pub(crate) fn push(&mut self, batch: Batch, out: &mut Vec<Batch>) -> Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        if self.held.is_empty() && batch.num_rows() * 2 >= self.target_rows {
            out.push(batch);
            return Ok(());
        }
        if self.rows + batch.num_rows() > self.target_rows {
            self.flush(out)?;
            return self.push(batch, out);
        }
        let (rows, origin) = batch.into_parts();
        let batch = Batch::new(compact(rows), origin);
        self.rows += batch.num_rows();
        self.bytes += conveyor_model::credit::cost(batch.rows());
        self.held.push(batch);
        if self.rows >= self.target_rows || self.bytes >= MAX_HELD_BYTES {
            self.flush(out)?;
        }
        Ok(())
    }

    /// Puts all that is held into `out`.
    ///
    /// # Errors
    /// As for `push`.
    pub(crate) fn flush(&mut self, out: &mut Vec<Batch>) -> Result<()> {
        let held = std::mem::take(&mut self.held);
        self.rows = 0;
        self.bytes = 0;
        match held.len() {
            0 => {}
            1 => out.extend(held),
            _ => {
                let joined = Batch::concat(&held[0].schema(), &held).map_err(|e| {
                    Error::runtime("coalesce", "batches of one step differ in their columns").because(e)
                })?;
                out.push(joined);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{ids, numbers};

    proptest! {
        #[test]
        fn keeps_all_rows_in_order(sizes in prop::collection::vec(0usize..40, 0..30), target in 0usize..50) {
            let mut coalescer = Coalescer::new(target);
            let mut out = Vec::new();
            let mut next = 0;
            for n in sizes {
                coalescer.push(numbers("s", "a", next..next + n as i64), &mut out).unwrap();
                next += n as i64;
            }
            coalescer.flush(&mut out).unwrap();
            prop_assert!(coalescer.is_empty());
            let all: Vec<i64> = out.iter().flat_map(ids).collect();
            prop_assert_eq!(all, (0..next).collect::<Vec<_>>());
            let small = out.windows(2).filter(|w| w[0].num_rows() + w[1].num_rows() <= target / 2).count();
            prop_assert_eq!(small, 0, "two small neighbours should have been joined");
        }
    }
}
