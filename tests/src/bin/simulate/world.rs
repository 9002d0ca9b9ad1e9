//! What lies outside of the simulated processes and outlives them: time, the record of what happened, the target.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use conveyor_model::Clock;
use conveyor_raft::ReplicatedLog;

use crate::target::Target;

/// Wall time at the start of every simulation: 2030-01-01.
const START_US: i64 = 1_893_456_000_000_000;

/// All that outlives the processes.
#[derive(Default)]
pub(crate) struct World {
    /// Time of the simulation in microseconds.
    pub(crate) now_us: u64,
    /// What must not happen, and did.
    pub(crate) violations: Vec<String>,
    /// FNV-1a of everything that was recorded.
    pub(crate) hash: u64,
    /// How much was recorded.
    pub(crate) events: u64,
    /// The logs of the routers that run, by node.
    pub(crate) logs: BTreeMap<u64, std::sync::Weak<ReplicatedLog>>,
    /// Writes after which a connection is gone, of a thousand.
    pub(crate) breaking: u64,
    /// The system that the pipeline writes to.
    pub(crate) target: Target,
    /// Shows what is recorded.
    pub(crate) verbose: bool,
}

thread_local! {
    static WORLD: RefCell<World> = RefCell::default();
}

/// Looks at or changes the world.
pub(crate) fn with<T>(what: impl FnOnce(&mut World) -> T) -> T {
    WORLD.with_borrow_mut(what)
}

/// Records that something happened. The record of two runs of a seed is the same.
pub(crate) fn record(what: &str) {
    with(|world| {
        let mut hash = world.hash ^ 0xcbf2_9ce4_8422_2325;
        for byte in world.now_us.to_le_bytes().into_iter().chain(what.bytes()) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        world.hash = hash;
        world.events += 1;
        if world.verbose {
            eprintln!("{:>10.3} {what}", world.now_us as f64 / 1e6);
        }
    });
}

/// Records that something happened that must not.
pub(crate) fn violation(what: String) {
    record(&format!("VIOLATION {what}"));
    with(|world| {
        if !world.violations.contains(&what) {
            world.violations.push(what);
        }
    });
}

/// The clock of a process: within a step of the simulation it goes on as far as the process has come.
pub(crate) struct SimClock;

impl SimClock {
    pub(crate) fn shared() -> Arc<dyn Clock> {
        Arc::new(Self)
    }
}

fn now_us() -> u64 {
    match turmoil::sim_elapsed() {
        Some(elapsed) => u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX),
        None => with(|world| world.now_us),
    }
}

impl Clock for SimClock {
    fn wall_us(&self) -> i64 {
        START_US + now_us() as i64
    }

    fn monotonic_us(&self) -> u64 {
        now_us()
    }
}

/// A panic in any task is a bug. It may come while the world is looked at.
pub(crate) fn panicked(what: &str) {
    WORLD.with(|world| {
        if let Ok(mut world) = world.try_borrow_mut() {
            world.violations.push(format!("a panic: {what}"));
        }
    });
}
