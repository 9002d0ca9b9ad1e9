//! Numbers from text: eight digits at a time, correctly rounded.

use super::text_scan::byte;

const POW10: [u64; 9] = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000];

/// Powers of ten that a double holds exactly.
const EXACT10: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18,
    1e19, 1e20, 1e21, 1e22,
];

/// Reads digits from `at` on behind the `value` read so far. Gives the value (wrapped, if there are too many) and the
/// place of the first byte that is no digit.
#[inline(always)]
fn digits(text: &[u8], mut at: usize, mut value: u64) -> (u64, usize) {
    while let Some(chunk) = text.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        // A digit is 0..=9 after the exclusive or; adding 0x76 sets the top bit of everything above.
        let word = u64::from_le_bytes(*chunk) ^ 0x3030_3030_3030_3030;
        let others = (word.wrapping_add(0x7676_7676_7676_7676) | word) & 0x8080_8080_8080_8080;
        let count = others.trailing_zeros() / 8;
        if count == 0 {
            return (value, at);
        }
        // Leading zeros take the place of what is not a digit; then neighbours are joined in pairs three times.
        let word = word << (64 - 8 * count);
        let word = word.wrapping_mul(2561) >> 8 & 0x00FF_00FF_00FF_00FF;
        let word = word.wrapping_mul(6_553_601) >> 16 & 0x0000_FFFF_0000_FFFF;
        let word = word.wrapping_mul(42_949_672_960_001) >> 32;
        value = value.wrapping_mul(POW10[count as usize]).wrapping_add(word);
        at += count as usize;
        if count < 8 {
            return (value, at);
        }
    }
    while byte(text, at).is_ascii_digit() {
        value = value.wrapping_mul(10).wrapping_add(u64::from(text[at] - b'0'));
        at += 1;
    }
    (value, at)
}

/// Reads the JSON integer at `at`: its value and its end. `None` if there is none, it goes on as a fraction, or it has
/// more than 18 digits; the slow way then says more.
#[inline(always)]
pub(super) fn integer(text: &[u8], at: usize) -> Option<(i64, usize)> {
    let negative = byte(text, at) == b'-';
    let first = at + usize::from(negative);
    let (value, end) = digits(text, first, 0);
    let count = end - first;
    let leading_zero = count > 1 && text[first] == b'0';
    if count == 0 || count > 18 || leading_zero || matches!(byte(text, end), b'.' | b'e' | b'E') {
        return None;
    }
    let value = value as i64;
    Some((if negative { -value } else { value }, end))
}

/// Reads the JSON number at `at` as a double: its value, correctly rounded, and its end. `None` if there is none or it
/// is out of range.
#[inline(always)]
pub(super) fn float(text: &[u8], at: usize) -> Option<(f64, usize)> {
    let negative = byte(text, at) == b'-';
    let first = at + usize::from(negative);
    let (mut mantissa, mut end) = digits(text, first, 0);
    let mut count = end - first;
    if count == 0 || (count > 1 && text[first] == b'0') {
        return None;
    }
    let mut fraction = 0;
    if byte(text, end) == b'.' {
        let start = end + 1;
        (mantissa, end) = digits(text, start, mantissa);
        fraction = end - start;
        if fraction == 0 {
            return None;
        }
        count += fraction;
    }
    if count > 18 || fraction > 22 || matches!(byte(text, end), b'e' | b'E') || mantissa > 1 << 53 {
        return float_slow(text, at, end);
    }
    let value = mantissa as f64 / EXACT10[fraction];
    Some((if negative { -value } else { value }, end))
}

/// Numbers with exponents or too many digits for exact arithmetic. `end` is behind the digits of the fraction.
fn float_slow(text: &[u8], at: usize, mut end: usize) -> Option<(f64, usize)> {
    if matches!(byte(text, end), b'e' | b'E') {
        end += 1 + usize::from(matches!(byte(text, end + 1), b'+' | b'-'));
        let start = end;
        while byte(text, end).is_ascii_digit() {
            end += 1;
        }
        if end == start {
            return None;
        }
    }
    let value: f64 = lexical_core::parse(&text[at..end]).ok()?;
    value.is_finite().then_some((value, end))
}

/// The end of the JSON number at `at`, if there is one.
pub(super) fn number_end(text: &[u8], at: usize) -> Option<usize> {
    let run = |mut at: usize| {
        while byte(text, at).is_ascii_digit() {
            at += 1;
        }
        at
    };
    let first = at + usize::from(byte(text, at) == b'-');
    let mut end = run(first);
    if end == first || (end - first > 1 && text[first] == b'0') {
        return None;
    }
    if byte(text, end) == b'.' {
        let start = end + 1;
        end = run(start);
        if end == start {
            return None;
        }
    }
    if matches!(byte(text, end), b'e' | b'E') {
        let start = end + 1 + usize::from(matches!(byte(text, end + 1), b'+' | b'-'));
        end = run(start);
        if end == start {
            return None;
        }
    }
    Some(end)
}

