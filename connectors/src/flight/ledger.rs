//! What was put on each line, pure: which batch is next, which was put before, which is committed.
//!
//! A line is what one producer puts, numbered 1, 2, 3 … by the producer, so that putting a batch again does not put its rows
//! twice; or what is put without a name, numbered as it comes. Each line is a split of the source.

use std::collections::BTreeMap;
use std::sync::Arc;

use conveyor_model::{Error, Kind, Position, Positions, Result, SplitState};
use serde::{Deserialize, Serialize};

/// Split of what is put without a name.
const NAMELESS: &str = "puts";
/// What the split of a producer begins with.
const PRODUCER: &str = "producer/";
/// Longest name of a producer, in bytes.
const MOST_NAME: usize = 128;
/// Producers of one source at most; each has a position in every manifest.
const MOST_PRODUCERS: usize = 1024;

/// How far a line is, as positions hold it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark {
    /// Number of the last batch.
    pub(super) sequence: u64,
    /// Rows up to and with that batch.
    pub(super) rows: u64,
}

impl Mark {
    fn after(self, rows: u64) -> Self {
        Self { sequence: self.sequence + 1, rows: self.rows + rows }
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Line {
    taken: Mark,
    read: Mark,
    committed: u64,
}

/// What becomes of a batch that is put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is the next one: with this number, its first row has this position.
    Next {
        /// Its number.
        sequence: u64,
        /// Rows of the line before it.
        start: u64,
    },
    /// It was put before and is not committed yet.
    Pending,
    /// It was put before and is committed.
    Committed,
}

/// All lines of a source.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    lines: BTreeMap<Arc<str>, Line>,
}

/// The split of a producer's rows, or of rows without one.
///
/// # Errors
/// `BadInput` for a name that is too long, or has strange characters.
pub(super) fn split_of(producer: Option<&str>) -> Result<Arc<str>> {
    let Some(name) = producer else { return Ok(NAMELESS.into()) };
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-@:".contains(c);
    if name.is_empty() || name.len() > MOST_NAME || !name.chars().all(plain) {
        let what = "a producer's name has 1 to 128 letters, digits and `.`, `_`, `-`, `@`, `:`";
        return Err(Error::bad_input("producer-name", what));
    }
    Ok(format!("{PRODUCER}{name}").into())
}

impl Ledger {
    /// Goes on where committed positions end.
    ///
    /// # Errors
    /// `Corrupt` if they are no positions of this source.
    pub(super) fn restore(positions: &Positions) -> Result<Self> {
        let mut lines = BTreeMap::new();
        for (split, state) in positions {
            let mark: Mark = serde_json::from_value(state.position.0.clone()).map_err(|e| {
                Error::new(Kind::Corrupt, "position-unreadable", "a restored position cannot be read")
                    .in_split(split)
                    .because(e)
            })?;
            let line = Line { taken: mark, read: mark, committed: mark.sequence };
            lines.insert(Arc::from(split.as_str()), line);
        }
        Ok(Self { lines })
    }

    /// What becomes of a batch with this number; without one it is the next.
    ///
    /// # Errors
    /// `BadInput` if batches before it are missing, `Exhausted` if there are too many producers.
    pub(super) fn judge(&self, split: &Arc<str>, sequence: Option<u64>) -> Result<Verdict> {
        let known = self.lines.get(split);
        if known.is_none() && self.lines.len() > MOST_PRODUCERS {
            let what = format!("{MOST_PRODUCERS} producers have put rows already");
            return Err(Error::new(Kind::Exhausted, "too-many-producers", what)
                .help("go on under a name that was used before; a name is no session"));
        }
        let line = known.copied().unwrap_or_default();
        let next = line.taken.sequence + 1;
        match sequence.unwrap_or(next) {
            s if s == next => Ok(Verdict::Next { sequence: next, start: line.taken.rows }),
            0 => Err(Error::bad_input("sequence-wrong", "the first batch of a producer has the number 1")),
            s if s <= line.committed => Ok(Verdict::Committed),
            s if s < next => Ok(Verdict::Pending),
            s => Err(Error::bad_input("sequence-gap", format!("batch {s} came, but {next} is the next one"))
                .help(format!("put from batch {next} on: what was not acknowledged may be lost"))),
        }
    }

