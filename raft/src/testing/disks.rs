//! The disks of a simulation's machines, by data directory.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use conveyor_model::simulation;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::disk::Disk;
use crate::simdisk::{Fault, SimDisk};

thread_local! {
    static DISKS: RefCell<BTreeMap<String, SimDisk>> = const { RefCell::new(BTreeMap::new()) };
}

/// The disk of a data directory: one of the simulation's, that is there from the start.
pub(crate) fn disk(dir: &Path) -> Arc<dyn Disk> {
    Arc::new(simulated(dir))
}

fn simulated(dir: &Path) -> SimDisk {
    DISKS.with_borrow_mut(|all| all.entry(dir.display().to_string()).or_default().clone())
}

/// The machine of this data directory loses its power and gets it back: what was not fsynced is there whole, in part, or not
/// at all.
pub fn lose_power(dir: &Path) {
    simulated(dir).restart(&mut ChaCha8Rng::seed_from_u64(simulation::next()));
}

/// The machine of this data directory dies in the middle of one of the next `within` operations of its disk. Whether it has is
/// what [`has_died`] says; until then it goes on.
pub fn die_within(dir: &Path, within: u64) {
    simulated(dir).plan(simulation::below(within.max(1)), Fault::Crash);
}

/// A planned death that has not come will not.
pub fn calm(dir: &Path) {
    simulated(dir).calm();
}

/// Whether a planned death has come.
pub fn has_died(dir: &Path) -> bool {
    simulated(dir).crashed()
}
