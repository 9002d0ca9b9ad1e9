//! Values as text, for encoders and messages.

use super::text_scan::sixteen;

/// Bytes of a value shown in a message.
const SHOWN: usize = 60;

/// A value for a message: cut, and with what is not text replaced.
pub(super) fn shown(value: &[u8]) -> String {
    let cut = &value[..value.len().min(SHOWN)];
    let text = String::from_utf8_lossy(cut);
    let text: String = text
        .chars()
        .flat_map(|c| if c.is_control() { c.escape_debug().collect() } else { vec![c] })
        .collect();
    if value.len() > SHOWN { format!("`{text}…`") } else { format!("`{text}`") }
}

/// Bytes gathered before they go out: small enough to stay in the processor's cache.
const GATHERED: usize = 48 << 10;

/// Room that is there for every short value.
pub(super) const SHORT: usize = 64;

/// Text being written. Its buffer is initialized beyond what is written, so that sixteen bytes can be put down where
/// fewer count.
#[derive(Debug, Default)]
pub(super) struct Pen {
    buffer: Vec<u8>,
    /// Bytes written.
    at: usize,
}

/// A short constant text.
#[derive(Debug, Clone)]
pub(super) struct Fixed {
    head: [u8; 16],
    text: Box<[u8]>,
}

impl Fixed {
    /// From its bytes.
    pub(super) fn new(text: &[u8]) -> Self {
        let mut head = [0; 16];
        let n = text.len().min(16);
        head[..n].copy_from_slice(&text[..n]);
        Self { head, text: text.into() }
    }
}

impl Pen {
    /// Makes room for `more` bytes and a short value.
    #[inline(always)]
    pub(super) fn room(&mut self, more: usize) {
        if self.buffer.len() < self.at + more + SHORT {
            self.grow(more);
        }
    }

    #[cold]
    fn grow(&mut self, more: usize) {
        let needed = (self.at + more + SHORT).max(2 * self.buffer.len()).max(2 * GATHERED);
        self.buffer.resize(needed, 0);
    }

    /// Bytes written and not yet sent.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// Takes back what was written from `at` on.
    pub(super) fn back(&mut self, at: usize) {
        self.at = at;
    }

    /// Sends what was written, if it is worth it.
    #[inline(always)]
    pub(super) fn send(&mut self, out: &mut Vec<u8>) {
        if self.at >= GATHERED {
            self.flush(out);
        }
    }

    /// Sends what was written.
    pub(super) fn flush(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.buffer[..self.at]);
        self.at = 0;
        // One giant value must not be paid for ever after.
        if self.buffer.len() > 16 * GATHERED {
            self.buffer = Vec::new();
        }
    }

    /// Writes a byte; there must be room.
    #[inline(always)]
    pub(super) fn byte(&mut self, byte: u8) {
        self.buffer[self.at] = byte;
        self.at += 1;
    }

    /// Writes bytes; there must be room.
    #[inline(always)]
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.buffer[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
    }

    /// Writes the first `count` of sixteen bytes; there must be room for all.
    #[inline(always)]
    pub(super) fn part(&mut self, bytes: [u8; 16], count: usize) {
        self.buffer[self.at..self.at + 16].copy_from_slice(&bytes);
        self.at += count;
    }

    /// Makes room and writes a constant.
    #[inline(always)]
    pub(super) fn fixed(&mut self, text: &Fixed) {
        self.room(text.text.len());
        if text.text.len() <= 16 {
            self.part(text.head, text.text.len());
        } else {
            self.bytes(&text.text);
        }
    }

    /// Writes bytes of any length, sixteen at a time.
    #[inline(always)]
    pub(super) fn plain(&mut self, bytes: &[u8]) {
        self.room(bytes.len());
        let mut at = 0;
        while let Some(chunk) = sixteen(bytes, at) {
            self.part(chunk, 16);
            at += 16;
        }
        self.bytes(&bytes[at..]);
    }

    /// Writes an integer.
    #[inline(always)]
    pub(super) fn integer(&mut self, value: impl itoa::Integer) {
        self.room(0);
        let mut text = itoa::Buffer::new();
        self.bytes(text.format(value).as_bytes());
    }

    /// Writes a finite number with as few digits as read back the same.
    #[inline(always)]
    pub(super) fn float(&mut self, value: f64) {
        self.room(0);
        let mut text = zmij::Buffer::new();
        self.bytes(text.format_finite(value).as_bytes());
    }

    /// The same in single precision.
    pub(super) fn float32(&mut self, value: f32) {
        self.room(0);
        let mut text = zmij::Buffer::new();
        self.bytes(text.format_finite(value).as_bytes());
    }
}
