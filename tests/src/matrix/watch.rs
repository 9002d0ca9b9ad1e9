//! Looks at a pipeline from a thread of its own: an answer may take long while a process stands still.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::watch;

use crate::cluster::Rest;

/// Pause between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The newest status of a pipeline that was answered.
pub(super) struct Watch {
    latest: watch::Receiver<Option<Value>>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Looks at this pipeline until dropped.
    pub(super) fn start(rest: Rest, pipeline: &str) -> Self {
        let (seen, latest) = watch::channel(None);
        let over = Arc::new(AtomicBool::new(false));
        let path = format!("/v1/pipelines/default/{pipeline}/status");
        let ended = over.clone();
        let look = move || {
            while !ended.load(Ordering::SeqCst) {
                if let Ok(status) = rest.get(&path) {
                    seen.send_replace(Some(status));
                }
                std::thread::sleep(LOOK_EVERY);
            }
        };
        Self { latest, over, thread: Some(std::thread::spawn(look)) }
    }

    /// The newest status; none before the first.
    pub(super) fn latest(&self) -> Option<Value> {
        self.latest.borrow().clone()
    }

    /// Asks no more; an answer that is waited for is not waited for here.
    pub(super) fn stop(&self) {
        self.over.store(true, Ordering::SeqCst);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been reported where it happened.
            drop(thread.join());
        }
    }
}
