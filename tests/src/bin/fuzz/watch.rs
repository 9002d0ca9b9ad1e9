//! Ends the process when an input takes for ever, which the loop that waits for it cannot.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use conveyor_tests::kill::now;

/// After this an input hangs.
const FOR_EVER: Duration = Duration::from_secs(30);

type Current = Arc<Mutex<Option<(Instant, &'static str, Vec<u8>)>>>;

/// What is being fed, seen by a thread that looks every second.
pub(crate) struct Watch(Current);

impl Watch {
    /// Starts to look.
    pub(crate) fn start() -> Self {
        let current = Current::default();
        let seen = current.clone();
        std::thread::spawn(move || {
            loop {
                std::thread::sleep(Duration::from_secs(1));
                if let Some((began, target, input)) = &*seen.lock().unwrap_or_else(PoisonError::into_inner)
                    && began.elapsed() > FOR_EVER
                {
                    let kept = std::env::temp_dir().join(format!("conveyor-fuzz-{target}-hang"));
                    let saved = std::fs::write(&kept, input).is_ok();
                    eprintln!("{target}: an input hangs; it is kept in {} ({saved})", kept.display());
                    std::process::exit(1);
                }
            }
        });
        Self(current)
    }

    /// An input is fed.
    pub(crate) fn begin(&self, target: &'static str, input: &[u8]) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((now(), target, input.to_vec()));
    }

    /// It was taken.
    pub(crate) fn end(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