/// Why a number does not fit its column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Misfit {
    /// It is no number of this kind.
    Form,
    /// It is too large or too small.
    Range,
}

/// A whole number from a whole token, at any length. `1.0` and `1e3` are whole numbers too.
pub(super) fn whole(token: &[u8]) -> Result<i128, Misfit> {
    if number_end(token, 0) != Some(token.len()) {
        return Err(Misfit::Form);
    }
    scaled(token, 0)
}

/// A number from a whole token (JSON's grammar, already checked), times ten to the power `scale`, as a whole number.
pub(super) fn scaled(token: &[u8], scale: i32) -> Result<i128, Misfit> {
    let (mantissa, exponent) = match token.iter().position(|b| matches!(b, b'e' | b'E')) {
        Some(e) => {
            let text = std::str::from_utf8(&token[e + 1..]).map_err(|_| Misfit::Form)?;
            (&token[..e], text.parse::<i32>().map_err(|_| Misfit::Range)?)
        }
        None => (token, 0),
    };
    let point = mantissa.iter().position(|b| *b == b'.');
    let places = point.map_or(0, |p| mantissa.len() - p - 1);
    let places = i32::try_from(places).map_err(|_| Misfit::Range)?;
    let mut shift = scale.saturating_add(exponent).saturating_sub(places);
    let mut value = 0i128;
    let negative = mantissa.first() == Some(&b'-');
    let digits: Vec<i128> =
        mantissa.iter().filter(|b| b.is_ascii_digit()).map(|b| i128::from(b - b'0')).collect();
    let zeros = digits.iter().rev().take_while(|d| **d == 0).count();
    let all_zero = zeros == digits.len();
    // Zeros at the end say nothing that the shift cannot say.
    let kept = &digits[..digits.len() - zeros];
    shift = shift.saturating_add(i32::try_from(zeros).map_err(|_| Misfit::Range)?);
    for d in kept {
        value = value.checked_mul(10).and_then(|v| v.checked_add(*d)).ok_or(Misfit::Range)?;
    }
    if all_zero {
        return Ok(0);
    }
    if shift < 0 {
        return Err(Misfit::Form);
    }
    for _ in 0..shift.min(64) {
        value = value.checked_mul(10).ok_or(Misfit::Range)?;
    }
    Ok(if negative { -value } else { value })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn integers() {
        assert_eq!(integer(b"0,", 0), Some((0, 1)));
        assert_eq!(integer(b"-12}", 0), Some((-12, 3)));
        assert_eq!(integer(b"123456789012345678", 0), Some((123_456_789_012_345_678, 18)));
        for bad in ["", "-", "01", "1.5", "1e3", "x", "1234567890123456789"] {
            assert_eq!(integer(bad.as_bytes(), 0), None, "{bad}");
        }
        assert_eq!(whole(b"9223372036854775808"), Ok(1 << 63));
        assert_eq!(whole(b"1.50e1"), Ok(15));
        assert_eq!(whole(b"-100e-2"), Ok(-1));
        assert_eq!(whole(b"1.5"), Err(Misfit::Form));
        assert_eq!(whole(b"1e99"), Err(Misfit::Range));
        assert_eq!(whole(b"1.e1"), Err(Misfit::Form));
        assert_eq!(scaled(b"12.345", 3), Ok(12_345));
    }

    #[test]
    fn floats_refuse_what_json_refuses() {
        for bad in ["", "-", ".5", "1.", "01.5", "1e", "1e+", "nan", "1e999"] {
            assert_eq!(float(bad.as_bytes(), 0), None, "{bad}");
        }
        assert_eq!(float(b"16806794462673941505", 0).map(|f| f.0), Some(1.6806794462673943e19));
        assert_eq!(float(b"-0", 0).map(|f| f.0.to_bits()), Some((-0f64).to_bits()));
    }

    proptest! {
        #[test]
        fn integers_come_back(v in -999_999_999_999_999_999i64..=999_999_999_999_999_999, tail in "[,} ]{0,12}") {
            let text = format!("{v}{tail}");
            prop_assert_eq!(integer(text.as_bytes(), 0), Some((v, text.len() - tail.len())));
        }

        #[test]
        fn floats_are_rounded_as_the_standard_library_does(v in "-?(0|[1-9][0-9]{0,22})(\\.[0-9]{1,25})?([eE][+-]?[0-9]{1,2})?", tail in "[,} ]{0,12}") {
            let text = format!("{v}{tail}");
            let (ours, end) = float(text.as_bytes(), 0).expect("a number");
            prop_assert_eq!(end, v.len());
            prop_assert_eq!(ours.to_bits(), v.parse::<f64>().expect("a number").to_bits());
            prop_assert_eq!(number_end(text.as_bytes(), 0), Some(v.len()));
        }
    }
}
