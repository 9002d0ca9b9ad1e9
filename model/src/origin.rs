//! Where rows came from: source, split and position of every row of a batch, kept through filters and joins.
//!
//! A row's identity is `(source, split, position, sub)`. It does not depend on batch boundaries or on parallelism: the
//! position is the byte offset of the record in a text file, the row number in a columnar one, the offset in a log.

use std::sync::Arc;

use arrow_buffer::{BooleanBuffer, ScalarBuffer};

/// Positions of consecutive rows of one split.
#[derive(Debug, Clone, PartialEq)]
pub enum RowIds {
    /// Rows `start, start + 1, …`.
    Range {
        /// Position of the first row.
        start: u64,
        /// Number of rows.
        len: usize,
    },
    /// One position a row. `sub` numbers the rows that one record was expanded into, and is absent while all are 0.
    Listed {
        /// Position of each row.
        at: ScalarBuffer<u64>,
        /// Number within the record.
        sub: Option<ScalarBuffer<u32>>,
    },
}

impl RowIds {
    /// Number of rows.
    pub fn len(&self) -> usize {
        match self {
            RowIds::Range { len, .. } => *len,
            RowIds::Listed { at, .. } => at.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn get(&self, row: usize) -> (u64, u32) {
        match self {
            RowIds::Range { start, .. } => (start + row as u64, 0),
            RowIds::Listed { at, sub } => (at[row], sub.as_ref().map_or(0, |s| s[row])),
        }
    }

    fn slice(&self, offset: usize, length: usize) -> Self {
        match self {
            RowIds::Range { start, .. } => RowIds::Range { start: start + offset as u64, len: length },
            RowIds::Listed { at, sub } => RowIds::Listed {
                at: at.slice(offset, length),
                sub: sub.as_ref().map(|s| s.slice(offset, length)),
            },
        }
    }

    fn pick(&self, rows: impl Iterator<Item = usize> + Clone) -> Self {
        let at = rows.clone().map(|r| self.get(r).0).collect();
        let sub = match self {
            RowIds::Listed { sub: Some(sub), .. } => Some(rows.map(|r| sub[r]).collect()),
            _ => None,
        };
        RowIds::Listed { at, sub }
    }
}

/// Consecutive rows of a batch that come from one split.
#[derive(Debug, Clone, PartialEq)]
pub struct Segment {
    /// Name of the source in the manifest.
    pub source: Arc<str>,
    /// The split: a file's URL, a partition.
    pub split: Arc<str>,
    /// Positions of the rows.
    pub rows: RowIds,
}

/// Source, split and position of one row.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowRef {
    /// Name of the source in the manifest.
    pub source: Arc<str>,
    /// The split.
    pub split: Arc<str>,
    /// Position of the record in the split.
    pub position: u64,
    /// Number of the row within its record.
    pub sub: u32,
}

/// Where each row of a batch came from, as runs of rows of one split. Cheap to clone and to slice.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Origin {
    segments: Vec<Segment>,
}

impl Origin {
    /// The origin of rows that all come from one split.
    pub fn new(source: Arc<str>, split: Arc<str>, rows: RowIds) -> Self {
        Self { segments: vec![Segment { source, split, rows }] }
    }

    /// The runs, in row order.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.segments.iter().map(|s| s.rows.len()).sum()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where row `row` came from.
    ///
    /// # Panics
    /// If `row` is out of bounds.
    pub fn get(&self, row: usize) -> RowRef {
        let mut row = row;
        for s in &self.segments {
            if row < s.rows.len() {
                let (position, sub) = s.rows.get(row);
                return RowRef { source: s.source.clone(), split: s.split.clone(), position, sub };
            }
            row -= s.rows.len();
        }
        panic!("row out of bounds of its origin");
    }

    /// Rows `offset .. offset + length`.
    #[must_use]
    pub fn slice(&self, offset: usize, length: usize) -> Self {
        let mut segments = Vec::with_capacity(1);
        let (mut skip, mut want) = (offset, length);
        for s in &self.segments {
            let n = s.rows.len();
            if skip >= n {
                skip -= n;
                continue;
            }
            let take = want.min(n - skip);
            if take == 0 {
                break;
            }
            segments.push(Segment { rows: s.rows.slice(skip, take), ..s.clone() });
            want -= take;
            skip = 0;
        }
        Self { segments }
    }

    /// The rows whose bit is set.
    #[must_use]
    pub fn filter(&self, keep: &BooleanBuffer) -> Self {
        let mut segments = Vec::with_capacity(self.segments.len());
        let mut at = 0;
        for s in &self.segments {
            let n = s.rows.len();
            let rows = s.rows.pick(keep.slice(at, n).set_indices().collect::<Vec<_>>().into_iter());
            at += n;
            if !rows.is_empty() {
                segments.push(Segment { rows, ..s.clone() });
            }
        }
        Self { segments }
    }

