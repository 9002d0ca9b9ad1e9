//! Whether this thread runs a simulated cluster, and the chance that its parts share: everything repeats with the seed.
//!
//! Only with the feature `simulation`; without it [`on`] is `false` at compile time and nothing of this remains.

#[cfg(feature = "simulation")]
use std::cell::Cell;

#[cfg(feature = "simulation")]
thread_local! {
    static STATE: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Makes this thread one of a simulation with this seed.
#[cfg(feature = "simulation")]
pub fn enter(seed: u64) {
    STATE.set(Some(seed));
}

/// Whether this thread runs a simulation: then nothing may leave it, and nothing may wait for another thread.
#[cfg(feature = "simulation")]
pub fn on() -> bool {
    STATE.get().is_some()
}

/// Whether this thread runs a simulation: never in this build.
#[cfg(not(feature = "simulation"))]
#[inline]
pub const fn on() -> bool {
    false
}

/// The next number of the simulation's chance (SplitMix64).
///
/// # Panics
/// Outside of a simulation.
#[cfg(feature = "simulation")]
pub fn next() -> u64 {
    let state = STATE.get().expect("only called in a simulation").wrapping_add(0x9E37_79B9_7F4A_7C15);
    STATE.set(Some(state));
    let mut z = state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// A number below `n`, which is not 0.
#[cfg(feature = "simulation")]
pub fn below(n: u64) -> u64 {
    next() % n
}

/// True `share` times of a thousand.
#[cfg(feature = "simulation")]
pub fn happens(share: u64) -> bool {
    below(1000) < share
}
