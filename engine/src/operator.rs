//! The seam between the runtime and the operators: what an operator is given, and what it may do with it.
//!
//! An operator is synchronous and vectorized and never waits. The runtime owns channels, barriers and dead letters; an
//! operator only says which rows go on, which fail and which are dropped on purpose.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use conveyor_model::dead_letter::RowError;
use conveyor_model::secret::Secrets;
use conveyor_model::{Batch, Clock, Result, Watermark};

use crate::lookups::LookupTables;

/// One step of a chain, at work in one subtask.
///
/// For every batch, `rows in + expanded = rows emitted + rows failed + filtered` must hold, summed over the life of the
/// operator; what an operator holds back it must give out at the latest in [`Operator::on_end`].
pub trait Operator: Send {
    /// Takes rows. Synchronous, vectorized, never waits.
    ///
    /// # Errors
    /// What no dead letter can stand for: the pipeline stops.
    fn on_batch(&mut self, batch: Batch, out: &mut Emitter) -> Result<()>;

    /// Event time has advanced; called before the watermark itself is forwarded.
    ///
    /// # Errors
    /// As for `on_batch`.
    fn on_watermark(&mut self, _watermark: Watermark, _out: &mut Emitter) -> Result<()> {
        Ok(())
    }

    /// Nothing follows: gives out what is held back.
    ///
    /// # Errors
    /// As for `on_batch`.
    fn on_end(&mut self, _out: &mut Emitter) -> Result<()> {
        Ok(())
    }

    /// An immutable snapshot of the state, `None` for a stateless operator.
    ///
    /// # Errors
    /// When the state cannot be written down.
    fn snapshot(&mut self) -> Result<Option<Bytes>> {
        Ok(None)
    }

    /// Takes the snapshots of all earlier subtasks; the operator keeps the keys that belong to its own subtask.
    ///
    /// # Errors
    /// `Corrupt` or `BadInput` when a snapshot cannot be read or has another form.
    fn restore(&mut self, _snapshots: &[Bytes]) -> Result<()> {
        Ok(())
    }

    /// How long the task is to wait before it takes the next batch; barriers are served meanwhile.
    fn delay(&self) -> Option<Duration> {
        None
    }
}

/// Stable id and name of a step: state and dead letters are found by the id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepInfo {
    /// Stable id.
    pub id: Arc<str>,
    /// Name shown to people.
    pub name: Arc<str>,
}

/// Failing rows of one step's input; one error a row.
#[derive(Debug, Clone)]
pub struct Failed {
    /// The failing rows alone.
    pub rows: Batch,
    /// `errors.len() == rows.num_rows()`.
    pub errors: Vec<RowError>,
}

/// Takes what an operator makes of its input.
#[derive(Debug, Default)]
pub struct Emitter {
    batches: Vec<Batch>,
    failed: Vec<Failed>,
    filtered: u64,
    expanded: u64,
    given_back: Option<Batch>,
}

impl Emitter {
    /// Hands rows on. Empty batches are left out.
    pub fn emit(&mut self, batch: Batch) {
        if !batch.is_empty() {
            self.batches.push(batch);
        }
    }

    /// Gives up rows of the step's input, with one error a row.
    ///
    /// # Panics
    /// If the two differ in length: the operator has lost track of its rows.
    pub fn fail(&mut self, rows: Batch, errors: Vec<RowError>) {
        assert_eq!(rows.num_rows(), errors.len(), "every failing row needs one error");
        if !errors.is_empty() {
            self.failed.push(Failed { rows, errors });
        }
    }

    /// Gives the whole input back, untouched, to be handed in again in two halves: what it would make is too much at
    /// once. Nothing else may have been said of its rows.
    pub fn give_back(&mut self, batch: Batch) {
        self.given_back = Some(batch);
    }

    /// Counts rows dropped on purpose.
    pub fn filtered(&mut self, rows: u64) {
        self.filtered += rows;
    }

    /// Counts rows added by making several of one: `k` rows of one row add `k - 1`.
    pub fn expanded(&mut self, rows: u64) {
        self.expanded += rows;
    }

    /// Takes the emitted batches, in order.
    pub fn take_batches(&mut self) -> Vec<Batch> {
        std::mem::take(&mut self.batches)
    }

    /// Takes the failed rows, in order.
    pub fn take_failed(&mut self) -> Vec<Failed> {
        std::mem::take(&mut self.failed)
    }

    /// Takes the input that was given back.
    pub fn take_given_back(&mut self) -> Option<Batch> {
        self.given_back.take()
    }

    /// Takes the counts of rows filtered and expanded since the last call.
    pub fn take_counts(&mut self) -> (u64, u64) {
        (std::mem::take(&mut self.filtered), std::mem::take(&mut self.expanded))
    }
}

/// What operators are built with.
#[derive(Clone)]
pub struct BuildContext<'a> {
    /// This subtask's number.
    pub subtask: u32,
    /// Number of subtasks of the node.
    pub parallelism: u32,
    /// The lookup tables, loaded.
    pub lookups: &'a LookupTables,
    /// Turns references into secrets.
    pub secrets: &'a dyn Secrets,
    /// Time.
    pub clock: Arc<dyn Clock>,
}
