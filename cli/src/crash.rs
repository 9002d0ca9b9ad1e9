//! Crash points: a build with the feature `failpoints` can be told to die at a named place in the code.
//!
//! `CONVEYOR_CRASH_AT=name:3` aborts the process, as `kill -9` would, the third time that it passes `name`.

/// Names of all crash points of this build, in a fixed order; empty without the feature.
pub fn names() -> Vec<&'static str> {
    if !cfg!(feature = "failpoints") {
        return Vec::new();
    }
    [
        conveyor_epoch::FAILPOINTS,
        conveyor_engine::FAILPOINTS,
        &conveyor_connectors::file::FAILPOINTS,
        &conveyor_connectors::file::REMOTE_FAILPOINTS,
        conveyor_store::FAILPOINTS,
        conveyor_raft::FAILPOINTS,
    ]
    .concat()
}

/// Settings of the log. `CONVEYOR_SNAPSHOT_EVERY=16` lets a short run come by the crash points of snapshots.
pub fn log_options() -> conveyor_raft::Options {
    let mut options = conveyor_raft::Options::default();
    let asked = std::env::var("CONVEYOR_SNAPSHOT_EVERY").ok().filter(|_| cfg!(feature = "failpoints"));
    if let Some(every) = asked.and_then(|text| text.parse().ok()) {
        options.snapshot_every = every;
    }
    options
}

/// Arms the crash point named in the environment, if any.
pub fn arm_from_environment() {
    let Ok(spec) = std::env::var("CONVEYOR_CRASH_AT") else { return };
    if !cfg!(feature = "failpoints") {
        eprintln!(
            "error: CONVEYOR_CRASH_AT is set, but this build has no crash points (feature `failpoints`)"
        );
        std::process::exit(i32::from(crate::exit::BAD_INPUT));
    }
    let (name, count) = spec.rsplit_once(':').unwrap_or((spec.as_str(), "1"));
    let known = names().contains(&name);
    let count: u64 = match count.parse() {
        Ok(count) if known => count,
        _ => {
            eprintln!(
                "error: CONVEYOR_CRASH_AT=`{spec}` is not NAME:COUNT of a known crash point; see `conveyorctl failpoints`"
            );
            std::process::exit(i32::from(crate::exit::BAD_INPUT));
        }
    };
    let passed = std::sync::atomic::AtomicU64::new(0);
    let armed = fail::cfg_callback(name, move || {
        if passed.fetch_add(1, std::sync::atomic::Ordering::SeqCst) + 1 == count {
            std::process::abort();
        }
    });
    if let Err(error) = armed {
        eprintln!("error: crash point `{name}` cannot be armed: {error}");
        std::process::exit(1);
    }
}
