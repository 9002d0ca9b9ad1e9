//! Sidecars as the leader sees them: who is alive, what they can do, and the streams to them.

pub(crate) mod fleet;
pub(crate) mod outbox;
mod running;
pub(crate) mod service;

pub(crate) use fleet::{Fleet, Sidecar};
pub(crate) use outbox::{Outbox, Outboxes};
