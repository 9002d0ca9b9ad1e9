//! Crash points: a build with the feature `failpoints` can be told to die at a named place in the code.
//!
//! `CONVEYOR_CRASH_AT=name:3` aborts the process, as `kill -9` would, the third time that it passes `name`.
//! `CONVEYOR_STOP_FILE=FILE` makes it stop (`SIGSTOP`) where the file says, so that a test can do something at that very moment: its
//! line `name:3` is read again whenever it changes, and counts from then on. The process takes the file with it, so that of several
//! processes which are told by one file only the first one stops.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use parking_lot::Mutex;

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

/// `CONVEYOR_SNAPSHOT_EVERY=16` lets a short run come by the crash points of snapshots.
fn snapshot_every() -> Option<u64> {
    let asked = std::env::var("CONVEYOR_SNAPSHOT_EVERY").ok().filter(|_| cfg!(feature = "failpoints"))?;
    asked.parse().ok()
}

/// Settings of the log of `run`.
pub fn log_options() -> conveyor_raft::Options {
    let mut options = conveyor_raft::Options::default();
    options.snapshot_every = snapshot_every().unwrap_or(options.snapshot_every);
    options
}

/// Settings of the log of routers.
pub fn router_log_settings() -> conveyor_raft::Settings {
    let mut settings = conveyor_raft::Settings::default();
    if let Some(every) = snapshot_every() {
        settings.snapshot_every = every;
        settings.keep_entries = every / 4;
    }
    settings
}

/// Arms the crash point named in the environment, if any.
pub fn arm_from_environment() {
    let (crash, stop) = (std::env::var("CONVEYOR_CRASH_AT"), std::env::var_os("CONVEYOR_STOP_FILE"));
    if (crash.is_ok() || stop.is_some()) && !cfg!(feature = "failpoints") {
        eprintln!(
            "error: CONVEYOR_CRASH_AT or CONVEYOR_STOP_FILE is set, but this build has no crash points (feature `failpoints`)"
        );
        std::process::exit(i32::from(crate::exit::BAD_INPUT));
    }
    if let Some(file) = stop {
        stop_where_told(Path::new(&file));
    }
    let Ok(spec) = crash else { return };
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
    let passed = AtomicU64::new(0);
    arm(name, move || {
        if passed.fetch_add(1, SeqCst) + 1 == count {
            std::process::abort();
        }
    });
}

fn arm(name: &str, callback: impl Fn() + Send + Sync + 'static) {
    if let Err(error) = fail::cfg_callback(name, callback) {
        eprintln!("error: crash point `{name}` cannot be armed: {error}");
        std::process::exit(1);
    }
}

/// What a stop file said last, and how often that point was passed since.
#[derive(Default)]
struct Told {
    line: String,
    passed: u64,
}

fn stop_where_told(file: &Path) {
    let told = Arc::new(Mutex::new(Told::default()));
    for name in names() {
        let (told, file): (Arc<Mutex<Told>>, PathBuf) = (told.clone(), file.to_owned());
        arm(name, move || {
            if is_told(&told, &file, name) {
                stop_self(name);
            }
        });
    }
}

/// Whether this is the pass at which the file wants the process to stop.
fn is_told(told: &Mutex<Told>, file: &Path, name: &str) -> bool {
    // A file that is not there, or not whole yet, tells nothing.
    let line = std::fs::read_to_string(file).unwrap_or_default();
    let mut told = told.lock();
    if told.line != line {
        *told = Told { line, passed: 0 };
    }
    let Some((point, count)) = told.line.trim().split_once(':') else { return false };
    if point != name {
        return false;
    }
    let count = count.split(':').next().and_then(|n| n.parse().ok());
    told.passed += 1;
    Some(told.passed) == count && takes(file, &told.line)
}

/// Whether this process takes the file before any other does.
fn takes(file: &Path, line: &str) -> bool {
    let taken = file.with_extension(std::process::id().to_string());
    // It may have been replaced since it was read: then it speaks of another moment, and is put back.
    let ours = std::fs::rename(file, &taken).is_ok();
    let same = ours && std::fs::read_to_string(&taken).is_ok_and(|text| text == line);
    if ours && !same {
        // Without it nobody stops, and whoever wrote it sees that the moment does not come.
        drop(std::fs::rename(&taken, file));
    }
    same
}

fn stop_self(name: &str) {
    eprintln!("stops at {name}");
    let id = std::process::id().to_string();
    if let Err(error) = std::process::Command::new("kill").args(["-s", "STOP", &id]).status() {
        eprintln!("error: the process cannot stop itself: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_file_counts_from_its_last_change() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("stop");
        let told = Mutex::default();
        assert!(!is_told(&told, &file, "a"));
        std::fs::write(&file, "a:2:first").unwrap();
        let passes = |name| (0..3).map(|_| is_told(&told, &file, name)).collect::<Vec<_>>();
        assert_eq!(passes("b"), [false; 3]);
        assert_eq!(passes("a"), [false, true, false]);
        std::fs::write(&file, "a:2:second").unwrap();
        assert_eq!(passes("a"), [false, true, false]);
    }

    #[test]
    fn of_several_processes_the_first_one_stops_alone() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("stop");
        std::fs::write(&file, "a:2").unwrap();
        let (one, other) = (Mutex::default(), Mutex::default());
        let stops = [&one, &other, &other, &one, &other].map(|told| is_told(told, &file, "a"));
        assert_eq!(stops, [false, false, true, false, false]);
    }
}
