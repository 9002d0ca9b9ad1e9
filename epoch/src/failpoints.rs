//! Named crash points before and after every durable step. They cost nothing unless the feature `failpoints` is on.

use conveyor_model::Result;

/// All crash points of the control loop, in the order in which an epoch passes them.
pub const FAILPOINTS: &[&str] = &[
    INCARNATION,
    BEGIN_BEFORE,
    BEGIN_AFTER,
    ALL_ACKED,
    MANIFEST_BEFORE,
    MANIFEST_AFTER,
    COMMIT_AFTER,
    CLEANED_UP,
];

pub(crate) const INCARNATION: &str = "epoch-incarnation-after";
pub(crate) const BEGIN_BEFORE: &str = "epoch-begin-before";
pub(crate) const BEGIN_AFTER: &str = "epoch-begin-after";
pub(crate) const ALL_ACKED: &str = "epoch-all-acked";
pub(crate) const MANIFEST_BEFORE: &str = "epoch-manifest-before";
pub(crate) const MANIFEST_AFTER: &str = "epoch-manifest-after";
pub(crate) const COMMIT_AFTER: &str = "epoch-committed-not-published";
pub(crate) const CLEANED_UP: &str = "epoch-clean-up-after";

/// Passes a crash point. Armed with `return`, it answers as a system that is down.
///
/// # Errors
/// `Unavailable`, only when armed so.
#[cfg(feature = "failpoints")]
pub(crate) fn pass(name: &'static str) -> Result<()> {
    use conveyor_model::{Error, Kind};
    fail::fail_point!(name, |_| Err(Error::new(
        Kind::Unavailable,
        "crash-point",
        format!("crash point {name} is armed")
    )));
    Ok(())
}

/// Passes a crash point: nothing in a build without them.
#[cfg(not(feature = "failpoints"))]
#[inline]
#[allow(clippy::unnecessary_wraps, reason = "the same form as with the feature on")]
pub(crate) fn pass(_name: &'static str) -> Result<()> {
    Ok(())
}