    /// The next batch of a line is taken.
    pub(super) fn take(&mut self, split: &Arc<str>, rows: u64) {
        let line = self.lines.entry(split.clone()).or_default();
        line.taken = line.taken.after(rows);
    }

    /// The next batch of a line is read by the pipeline.
    pub(super) fn read(&mut self, split: &Arc<str>, rows: u64) {
        let line = self.lines.entry(split.clone()).or_default();
        line.read = line.read.after(rows);
    }

    /// Positions behind what is read.
    pub(super) fn positions(&self) -> Positions {
        let state = |mark: Mark| SplitState {
            position: Position(serde_json::json!({"sequence": mark.sequence, "rows": mark.rows})),
            done: false,
            event_time_max_us: None,
        };
        self.lines.iter().map(|(split, line)| (split.to_string(), state(line.read))).collect()
    }

    /// Everything up to these positions is committed.
    pub(super) fn commit(&mut self, positions: &Positions) {
        for (split, state) in positions {
            let sequence = state.position.0["sequence"].as_u64();
            if let (Some(line), Some(sequence)) = (self.lines.get_mut(split.as_str()), sequence) {
                line.committed = line.committed.max(sequence);
            }
        }
    }

    /// Number of the last committed batch of a line.
    pub(super) fn committed(&self, split: &str) -> u64 {
        self.lines.get(split).map_or(0, |line| line.committed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(sequence: u64, start: u64) -> Verdict {
        Verdict::Next { sequence, start }
    }

    #[test]
    fn a_batch_counts_once_however_often_it_is_put() {
        let split = split_of(Some("till-7")).unwrap();
        let mut ledger = Ledger::default();
        assert_eq!(ledger.judge(&split, Some(1)).unwrap(), next(1, 0));
        ledger.take(&split, 10);
        assert_eq!(ledger.judge(&split, Some(1)).unwrap(), Verdict::Pending);
        assert_eq!(ledger.judge(&split, Some(2)).unwrap(), next(2, 10));
        assert_eq!(ledger.judge(&split, Some(3)).unwrap_err().code(), "sequence-gap");
        assert_eq!(ledger.judge(&split, Some(0)).unwrap_err().code(), "sequence-wrong");
        // Taken is not read, and what is not read is in no position.
        assert_eq!(ledger.positions()["producer/till-7"].position.0["sequence"], 0);
        ledger.read(&split, 10);
        let positions = ledger.positions();
        ledger.take(&split, 5);
        ledger.commit(&positions);
        assert_eq!(ledger.judge(&split, Some(1)).unwrap(), Verdict::Committed);
        assert_eq!(ledger.judge(&split, Some(2)).unwrap(), Verdict::Pending);
        // After a restart the second batch is not known: it is put again, and its rows have the positions that they had.
        let restored = Ledger::restore(&positions).unwrap();
        assert_eq!(restored.judge(&split, Some(1)).unwrap(), Verdict::Committed);
        assert_eq!(restored.judge(&split, Some(2)).unwrap(), next(2, 10));
        assert_eq!(restored.committed(&split), 1);
    }

    #[test]
    fn batches_without_a_producer_are_numbered_as_they_come() {
        let split = split_of(None).unwrap();
        let mut ledger = Ledger::default();
        for n in 0..3 {
            assert_eq!(ledger.judge(&split, None).unwrap(), next(n + 1, 4 * n));
            ledger.take(&split, 4);
        }
    }

    #[test]
    fn names_and_positions_that_cannot_be_are_refused() {
        for name in ["", "a b", "ü", "a/b", &"x".repeat(129)] {
            assert_eq!(split_of(Some(name)).unwrap_err().code(), "producer-name", "{name}");
        }
        let state = SplitState { position: Position(7.into()), done: false, event_time_max_us: None };
        let error = Ledger::restore(&Positions::from([("puts".to_owned(), state)])).unwrap_err();
        assert_eq!(error.kind(), Kind::Corrupt);
    }
}
