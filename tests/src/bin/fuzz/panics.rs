//! Panics of decoders that the product catches: counted by place instead of printed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Panics so far, by place.
#[derive(Clone, Default)]
pub(crate) struct Caught(Arc<Mutex<BTreeMap<String, u64>>>);

impl Caught {
    /// Those since the last call.
    pub(crate) fn take(&self) -> BTreeMap<String, u64> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Counts from now on. A panic that is not caught still ends the run, with its input.
pub(crate) fn count() -> Caught {
    let caught = Caught::default();
    let counts = caught.clone();
    std::panic::set_hook(Box::new(move |panic| {
        let place = panic.location().map_or_else(String::new, ToString::to_string);
        let place = place.rsplit("/src/index.crates.io-").next().unwrap_or_default().to_owned();
        let mut counts = counts.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(place).or_default() += 1;
    }));
    caught
}
