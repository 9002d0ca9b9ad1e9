//! Decoders of other projects, run on bytes that nobody vouches for: where one panics, the file is damaged, and the run
//! stops with an error like any other.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;

use conveyor_model::{Error, Result};

use super::blocking::corrupt;

thread_local! {
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

/// Whether this thread runs a decoder whose panics are caught. A program's panic hook asks, and says nothing: the error
/// that follows names the file, the place and the cause.
pub fn decoder_running() -> bool {
    DEPTH.get() > 0
}

struct Inside;

impl Inside {
    fn enter() -> Self {
        DEPTH.set(DEPTH.get() + 1);
        Self
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        DEPTH.set(DEPTH.get() - 1);
    }
}

/// Runs a decoder.
///
/// # Errors
/// What it says, or `file-corrupt` if it panics.
pub(crate) fn guarded<T>(url: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let caught = catch_unwind(AssertUnwindSafe(|| {
        let _inside = Inside::enter();
        work()
    }));
    caught.unwrap_or_else(|panic| Err(panicked(url, &*panic)))
}

/// Runs a decoder that waits for its bytes.
///
/// # Errors
/// `file-corrupt` if it panics.
pub(crate) async fn guarded_async<T>(url: &str, work: impl Future<Output = T>) -> Result<T> {
    let mut work = pin!(work);
    std::future::poll_fn(|context| {
        let caught = catch_unwind(AssertUnwindSafe(|| {
            let _inside = Inside::enter();
            work.as_mut().poll(context)
        }));
        match caught {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(value)) => Poll::Ready(Ok(value)),
            Err(panic) => Poll::Ready(Err(panicked(url, &*panic))),
        }
    })
    .await
}

fn panicked(url: &str, panic: &(dyn Any + Send)) -> Error {
    let text = panic
        .downcast_ref::<&str>()
        .map(|s| (*s).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "unknown".to_owned());
    corrupt(url, "the decoder could not go on").because(text)
}
