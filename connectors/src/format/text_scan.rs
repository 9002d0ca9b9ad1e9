//! Finding the structure of text: sixteen bytes at a time where there are as many.
//!
//! JSON tokens never span lines here: every scan stops at a control byte, and the end of the input counts as one.

use wide::u8x16;

/// The byte at `at`; beyond the end it reads as a line end, which ends every token.
#[inline(always)]
pub(super) fn byte(text: &[u8], at: usize) -> u8 {
    text.get(at).copied().unwrap_or(b'\n')
}

/// Sixteen bytes from `at` on, if there are as many.
#[inline(always)]
pub(super) fn sixteen(text: &[u8], at: usize) -> Option<[u8; 16]> {
    text.get(at..).and_then(|rest| rest.first_chunk::<16>()).copied()
}

/// First byte that is not a blank or a tab or a carriage return.
#[inline(always)]
pub(super) fn blanks(text: &[u8], mut at: usize) -> usize {
    while matches!(byte(text, at), b' ' | b'\t' | b'\r') {
        at += 1;
    }
    at
}

/// Where a JSON string ends and what it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StringEnd {
    /// The closing quote.
    pub(super) at: usize,
    /// Whether there is a backslash in it.
    pub(super) escaped: bool,
    /// Whether all bytes are ASCII.
    pub(super) ascii: bool,
}

/// Finds the closing quote of the JSON string whose first byte behind the opening quote is at `start`.
///
/// # Errors
/// The place of a control byte, or of the end of the text, that comes first.
#[inline(always)]
pub(super) fn string_end(text: &[u8], start: usize) -> Result<StringEnd, usize> {
    let (quote, slash) = (u8x16::splat(b'"'), u8x16::splat(b'\\'));
    let control = u8x16::splat(0x1f);
    let (mut at, mut high, mut escaped) = (start, 0u32, false);
    while let Some(chunk) = sixteen(text, at) {
        let v = u8x16::new(chunk);
        let stop = (v.simd_eq(quote) | v.simd_eq(slash) | v.min(control).simd_eq(v)).to_bitmask();
        let above = v.to_bitmask();
        if stop == 0 {
            high |= above;
            at += 16;
            continue;
        }
        let n = stop.trailing_zeros();
        high |= above & ((1 << n) - 1);
        at += n as usize;
        match text[at] {
            b'"' => return Ok(StringEnd { at, escaped, ascii: high == 0 }),
            b'\\' if byte(text, at + 1) >= 0x20 => {
                escaped = true;
                high |= u32::from(text[at + 1] >= 0x80);
                at += 2;
            }
            _ => return Err(at),
        }
    }
    string_tail(text, at, escaped, high == 0)
}

/// The same for the last bytes of the text.
fn string_tail(text: &[u8], mut at: usize, mut escaped: bool, mut ascii: bool) -> Result<StringEnd, usize> {
    loop {
        match byte(text, at) {
            b'"' => return Ok(StringEnd { at, escaped, ascii }),
            b'\\' if byte(text, at + 1) >= 0x20 => {
                escaped = true;
                ascii &= text[at + 1] < 0x80;
                at += 2;
            }
            b'\\' | 0..0x20 => return Err(at),
            b => {
                ascii &= b < 0x80;
                at += 1;
            }
        }
    }
}

/// Why a JSON value could not be skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SkipError {
    /// It is broken at this byte.
    Syntax(usize),
    /// It nests deeper than [`MAX_DEPTH`].
    Depth(usize),
}

/// Deepest nesting of arrays and objects in a value.
pub(super) const MAX_DEPTH: usize = 64;

/// End of the JSON value that starts at `at`. Only its outline is looked at: brackets are counted, strings are walked
/// over, other bytes are taken as they are.
///
/// # Errors
/// If it does not end on its line, or nests too deep.
pub(super) fn value_end(text: &[u8], at: usize) -> Result<usize, SkipError> {
    match byte(text, at) {
        b'"' => string_end(text, at + 1).map(|s| s.at + 1).map_err(SkipError::Syntax),
        b'{' | b'[' => nested_end(text, at),
        _ => {
            let mut end = at;
            while !matches!(byte(text, end), b',' | b'}' | b']' | b':' | b'"' | b'{' | b'[' | 0..=b' ') {
                end += 1;
            }
            if end == at { Err(SkipError::Syntax(at)) } else { Ok(end) }
        }
    }
}

