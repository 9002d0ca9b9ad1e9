//! Row counters of a task: the conservation law `rows in = rows out + dead letters + filtered` is checked on them.

use serde::{Deserialize, Serialize};

/// Rows and bytes that went through a task since the last committed epoch (in an ack) or since its start (in metrics).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RowCounters {
    /// Rows taken in: read by a source (rows that did not parse and rows pruned by a pushed predicate too), received by others.
    pub rows_in: u64,
    /// Rows handed on, counted once however many edges they take; rows written by a sink.
    pub rows_out: u64,
    /// Rows that became dead letters here.
    pub dead_letters: u64,
    /// Rows dropped on purpose: filters, misses with `drop`, duplicates, late rows with `drop`, rows that no sink wants.
    pub filtered: u64,
    /// Rows added by steps that make several rows of one (explode).
    pub expanded: u64,
    /// Bytes read from or written to the world outside.
    pub bytes: u64,
}

impl RowCounters {
    /// Whether no row was lost or made up: `in + expanded = out + dead letters + filtered`.
    pub fn conserved(&self) -> bool {
        self.rows_in + self.expanded == self.rows_out + self.dead_letters + self.filtered
    }

    /// Adds another task's or epoch's counters.
    pub fn add(&mut self, other: &RowCounters) {
        self.rows_in += other.rows_in;
        self.rows_out += other.rows_out;
        self.dead_letters += other.dead_letters;
        self.filtered += other.filtered;
        self.expanded += other.expanded;
        self.bytes += other.bytes;
    }
}
