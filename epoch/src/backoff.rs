//! Delays between tries of something that is unavailable.

use std::time::Duration;

use conveyor_model::plan::Retry;
use conveyor_model::{Error, Kind};

/// Delays between tries of something that is unavailable: exponential, within the bounds of a [`Retry`].
#[derive(Debug)]
pub struct Backoff {
    retry: Retry,
    tries: u32,
}

impl Backoff {
    /// Before the first try.
    pub fn new(retry: Retry) -> Self {
        Self { retry, tries: 0 }
    }

    /// As long as it takes.
    pub fn patient() -> Self {
        Self::new(Retry { max_retries: u32::MAX, base_ms: 100, max_ms: 5_000 })
    }

    /// How long to wait before the next try.
    ///
    /// # Errors
    /// The error again when there is no next try: it is of another kind than `Unavailable`, or there were enough.
    pub fn after(&mut self, error: Error) -> Result<Duration, Error> {
        if error.kind() != Kind::Unavailable || self.tries >= self.retry.max_retries {
            return Err(error);
        }
        let factor = 1u64.checked_shl(self.tries).unwrap_or(u64::MAX);
        self.tries += 1;
        tracing::warn!(%error, try_number = self.tries, "will try again");
        Ok(Duration::from_millis(self.retry.base_ms.saturating_mul(factor).min(self.retry.max_ms)))
    }

    /// Something worked: the next failure starts over.
    pub fn reset(&mut self) {
        self.tries = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backs_off_exponentially_and_gives_up() {
        let mut backoff = Backoff::new(Retry { max_retries: 3, base_ms: 100, max_ms: 250 });
        let down = || Error::new(Kind::Unavailable, "down", "the system is down");
        let waits: Vec<_> = (0..3).map(|_| backoff.after(down()).unwrap().as_millis()).collect();
        assert_eq!(waits, [100, 200, 250]);
        assert_eq!(backoff.after(down()).unwrap_err().code(), "down");
        backoff.reset();
        assert!(backoff.after(down()).is_ok());
        assert!(backoff.after(Error::runtime("broken", "for good")).is_err());
    }
}
