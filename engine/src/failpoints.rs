//! Named crash points before and after every durable step. They cost nothing unless the feature `failpoints` is on.

use conveyor_model::Result;

/// All crash points of the engine, in the order in which an epoch passes them.
pub const FAILPOINTS: &[&str] = &[
    INJECTED,
    BARRIER,
    STATE_BEFORE,
    STATE_AFTER,
    PREPARE_BEFORE,
    PREPARE_AFTER,
    DEAD_LETTERS_STAGED,
    ACK_BEFORE,
    PUBLISH_DEAD_LETTERS_AFTER,
    PUBLISH_SINK_BEFORE,
    PUBLISH_SINK_AFTER,
    PUBLISHED,
];

pub(crate) const INJECTED: &str = "engine-inject-after";
pub(crate) const BARRIER: &str = "engine-barrier-aligned";
pub(crate) const STATE_BEFORE: &str = "engine-state-upload-before";
pub(crate) const STATE_AFTER: &str = "engine-state-upload-after";
pub(crate) const PREPARE_BEFORE: &str = "engine-prepare-before";
pub(crate) const PREPARE_AFTER: &str = "engine-prepare-after";
pub(crate) const DEAD_LETTERS_STAGED: &str = "engine-dead-letters-staged";
pub(crate) const ACK_BEFORE: &str = "engine-ack-before";
pub(crate) const PUBLISH_DEAD_LETTERS_AFTER: &str = "engine-publish-dead-letters-after";
pub(crate) const PUBLISH_SINK_BEFORE: &str = "engine-publish-sink-before";
pub(crate) const PUBLISH_SINK_AFTER: &str = "engine-publish-sink-after";
pub(crate) const PUBLISHED: &str = "engine-published";

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
