//! Dates and timestamps (RFC 3339, UTC) from text and to text.

use arrow::datatypes::TimeUnit;

use super::text_write::Pen;

/// A point in time: seconds since 1970-01-01T00:00:00Z and nanoseconds behind them.
pub(super) type Instant = (i64, u32);

/// Two digits.
#[inline(always)]
fn two(text: &[u8], at: usize) -> Option<u32> {
    let (a, b) = (text[at].wrapping_sub(b'0'), text[at + 1].wrapping_sub(b'0'));
    (a < 10 && b < 10).then(|| u32::from(a) * 10 + u32::from(b))
}

/// Days from 1970-01-01 to a day of the proleptic Gregorian calendar. Counts years from March on, so that the day
/// that comes and goes is the last of its year.
#[inline(always)]
fn days(year: i64, month: u32, day: u32) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = i64::from((153 * month + 2) / 5 + day - 1);
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

fn month_length(year: i64, month: u32) -> u32 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// A date `YYYY-MM-DD` as days since 1970-01-01.
#[inline(always)]
pub(super) fn date(text: &[u8]) -> Option<i64> {
    let text: &[u8; 10] = text.try_into().ok()?;
    let year = i64::from(two(text, 0)? * 100 + two(text, 2)?);
    let (month, day) = (two(text, 5)?, two(text, 8)?);
    let in_range = text[4] == b'-' && text[7] == b'-' && (1..=12).contains(&month) && day >= 1;
    (in_range && (day <= 28 || day <= month_length(year, month))).then(|| days(year, month, day))
}

/// A timestamp `YYYY-MM-DDTHH:MM:SS[.fraction][Z|±HH:MM]`. A blank may stand for the `T`; without a zone it is UTC.
/// Digits of the fraction beyond the ninth are dropped.
#[inline(always)]
pub(super) fn timestamp(text: &[u8]) -> Option<Instant> {
    let head: &[u8; 19] = text.first_chunk()?;
    let day = date(&head[..10])?;
    let (hour, minute, second) = (two(head, 11)?, two(head, 14)?, two(head, 17)?);
    let marks = matches!(head[10], b'T' | b' ' | b't') && head[13] == b':' && head[16] == b':';
    if !marks || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let seconds = day * 86_400 + i64::from(hour * 3_600 + minute * 60 + second);
    match &text[19..] {
        b"Z" | b"" => Some((seconds, 0)),
        rest => fraction_and_zone(rest, seconds),
    }
}

fn fraction_and_zone(mut rest: &[u8], seconds: i64) -> Option<Instant> {
    let mut nanos = 0;
    if let [b'.', tail @ ..] = rest {
        let count = tail.iter().take_while(|b| b.is_ascii_digit()).count();
        if count == 0 {
            return None;
        }
        for place in 0..9 {
            nanos = nanos * 10 + tail.get(place).filter(|_| place < count).map_or(0, |b| u32::from(b - b'0'));
        }
        rest = &tail[count..];
    }
    let offset = match rest {
        b"" | b"Z" | b"z" => 0,
        [sign @ (b'+' | b'-'), zone @ ..] => {
            let minutes = match zone {
                [_, _, b':', _, _] => two(zone, 3)?,
                [_, _, _, _] => two(zone, 2)?,
                [_, _] => 0,
                _ => return None,
            };
            let hours = two(zone, 0)?;
            if hours > 23 || minutes > 59 {
                return None;
            }
            let offset = i64::from(hours * 3_600 + minutes * 60);
            if *sign == b'-' { -offset } else { offset }
        }
        _ => return None,
    };
    Some((seconds - offset, nanos))
}

/// A point in time in a column's unit, cut to it; `None` if the unit cannot hold it.
#[inline(always)]
pub(super) fn in_unit((seconds, nanos): Instant, unit: TimeUnit) -> Option<i64> {
    let nanos = i64::from(nanos);
    match unit {
        TimeUnit::Second => Some(seconds),
        TimeUnit::Millisecond => Some(seconds * 1_000 + nanos / 1_000_000),
        TimeUnit::Microsecond => Some(seconds * 1_000_000 + nanos / 1_000),
        TimeUnit::Nanosecond => seconds.checked_mul(1_000_000_000)?.checked_add(nanos),
    }
}

/// The inverse of [`in_unit`].
#[inline(always)]
pub(super) fn from_unit(value: i64, unit: TimeUnit) -> Instant {
    let per_second = match unit {
        TimeUnit::Second => 1,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => 1_000_000_000,
    };
    let nanos = value.rem_euclid(per_second) * (1_000_000_000 / per_second);
    (value.div_euclid(per_second), nanos as u32)
}

/// Year, month and day of a number of days since 1970-01-01.
#[inline(always)]
fn civil(days: i64) -> (i64, u32, u32) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year + era * 400 + i64::from(month <= 2), month as u32, day as u32)
}

#[inline(always)]
fn put_two(out: &mut [u8], at: usize, value: u32) {
    out[at] = b'0' + (value / 10) as u8;
    out[at + 1] = b'0' + (value % 10) as u8;
}

