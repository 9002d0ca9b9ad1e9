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

/// Whole part and ten-thousandths of a number that is the double closest to a decimal with at most four digits behind the
/// point, as prices and measurements are. Such a decimal of up to fifteen digits is the only one of so few digits
/// that reads back as this double, so it is the shortest; to find it costs a division or two instead of a search.
#[inline(always)]
fn short_decimal(value: f64) -> Option<(u64, u32)> {
    // Smaller numbers are written with an exponent, larger ones have too many digits.
    if !(0.001..1e10).contains(&value) {
        return None;
    }
    let hundredths = (value * 1e2 + 0.5) as u64;
    if hundredths as f64 / 1e2 == value {
        return Some((hundredths / 100, (hundredths % 100 * 100) as u32));
    }
    let parts = (value * 1e4 + 0.5) as u64;
    (parts as f64 / 1e4 == value).then_some((parts / 10_000, (parts % 10_000) as u32))
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
        if let Some((whole, fraction)) = short_decimal(value.abs()) {
            if value < 0.0 {
                self.byte(b'-');
            }
            let mut text = itoa::Buffer::new();
            self.bytes(text.format(whole).as_bytes());
            return self.fraction(fraction);
        }
        let mut text = zmij::Buffer::new();
        self.bytes(text.format_finite(value).as_bytes());
    }

    /// Writes the point and up to four digits, without zeros at the end but at least one digit.
    #[inline(always)]
    fn fraction(&mut self, ten_thousandths: u32) {
        let (high, low) = (ten_thousandths / 100, ten_thousandths % 100);
        let digit = |n: u32| b'0' + n as u8;
        let mut text = [0; 16];
        text[0] = b'.';
        text[1..5].copy_from_slice(&[digit(high / 10), digit(high % 10), digit(low / 10), digit(low % 10)]);
        let zeros = text[2..5].iter().rev().take_while(|b| **b == b'0').count();
        self.part(text, 5 - zeros);
    }

    /// The same in single precision.
    pub(super) fn float32(&mut self, value: f32) {
        self.room(0);
        let mut text = zmij::Buffer::new();
        self.bytes(text.format_finite(value).as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(value: f64) -> String {
        let mut pen = Pen::default();
        pen.float(value);
        let mut out = Vec::new();
        pen.flush(&mut out);
        String::from_utf8(out).expect("digits")
    }

    fn searched(value: f64) -> String {
        zmij::Buffer::new().format_finite(value).to_owned()
    }

    #[test]
    fn numbers_are_as_short_as_can_be() {
        let edges =
            [0.0, -0.0, 0.001, 0.0009, 0.0001, 1e-5, 1e10, 9_999_999_999.999_9, 1e15, 1e16, 1e300, 5e-324];
        for value in edges.into_iter().chain([0.1 + 0.2, 1.0, 500.0, 984.59, 905.8228, -12.5, f64::MAX]) {
            assert_eq!(written(value), searched(value));
        }
    }

    proptest! {
        #[test]
        fn decimals_are_written_alike(digits in 0u64..100_000_000_000_000, scale in 0usize..6, minus: bool) {
            let value = digits as f64 / [1.0, 1e1, 1e2, 1e3, 1e4, 1e5][scale] * if minus { -1.0 } else { 1.0 };
            prop_assert_eq!(written(value), searched(value));
            prop_assert_eq!(written(value * 0.92), searched(value * 0.92));
            prop_assert_eq!(written(value.next_up()), searched(value.next_up()));
        }

        #[test]
        fn all_numbers_are_written_alike(value in prop::num::f64::NORMAL | prop::num::f64::SUBNORMAL | prop::num::f64::ZERO) {
            prop_assert_eq!(written(value), searched(value));
        }
    }
}