    /// The rows at `indices`, in that order; an index may repeat, which is how one record becomes several rows.
    ///
    /// Repeats of an index that follow each other are numbered in `sub` from the row's own number on.
    #[must_use]
    pub fn take(&self, indices: &[u32]) -> Self {
        let starts: Vec<usize> = self
            .segments
            .iter()
            .scan(0, |at, s| {
                let start = *at;
                *at += s.rows.len();
                Some(start)
            })
            .collect();
        let mut segments: Vec<Segment> = Vec::with_capacity(self.segments.len());
        let mut run: Vec<(u64, u32)> = Vec::new();
        let mut run_of = usize::MAX;
        let mut previous = None;
        for &index in indices {
            let index = index as usize;
            let of = starts.partition_point(|&s| s <= index) - 1;
            if of != run_of && !run.is_empty() {
                segments.push(self.listed(run_of, std::mem::take(&mut run)));
            }
            run_of = of;
            let (position, sub) = self.segments[of].rows.get(index - starts[of]);
            let sub = match (previous, run.last()) {
                (Some(p), Some(&(_, last))) if p == index => last + 1,
                _ => sub,
            };
            run.push((position, sub));
            previous = Some(index);
        }
        if !run.is_empty() {
            segments.push(self.listed(run_of, run));
        }
        Self { segments }
    }

    /// The rows at `indices`, in that order, where each record has become as many rows as follow each other here: they are
    /// numbered through in `sub`, from 0. `last` is the row that was numbered last, of an earlier batch too: a record whose
    /// rows are spread over batches is numbered as if it were in one, also where its rows had become several before.
    #[must_use]
    pub fn expand(&self, indices: &[u32], last: &mut Option<RowRef>) -> Self {
        let mut expanded = self.take(indices);
        for segment in &mut expanded.segments {
            let mut numbered = Vec::with_capacity(segment.rows.len());
            for row in 0..segment.rows.len() {
                let (position, _) = segment.rows.get(row);
                let sub = match last {
                    Some(l)
                        if l.position == position
                            && l.split == segment.split
                            && l.source == segment.source =>
                    {
                        l.sub + 1
                    }
                    _ => 0,
                };
                match last {
                    Some(l) if l.split == segment.split && l.source == segment.source => {
                        (l.position, l.sub) = (position, sub);
                    }
                    _ => {
                        let (source, split) = (segment.source.clone(), segment.split.clone());
                        *last = Some(RowRef { source, split, position, sub });
                    }
                }
                numbered.push((position, sub));
            }
            let sub = numbered.iter().any(|r| r.1 != 0).then(|| numbered.iter().map(|r| r.1).collect());
            segment.rows = RowIds::Listed { at: numbered.iter().map(|r| r.0).collect(), sub };
        }
        expanded
    }

    fn listed(&self, segment: usize, rows: Vec<(u64, u32)>) -> Segment {
        let sub = rows.iter().any(|r| r.1 != 0).then(|| rows.iter().map(|r| r.1).collect());
        let rows = RowIds::Listed { at: rows.iter().map(|r| r.0).collect(), sub };
        Segment { rows, ..self.segments[segment].clone() }
    }

    /// The rows of `parts`, one after the other.
    pub fn concat<'a>(parts: impl IntoIterator<Item = &'a Origin>) -> Self {
        let segments = parts.into_iter().flat_map(|o| o.segments.iter().cloned()).collect();
        Self { segments }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two_files() -> Origin {
        let a = Origin::new("s".into(), "a".into(), RowIds::Range { start: 10, len: 3 });
        let listed = RowIds::Listed { at: vec![0, 7, 20].into(), sub: None };
        let b = Origin::new("s".into(), "b".into(), listed);
        Origin::concat([&a, &b])
    }

    fn places(o: &Origin) -> Vec<(String, u64, u32)> {
        (0..o.len()).map(|i| o.get(i)).map(|r| (r.split.to_string(), r.position, r.sub)).collect()
    }

    #[test]
    fn slice_filter_and_take_follow_the_rows() {
        let o = two_files();
        assert_eq!(places(&o.slice(2, 2)), [("a".into(), 12, 0), ("b".into(), 0, 0)]);
        let keep = BooleanBuffer::from(vec![true, false, false, false, true, true]);
        assert_eq!(places(&o.filter(&keep)), [("a".into(), 10, 0), ("b".into(), 7, 0), ("b".into(), 20, 0)]);
        assert_eq!(
            places(&o.take(&[5, 0, 0])),
            [("b".into(), 20, 0), ("a".into(), 10, 0), ("a".into(), 10, 1)]
        );
    }

    #[test]
    fn rows_that_become_several_twice_have_numbers_of_their_own() {
        let o = two_files();
        let once = o.expand(&[0, 0, 0, 1], &mut None);
        assert_eq!(places(&once)[..3], [("a".into(), 10, 0), ("a".into(), 10, 1), ("a".into(), 10, 2)]);
        let indices = [0, 0, 1, 1, 2, 3, 3];
        let twice = places(&once.expand(&indices, &mut None));
        assert_eq!(
            twice.iter().map(|p| (p.1, p.2)).collect::<Vec<_>>()[..5],
            [(10, 0), (10, 1), (10, 2), (10, 3), (10, 4)]
        );
        let distinct: std::collections::BTreeSet<_> = twice.iter().collect();
        assert_eq!(distinct.len(), twice.len());
        // The same, cut into batches of one row.
        let mut last = None;
        let mut cut = Vec::new();
        for row in 0..4 {
            let repeats: Vec<u32> = indices.iter().filter(|i| **i == row).map(|_| 0).collect();
            cut.extend(places(&once.slice(row as usize, 1).expand(&repeats, &mut last)));
        }
        assert_eq!(cut, twice);
    }
}
