//! Which key comes next: records of one file mostly have the same keys in the same order, written the same way.

use std::collections::HashMap;

use super::super::text_scan::sixteen;

/// The slot of a key that is not wanted.
pub(super) const UNWANTED: usize = usize::MAX;

/// Keys learned beyond which none is added: a file whose keys are never the same must not fill the memory.
const MAX_LEARNED: usize = 1024;

/// Longest text between two values that is learned.
const MAX_TEXT: usize = 256;

/// Places behind the expected one that are tried before a key is looked up: keys may be left out.
const LOOK_AHEAD: usize = 2;

/// The text from the end of one value to the start of the next, as it stood in an earlier record: `,"key":` or
/// `, "key": ` or, for the first, `{"key":`.
#[derive(Debug)]
struct Step {
    head: u128,
    mask: u128,
    text: Box<[u8]>,
    slot: usize,
}

impl Step {
    fn new(text: &[u8], slot: usize) -> Self {
        let mut head = [0; 16];
        let n = text.len().min(16);
        head[..n].copy_from_slice(&text[..n]);
        let mask = if n == 16 { u128::MAX } else { (1 << (8 * n)) - 1 };
        Self { head: u128::from_le_bytes(head), mask, text: text.into(), slot }
    }

    #[inline(always)]
    fn matches(&self, input: &[u8], at: usize) -> bool {
        match sixteen(input, at) {
            Some(chunk) => {
                let same = (u128::from_le_bytes(chunk) ^ self.head) & self.mask == 0;
                same && (self.text.len() <= 16 || input[at + 16..].starts_with(&self.text[16..]))
            }
            None => input[at..].starts_with(&self.text),
        }
    }
}

/// Wanted keys, and the order in which keys were last seen. The order only makes it faster.
#[derive(Debug)]
pub(super) struct Keys {
    slots: HashMap<Box<[u8]>, usize>,
    steps: Vec<Step>,
}

impl Keys {
    /// Keys by their slot.
    pub(super) fn new<'a>(names: impl Iterator<Item = &'a str>) -> Self {
        let slots = names.enumerate().map(|(slot, name)| (name.as_bytes().into(), slot)).collect();
        Self { slots, steps: Vec::new() }
    }

    /// The slot of a key, [`UNWANTED`] if it is none.
    pub(super) fn slot(&self, key: &[u8]) -> usize {
        self.slots.get(key).copied().unwrap_or(UNWANTED)
    }

    /// If the text at `at` is one that stood at place `place` of an earlier record or soon behind it: the place behind
    /// it, the slot of its key and the start of the value.
    #[inline(always)]
    pub(super) fn predict(&self, input: &[u8], at: usize, place: usize) -> Option<(usize, usize, usize)> {
        for ahead in place..=place + LOOK_AHEAD {
            let step = self.steps.get(ahead)?;
            if step.matches(input, at) {
                return Some((ahead + 1, step.slot, at + step.text.len()));
            }
        }
        None
    }

    /// Remembers that `text` stood at place `place`, and led to `slot`.
    pub(super) fn learn(&mut self, place: usize, text: &[u8], slot: usize) {
        if text.len() > MAX_TEXT || place > self.steps.len() || place >= MAX_LEARNED {
            return;
        }
        let step = Step::new(text, slot);
        match self.steps.get_mut(place) {
            Some(known) => *known = step,
            None => self.steps.push(step),
        }
    }
}
