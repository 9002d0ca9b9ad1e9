//! What the control loop of the leader hears.

use std::sync::Arc;

use conveyor_proto::v1;
use tokio::sync::oneshot;

use crate::controller::view;
use crate::sidecars::Outbox;
use crate::sidecars::fleet::SessionId;

/// News for the control loop.
pub(crate) enum Input {
    /// A sidecar has a stream.
    Attached { session: SessionId, hello: Box<v1::SidecarHello>, outbox: Arc<Outbox> },
    /// It has said something on it.
    Said { session: SessionId, message: Box<v1::sidecar_message::Message> },
    /// The stream has ended.
    Detached { session: SessionId },
    /// Somebody wants to see how things are.
    Look(view::Question, oneshot::Sender<view::Answer>),
}
