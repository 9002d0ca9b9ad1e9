//! Numbers that look random and depend on their place alone.

/// A well-mixed number for a row and a use of it (the finalizer of SplitMix64, Steele et al. 2014).
pub(super) fn mix(seed: u64, row: u64, salt: u64) -> u64 {
    let mut z = seed ^ row.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ salt.wrapping_mul(0xd1b5_4a32_d192_ed03);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A number below `n`.
pub(super) fn below(seed: u64, row: u64, salt: u64, n: u64) -> u64 {
    ((u128::from(mix(seed, row, salt)) * u128::from(n)) >> 64) as u64
}

/// One of some words.
pub(super) fn pick<'a>(seed: u64, row: u64, salt: u64, words: &[&'a str]) -> &'a str {
    words[below(seed, row, salt, words.len() as u64) as usize]
}
