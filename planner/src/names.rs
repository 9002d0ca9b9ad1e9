//! Names that stay the same while what they name does.

/// Four hex digits of a hash (FNV-1a, fixed for all time: state is found by names made with it).
pub(crate) fn short_hash(parts: &[&str]) -> String {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for part in parts {
        for byte in part.bytes().chain([0xff]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    let folded = (hash ^ (hash >> 32)) as u32;
    format!("{:04x}", (folded ^ (folded >> 16)) & 0xffff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_never_change() {
        assert_eq!(short_hash(&["filter", "a > 1"]), short_hash(&["filter", "a > 1"]));
        assert_ne!(short_hash(&["filter", "a > 1"]), short_hash(&["filtera", " > 1"]));
        expect_test::expect!["2d36"].assert_eq(&short_hash(&["dedupe", "id"]));
    }
}
