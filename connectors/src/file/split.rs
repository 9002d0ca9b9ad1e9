//! Splits: which pieces a file is read in, which subtask reads a piece, and what is remembered of it.
//!
//! The id of a split is the file's URL, or `<url>#<start>-<end>` for a piece of it (bytes of a text file, row groups
//! of Parquet, record batches of IPC). Pieces have a fixed size, so that ids depend on the data alone.

use std::sync::Arc;

use conveyor_model::{Error, Position, Positions, Result, SplitState};
use serde::{Deserialize, Serialize};

use super::follow::Tail;
use super::listing::SourceFile;

/// A piece of a file, in the units of its format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Piece {
    /// First unit.
    pub(crate) start: u64,
    /// First unit behind.
    pub(crate) end: u64,
    /// Units of the whole file.
    pub(crate) total: u64,
}

/// One split.
#[derive(Clone)]
pub(crate) struct Split {
    /// Its id.
    pub(crate) id: Arc<str>,
    /// The file.
    pub(crate) file: Arc<SourceFile>,
    /// The piece, `None` for the whole file.
    pub(crate) piece: Option<Piece>,
    /// Which of the file's splits it is.
    pub(crate) number: u64,
}

impl Split {
    /// The whole file as one split.
    pub(crate) fn whole(file: &Arc<SourceFile>) -> Self {
        Split { id: file.url.clone(), file: file.clone(), piece: None, number: 0 }
    }

    /// The pieces that begin at `starts` (ascending, the first is 0), the last of which ends at `total`.
    pub(crate) fn pieces(file: &Arc<SourceFile>, starts: &[u64], total: u64) -> Vec<Self> {
        if starts.len() < 2 {
            return vec![Split::whole(file)];
        }
        let ends = starts[1..].iter().copied().chain([total]);
        let pieces = starts.iter().copied().zip(ends).enumerate();
        pieces
            .map(|(number, (start, end))| Split {
                id: format!("{}#{start}-{end}", file.url).into(),
                file: file.clone(),
                piece: Some(Piece { start, end, total }),
                number: number as u64,
            })
            .collect()
    }

    /// The pieces of a text file: every `range_bytes`.
    pub(crate) fn ranges(file: &Arc<SourceFile>, range_bytes: u64) -> Vec<Self> {
        let step = usize::try_from(range_bytes.max(1)).unwrap_or(usize::MAX);
        let starts: Vec<u64> = (0..file.size).step_by(step).collect();
        Split::pieces(file, &starts, file.size)
    }

    /// Whether this subtask reads it.
    pub(crate) fn belongs_to(&self, subtask: u32, parallelism: u32) -> bool {
        hash(&self.file.url).wrapping_add(self.number) % u64::from(parallelism.max(1)) == u64::from(subtask)
    }

    /// Bytes of the file that it covers, about.
    pub(crate) fn bytes(&self) -> u64 {
        match self.piece {
            None => self.file.size,
            Some(p) if p.total == self.file.size => p.end - p.start,
            Some(p) => {
                (u128::from(self.file.size) * u128::from(p.end - p.start) / u128::from(p.total.max(1))) as u64
            }
        }
    }
}

/// FNV-1a: the same in every process, unlike the standard library's hasher.
pub(crate) fn hash(text: &str) -> u64 {
    hash_bytes(text.as_bytes())
}

/// [`hash`] of any bytes.
pub(crate) fn hash_bytes(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3))
}

/// What a position says. Its meaning belongs to the reader of the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Progress {
    /// Where the next read starts: a byte offset in (decompressed) text, a row number elsewhere.
    pub(crate) next: u64,
    /// Length of the file in bytes.
    pub(crate) size: u64,
    /// Time of its last change, microseconds since 1970.
    pub(crate) modified_us: i64,
    /// Units of the whole file, for a piece.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) total: Option<u64>,
    /// What stands before `next`, for a file that may grow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) tail: Option<Tail>,
}

impl Progress {
    /// What to remember of a split.
    pub(crate) fn of(split: &Split, next: u64) -> Self {
        Progress {
            next,
            size: split.file.size,
            modified_us: split.file.modified_us,
            total: split.piece.map(|p| p.total),
            tail: None,
        }
    }

    /// Reads a restored position.
    ///
    /// # Errors
    /// `Corrupt` if this connector did not write it.
    pub(crate) fn read(split: &str, state: &SplitState) -> Result<Self> {
        serde_json::from_value(state.position.0.clone()).map_err(|e| {
            Error::new(
                conveyor_model::Kind::Corrupt,
                "position-unreadable",
                "a restored position cannot be read",
            )
            .in_split(split)
            .because(e)
        })
    }

    /// As the engine keeps it.
    pub(crate) fn state(self, done: bool) -> SplitState {
        let position = serde_json::to_value(self).expect("numbers can be written as JSON");
        SplitState { position: Position(position), done, event_time_max_us: None }
    }

    /// Whether the file is still the one that was read.
    pub(crate) fn fits(&self, file: &SourceFile) -> bool {
        self.size == file.size && self.modified_us == file.modified_us
    }
}

/// The URL of a split id.
pub(crate) fn url_of(id: &str) -> &str {
    id.split_once('#').map_or(id, |(url, _)| url)
}

/// Puts all pieces of a finished file into one entry, so that what is remembered does not grow with the number of pieces.
/// Does nothing unless every piece is there and done.
pub(crate) fn fold(positions: &mut Positions, url: &str) {
    let first = format!("{url}#");
    // `$` follows `#`: all ids in between are pieces of this file.
    let last = format!("{url}$");
    let mut pieces: Vec<(u64, u64)> = Vec::new();
    let (mut progress, mut event_time) = (None, None);
    for (id, state) in positions.range(first.clone()..last.clone()) {
        let range =
            id[first.len()..].split_once('-').and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
        let (Some(range), true, Ok(read)) = (range, state.done, Progress::read(id, state)) else { return };
        pieces.push(range);
        event_time = event_time.max(state.event_time_max_us);
        progress = Some(read);
    }
    pieces.sort_unstable();
    let Some(progress) = progress else { return };
    let total = pieces.iter().try_fold(0, |end, &(from, to)| (from == end).then_some(to));
    if total.is_none() || total != progress.total {
        return;
    }
    positions.retain(|id, _| !(*id >= first && *id < last));
    let whole = SplitState {
        event_time_max_us: event_time,
        ..Progress { total: None, next: progress.size, ..progress }.state(true)
    };
    positions.insert(url.to_owned(), whole);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finished_pieces_become_one_entry_and_unfinished_ones_stay() {
        let piece = |next, total| Progress { next, size: 20, modified_us: 7, total: Some(total), tail: None };
        let mut positions = Positions::new();
        positions.insert("file:///a#0-10".into(), piece(10, 20).state(true));
        positions.insert("file:///a#10-20".into(), piece(12, 20).state(false));
        positions.insert("file:///ab#0-20".into(), piece(12, 20).state(true));
        let before = positions.clone();
        fold(&mut positions, "file:///a");
        assert_eq!(positions, before);
        positions.insert("file:///a#10-20".into(), piece(20, 20).state(true));
        fold(&mut positions, "file:///a");
        assert_eq!(positions.keys().collect::<Vec<_>>(), ["file:///a", "file:///ab#0-20"]);
        assert!(positions["file:///a"].done);
    }
}
