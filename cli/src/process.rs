//! What the processes of a cluster have in common.

use conveyor_model::{Error, Result};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Two tokens: the first SIGTERM or Ctrl-C cancels one, the second the other.
///
/// # Errors
/// If signals cannot be caught: the process could not be drained.
pub fn drain_then_stop() -> Result<(CancellationToken, CancellationToken)> {
    let caught =
        |kind| signal(kind).map_err(|e| Error::runtime("signals", "signals cannot be caught").because(e));
    let (mut interrupt, mut terminate) = (caught(SignalKind::interrupt())?, caught(SignalKind::terminate())?);
    let (drain, stop) = (CancellationToken::new(), CancellationToken::new());
    let (first, second) = (drain.clone(), stop.clone());
    tokio::spawn(async move {
        for token in [first, second] {
            // Both are cancel-safe: a signal that came meanwhile is kept for the next call.
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            token.cancel();
        }
    });
    Ok((drain, stop))
}

/// Memory of this machine in bytes; 1 GiB where the system does not say.
pub fn machine_memory() -> u64 {
    let total = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find(|l| l.starts_with("MemTotal:"))?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok()
    });
    total.map_or(1 << 30, |kib| kib * 1024)
}