/// Writes a date as `YYYY-MM-DD`. Years beyond 9999 get a sign and more digits, as ISO 8601 has them.
#[inline(always)]
pub(super) fn write_date(value: i64, out: &mut Pen) {
    let (year, month, day) = civil(value);
    let mut text = *b"0000-00-00......";
    put_two(&mut text, 5, month);
    put_two(&mut text, 8, day);
    out.room(0);
    if !(0..=9999).contains(&year) {
        let sign = if year < 0 { '-' } else { '+' };
        out.bytes(format!("{sign}{:05}", year.unsigned_abs()).as_bytes());
        out.bytes(&text[4..10]);
        return;
    }
    put_two(&mut text, 0, year as u32 / 100);
    put_two(&mut text, 2, year as u32 % 100);
    out.part(text, 10);
}

/// Writes a timestamp as RFC 3339, with as many digits of the fraction (0, 3, 6 or 9) as it needs, and `Z` if `zone`.
#[inline(always)]
pub(super) fn write_timestamp((seconds, nanos): Instant, zone: bool, out: &mut Pen) {
    write_date(seconds.div_euclid(86_400), out);
    let of_day = seconds.rem_euclid(86_400) as u32;
    let mut text = *b"T00:00:00Z......";
    put_two(&mut text, 1, of_day / 3_600);
    put_two(&mut text, 4, of_day / 60 % 60);
    put_two(&mut text, 7, of_day % 60);
    out.room(0);
    if nanos == 0 {
        out.part(text, 9 + usize::from(zone));
        return;
    }
    out.part(text, 9);
    let (width, value) = match nanos {
        n if n % 1_000_000 == 0 => (3, n / 1_000_000),
        n if n % 1_000 == 0 => (6, n / 1_000),
        n => (9, n),
    };
    out.bytes(format!(".{value:0width$}").as_bytes());
    if zone {
        out.byte(b'Z');
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::types::TimestampNanosecondType;
    use arrow::compute::kernels::cast_utils::{Parser, string_to_datetime};
    use proptest::prelude::*;

    use super::*;

    fn text(instant: Instant) -> String {
        let mut pen = Pen::default();
        write_timestamp(instant, true, &mut pen);
        let mut out = Vec::new();
        pen.flush(&mut out);
        String::from_utf8(out).expect("ASCII")
    }

    #[test]
    fn timestamps_from_text() {
        assert_eq!(timestamp(b"1970-01-01T00:00:00Z"), Some((0, 0)));
        assert_eq!(timestamp(b"2013-01-01T10:00:00.25+02:00"), Some((1_357_027_200, 250_000_000)));
        assert_eq!(timestamp(b"2024-02-29 23:59:59"), Some((1_709_251_199, 0)));
        assert_eq!(timestamp(b"1969-12-31T23:59:59.999999999999z"), Some((-1, 999_999_999)));
        for bad in [
            "",
            "2013-01-01",
            "2013-01-01T10:00",
            "2013-13-01T10:00:00Z",
            "2013-02-29T10:00:00Z",
            "2013-01-01T24:00:00Z",
            "2013-01-01T10:00:60Z",
            "2013-01-01T10:00:00.Z",
            "2013-01-01T10:00:00+2",
            "2013-01-01x10:00:00Z",
            "2013-01-01T10:00:00Z ",
            "2013-01-01T10:0a:00Z",
            "2013-00-01T10:00:00Z",
            "2013-01-00T10:00:00Z",
        ] {
            assert_eq!(timestamp(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn timestamps_to_text() {
        assert_eq!(text((0, 0)), "1970-01-01T00:00:00Z");
        assert_eq!(text((-1, 5_000_000)), "1969-12-31T23:59:59.005Z");
        assert_eq!(text((1, 1_000)), "1970-01-01T00:00:01.000001Z");
        assert_eq!(text((1, 1)), "1970-01-01T00:00:01.000000001Z");
        assert_eq!(text((-62_167_219_201, 0)), "-00001-12-31T23:59:59Z");
    }

    proptest! {
        #[test]
        fn timestamps_come_back(micros in -62_167_219_200_000_000i64..253_402_300_800_000_000) {
            let instant = from_unit(micros, TimeUnit::Microsecond);
            let text = text(instant);
            prop_assert_eq!(timestamp(text.as_bytes()), Some(instant));
            prop_assert_eq!(in_unit(instant, TimeUnit::Microsecond), Some(micros));
            let arrow = string_to_datetime(&chrono_utc(), &text).expect("arrow reads it");
            prop_assert_eq!(arrow.timestamp_micros(), micros);
        }

        #[test]
        fn dates_agree_with_arrow(day in -700_000i64..2_932_896) {
            let mut pen = Pen::default();
            write_date(day, &mut pen);
            let mut out = Vec::new();
            pen.flush(&mut out);
            if out.len() == 10 {
                prop_assert_eq!(date(&out), Some(day));
                let text = String::from_utf8(out).expect("ASCII");
                prop_assert_eq!(arrow::datatypes::Date32Type::parse(&text), Some(day as i32));
            }
        }

        #[test]
        fn what_we_read_arrow_reads_alike(text in "[12][09][0-9]{2}-[01][0-9]-[0-3][0-9][T ][0-2][0-9]:[0-5][0-9]:[0-6][0-9](\\.[0-9]{1,9})?(Z|[+-][01][0-9]:[0-5][0-9])?") {
            if let Some(ours) = timestamp(text.as_bytes()).and_then(|i| in_unit(i, TimeUnit::Nanosecond)) {
                prop_assert_eq!(TimestampNanosecondType::parse(&text), Some(ours));
            }
        }
    }

    fn chrono_utc() -> arrow::array::timezone::Tz {
        "+00:00".parse().expect("a zone")
    }
}
