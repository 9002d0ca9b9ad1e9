//! Ctrl-C and SIGTERM for processes that run until they are told to end.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// A token that is cancelled by the first Ctrl-C or SIGTERM. Another one ends the process at once, as it would without us.
pub fn shutdown() -> CancellationToken {
    let token = CancellationToken::new();
    match (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) {
        (Ok(mut interrupt), Ok(mut terminate)) => {
            let told = token.clone();
            tokio::spawn(async move {
                // Both are cancel-safe: a signal that came meanwhile is kept for the next call.
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                told.cancel();
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                std::process::exit(1);
            });
        }
        (Err(error), _) | (_, Err(error)) => {
            tracing::warn!("signals cannot be caught ({error}); Ctrl-C ends the process at once");
        }
    }
    token
}
