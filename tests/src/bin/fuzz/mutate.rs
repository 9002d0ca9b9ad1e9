//! Changing an input in a few places, as damage and malice would.

use rand::Rng;
use rand_chacha::ChaCha8Rng;

/// Bytes that formats give a meaning to.
const TELLING: &[u8] = b"\0\x01\x7f\x80\xff\n\r\"'\\{}[]():,;&*!|<>#%@`-+.0123456789eE";
/// Numbers at which lengths and counts go wrong.
const NUMBERS: [u64; 9] = [0, 1, 0x7f, 0xff, 0x7fff, 0xffff, 0x7fff_ffff, 0xffff_ffff, u64::MAX];

/// A corpus entry with one to eight changes. In a `binary` format, whose parts are found by offsets, most entries keep their
/// length: otherwise hardly any would get past the header.
pub(crate) fn mutated(corpus: &[Vec<u8>], binary: bool, random: &mut ChaCha8Rng) -> Vec<u8> {
    let mut bytes = corpus[random.random_range(0..corpus.len())].clone();
    if binary && !bytes.is_empty() && random.random_bool(0.9) {
        for _ in 0..random.random_range(1..=3) {
            overwrite(&mut bytes, random);
        }
        return bytes;
    }
    for _ in 0..random.random_range(1..=8) {
        change(&mut bytes, corpus, random);
    }
    bytes
}

/// Changes a place without moving what stands behind it.
fn overwrite(bytes: &mut [u8], random: &mut ChaCha8Rng) {
    let at = random.random_range(0..bytes.len());
    match random.random_range(0..5) {
        0 => bytes[at] ^= 1 << random.random_range(0..8),
        1 => bytes[at] = TELLING[random.random_range(0..TELLING.len())],
        2 => bytes[at] = random.random(),
        3 => {
            let number = NUMBERS[random.random_range(0..NUMBERS.len())].to_le_bytes();
            let width = [1, 2, 4, 8][random.random_range(0..4)].min(bytes.len() - at);
            bytes[at..at + width].copy_from_slice(&number[..width]);
        }
        _ => {
            let length = random.random_range(1..=8.min(bytes.len() - at));
            let from = random.random_range(0..=bytes.len() - length);
            bytes.copy_within(from..from + length, at);
        }
    }
}

fn change(bytes: &mut Vec<u8>, corpus: &[Vec<u8>], random: &mut ChaCha8Rng) {
    if bytes.is_empty() {
        bytes.push(random.random());
        return;
    }
    let at = random.random_range(0..bytes.len());
    let end = at + random.random_range(1..=16.min(bytes.len() - at));
    match random.random_range(0..8) {
        0 => bytes[at] ^= 1 << random.random_range(0..8),
        1 => bytes[at] = TELLING[random.random_range(0..TELLING.len())],
        2 => drop(bytes.drain(at..end)),
        3 => {
            let part = bytes[at..end].to_vec();
            let times = random.random_range(1..64);
            bytes.splice(at..at, part.repeat(times));
        }
        4 => bytes.insert(at, TELLING[random.random_range(0..TELLING.len())]),
        5 => bytes.truncate(at),
        6 => {
            let number = NUMBERS[random.random_range(0..NUMBERS.len())].to_le_bytes();
            let width = [1, 2, 4, 8][random.random_range(0..4)].min(bytes.len() - at);
            bytes[at..at + width].copy_from_slice(&number[..width]);
        }
        _ => {
            let other = &corpus[random.random_range(0..corpus.len())];
            let from = random.random_range(0..=other.len());
            bytes.truncate(at);
            bytes.extend_from_slice(&other[from..]);
        }
    }
}
