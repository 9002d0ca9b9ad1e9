//! What a process says of its pipelines: the last lines of its log, for people who ask from elsewhere.
//!
//! Bounded in lines and in bytes a line; the oldest goes first. What has to be kept is in the process's own log.

use std::collections::VecDeque;

use parking_lot::Mutex;

/// Lines that a journal keeps.
pub const LINES: usize = 2000;

/// Longest text of a line, in bytes.
pub const LINE_BYTES: usize = 2000;

/// A line of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Its number in this journal, from 1.
    pub number: u64,
    /// When, microseconds since 1970.
    pub at_us: i64,
    /// `error`, `warn`, `info`.
    pub level: String,
    /// `namespace/name` of the pipeline that it is about, if it is about one.
    pub pipeline: Option<String>,
    /// Name of the node in the plan, if it is about one.
    pub step: Option<String>,
    /// What it says.
    pub text: String,
}

/// The last lines of a process. Written by any thread, read by any.
#[derive(Debug, Default)]
pub struct Journal(Mutex<Ring>);

#[derive(Debug, Default)]
struct Ring {
    written: u64,
    lines: VecDeque<Line>,
}

impl Journal {
    /// Notes a line; its number is given here, and its text is cut to [`LINE_BYTES`].
    pub fn note(&self, mut line: Line) {
        let end = (0..=line.text.len().min(LINE_BYTES)).rev().find(|&at| line.text.is_char_boundary(at));
        line.text.truncate(end.unwrap_or(0));
        let mut ring = self.0.lock();
        ring.written += 1;
        line.number = ring.written;
        if ring.lines.len() == LINES {
            ring.lines.pop_front();
        }
        ring.lines.push_back(line);
    }

    /// The first lines after this number, at most so many, that `wanted` picks.
    pub fn after(&self, number: u64, most: usize, wanted: impl Fn(&Line) -> bool) -> Vec<Line> {
        let ring = self.0.lock();
        ring.lines.iter().filter(|l| l.number > number && wanted(l)).take(most).cloned().collect()
    }

    /// The last lines, at most so many, that `wanted` picks, oldest first.
    pub fn last(&self, most: usize, wanted: impl Fn(&Line) -> bool) -> Vec<Line> {
        let ring = self.0.lock();
        let mut found: Vec<Line> =
            ring.lines.iter().rev().filter(|l| wanted(l)).take(most).cloned().collect();
        found.reverse();
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Line {
        Line { number: 0, at_us: 1, level: "info".into(), pipeline: None, step: None, text: text.into() }
    }

    #[test]
    fn the_oldest_lines_go_and_long_ones_are_cut() {
        let journal = Journal::default();
        for n in 0..LINES + 5 {
            journal.note(line(&format!("{n} {}", "é".repeat(LINE_BYTES))));
        }
        let all = journal.after(0, usize::MAX, |_| true);
        assert_eq!((all.len(), all[0].number), (LINES, 6));
        assert!(all.iter().all(|l| l.text.len() <= LINE_BYTES));
        let last = journal.last(2, |l| l.number % 2 == 0);
        assert_eq!(last.iter().map(|l| l.number).collect::<Vec<_>>(), [LINES as u64 + 2, LINES as u64 + 4]);
        assert_eq!(journal.after(LINES as u64 + 3, 1, |_| true)[0].number, LINES as u64 + 4);
    }
}
