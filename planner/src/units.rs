//! Durations and sizes as people write them.

/// `250ms`, `10s`, `5m`, `1h`, `2d`, also with a fraction (`1.5s`), to milliseconds.
pub(crate) fn duration_ms(text: &str) -> Option<u64> {
    let (number, unit) = split(text)?;
    let factor = match unit {
        "ms" => 1.0,
        "s" => 1e3,
        "m" => 60e3,
        "h" => 3_600e3,
        "d" => 86_400e3,
        _ => return None,
    };
    whole(number * factor)
}

/// `64KiB`, `128MB`, `1 GiB` or a plain number, to bytes.
pub(crate) fn size_bytes(text: &str) -> Option<u64> {
    let (number, unit) = split(text)?;
    let factor = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "kb" => 1e3,
        "mb" => 1e6,
        "gb" => 1e9,
        "tb" => 1e12,
        "kib" => 1024.0,
        "mib" => 1_048_576.0,
        "gib" => 1_073_741_824.0,
        "tib" => 1_099_511_627_776.0,
        _ => return None,
    };
    whole(number * factor)
}

fn split(text: &str) -> Option<(f64, &str)> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    Some((text[..end].parse().ok()?, text[end..].trim_start()))
}

fn whole(value: f64) -> Option<u64> {
    // Beyond 2^53 a float no longer counts in ones, and no limit in a manifest is that large.
    (value.fract() == 0.0 && value <= 9_007_199_254_740_992.0).then_some(value as u64)
}

/// Milliseconds in the largest unit that gives a whole number.
pub(crate) fn show_duration(ms: u64) -> String {
    for (unit, factor) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)] {
        if ms >= factor && ms.is_multiple_of(factor) {
            return format!("{}{unit}", ms / factor);
        }
    }
    format!("{ms}ms")
}

/// Bytes in the largest binary unit that they reach.
pub(crate) fn show_size(bytes: u64) -> String {
    for (unit, shift) in [("GiB", 30u32), ("MiB", 20), ("KiB", 10)] {
        if bytes >= 1 << shift {
            let value = bytes as f64 / (1u64 << shift) as f64;
            return if value.fract() == 0.0 {
                format!("{value:.0} {unit}")
            } else {
                format!("{value:.1} {unit}")
            };
        }
    }
    format!("{bytes} B")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(duration_ms("250ms"), Some(250));
        assert_eq!(duration_ms("1.5s"), Some(1500));
        assert_eq!(duration_ms("1h"), Some(3_600_000));
        for wrong in ["", "5", "5 parsecs", "-1s", "s", "1.2.3s", "99999999999999999d"] {
            assert_eq!(duration_ms(wrong), None, "{wrong}");
        }
        assert_eq!(show_duration(90_000), "90s");
        assert_eq!(show_duration(7_200_000), "2h");
    }

    #[test]
    fn sizes() {
        assert_eq!(size_bytes("64KiB"), Some(65536));
        assert_eq!(size_bytes("128MB"), Some(128_000_000));
        assert_eq!(size_bytes("12"), Some(12));
        assert_eq!(size_bytes("12 llamas"), None);
        assert_eq!(show_size(8 << 20), "8 MiB");
        assert_eq!(show_size(1536), "1.5 KiB");
    }
}
