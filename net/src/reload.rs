//! Files that change while the process runs: looked at every second, taken when they are good.
//!
//! Contents are compared, not times: a mounted secret is exchanged by moving a link, and copies keep times.

use std::sync::Arc;
use std::time::Duration;

use conveyor_model::Result;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

/// Time between two looks at the files.
pub const RELOAD_PERIOD: Duration = Duration::from_secs(1);

/// Something made from files that can be made again: [`crate::Tls`], [`crate::Tokens`].
pub trait Reload: Send + Sync + 'static {
    /// What it is, for the log.
    fn what(&self) -> &'static str;

    /// Reads the files; true if they changed and are now in use. Reads small files, so it may block shortly.
    ///
    /// # Errors
    /// If the files changed and are no good, once for each content; or cannot be read. What was in use stays so.
    fn reload(&self) -> Result<bool>;
}

/// Looks at the files of all until `stop`. To be spawned on the process's task tracker.
pub async fn watch(all: Vec<Arc<dyn Reload>>, period: Duration, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // What was said last of each, so that a file that stays away is not in the log every second.
    let mut said: Vec<Option<String>> = vec![None; all.len()];
    loop {
        // Both are cancel-safe: a tick that was not taken comes again.
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        for (one, said) in all.iter().zip(&mut said) {
            let (what, one) = (one.what(), one.clone());
            match tokio::task::spawn_blocking(move || one.reload()).await {
                Ok(Ok(true)) => {
                    *said = None;
                    tracing::info!("the {what} was reloaded");
                }
                Ok(Ok(false)) => {}
                Ok(Err(error)) => {
                    let text = error.to_string();
                    if said.as_ref() != Some(&text) {
                        tracing::warn!("the {what} was not reloaded, the old one stays in use: {text}");
                    }
                    *said = Some(text);
                }
                Err(error) => tracing::error!("looking at the files of the {what} failed: {error}"),
            }
        }
    }
}