fn nested_end(text: &[u8], mut at: usize) -> Result<usize, SkipError> {
    let mut depth = 0;
    loop {
        match byte(text, at) {
            b'"' => at = string_end(text, at + 1).map_err(SkipError::Syntax)?.at,
            b'{' | b'[' => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return Err(SkipError::Depth(at));
                }
            }
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return Ok(at + 1);
                }
            }
            b'\t' | b'\r' => {}
            0..0x20 => return Err(SkipError::Syntax(at)),
            _ => {}
        }
        at += 1;
    }
}

/// Appends a JSON string's bytes with its escapes undone.
///
/// # Errors
/// Why and where (within `raw`) an escape is wrong; a surrogate without its partner is one, because no text can hold it.
pub(super) fn unescape(raw: &[u8], out: &mut Vec<u8>) -> Result<(), (usize, &'static str)> {
    let mut at = 0;
    while let Some(next) = memchr::memchr(b'\\', &raw[at..]) {
        out.extend_from_slice(&raw[at..at + next]);
        at += next;
        let plain = match byte(raw, at + 1) {
            b'"' => b'"',
            b'\\' => b'\\',
            b'/' => b'/',
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                at += unescape_unit(raw, at, out)?;
                continue;
            }
            _ => return Err((at, "unknown escape")),
        };
        out.push(plain);
        at += 2;
    }
    out.extend_from_slice(&raw[at..]);
    Ok(())
}

/// Appends the character of the `\u` escape at `at`, of which there are two for one beyond the basic plane, and returns
/// the escape's length.
fn unescape_unit(raw: &[u8], at: usize, out: &mut Vec<u8>) -> Result<usize, (usize, &'static str)> {
    let hex = |from: usize| {
        let digits = raw.get(from..from + 4).ok_or((at, "cut \\u escape"))?;
        digits.iter().try_fold(0u32, |unit, d| match char::from(*d).to_digit(16) {
            Some(v) => Ok(unit << 4 | v),
            None => Err((at, "\\u escape without four hexadecimal digits")),
        })
    };
    let unit = hex(at + 2)?;
    let (code, length) = match unit {
        0xD800..0xDC00 if raw.get(at + 6..at + 8) == Some(b"\\u") => {
            let low = hex(at + 8)?;
            if !(0xDC00..0xE000).contains(&low) {
                return Err((at, "lone surrogate"));
            }
            (0x10000 + ((unit - 0xD800) << 10) + (low - 0xDC00), 12)
        }
        _ => (unit, 6),
    };
    let c = char::from_u32(code).ok_or((at, "lone surrogate"))?;
    out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    Ok(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_end_at_their_quote_wherever_it_stands() {
        for len in 0..40 {
            let mut text = vec![b'x'; len];
            text.push(b'"');
            assert_eq!(string_end(&text, 0), Ok(StringEnd { at: len, escaped: false, ascii: true }));
            text.extend_from_slice(&[b' '; 20]);
            assert_eq!(string_end(&text, 0), Ok(StringEnd { at: len, escaped: false, ascii: true }));
            if len > 1 {
                text[len - 2] = b'\\';
                assert_eq!(string_end(&text, 0), Ok(StringEnd { at: len, escaped: true, ascii: true }));
                text[len - 2] = 0xc3;
                assert_eq!(string_end(&text, 0), Ok(StringEnd { at: len, escaped: false, ascii: false }));
                text[len - 2] = b'\n';
                assert_eq!(string_end(&text, 0), Err(len - 2));
            }
        }
        assert_eq!(string_end(b"abc\\", 0), Err(3));
        assert_eq!(
            string_end("ab\"\u{e9}".as_bytes(), 0),
            Ok(StringEnd { at: 2, escaped: false, ascii: true })
        );
    }

    #[test]
    fn escapes_are_undone() {
        let mut out = Vec::new();
        assert_eq!(unescape(br#"a\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00z"#, &mut out), Ok(()));
        assert_eq!(String::from_utf8(out).expect("UTF-8"), "a\"\\/\u{8}\u{c}\n\r\t\u{e9}\u{1f600}z");
        for bad in ["\\x", "\\u12", "\\u12g4", "\\ud800", "\\ud800\\u0041", "\\udc00"] {
            assert!(unescape(bad.as_bytes(), &mut Vec::new()).is_err(), "{bad}");
        }
    }

    #[test]
    fn values_are_walked_over() {
        assert_eq!(value_end(br#"{"a":[1,"]}"],"b":{}},"#, 0), Ok(21));
        assert_eq!(value_end(b"12.5e3 ,", 0), Ok(6));
        assert_eq!(value_end(b",", 0), Err(SkipError::Syntax(0)));
        assert_eq!(value_end(b"[1,\n]", 0), Err(SkipError::Syntax(3)));
        assert_eq!(value_end(&[b'['; 70], 0), Err(SkipError::Depth(64)));
    }
}
