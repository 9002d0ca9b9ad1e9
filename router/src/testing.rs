//! What stands in for other processes, for the tests of this crate and for measurements.

mod sidecar;

use std::time::Duration;

pub use sidecar::{Fake, Member, State};

/// Nothing that works takes this long, also not on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for a condition.
///
/// # Panics
/// If it does not come within [`PATIENCE`].
pub async fn until<T>(what: &str, check: impl Fn() -> Option<T>) -> T {
    let found = async {
        loop {
            match check() {
                Some(found) => return found,
                None => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    };
    tokio::time::timeout(PATIENCE, found).await.unwrap_or_else(|_| panic!("{what} did not come"))
}
