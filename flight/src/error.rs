//! Errors of edges, and the answers that carry them from a receiver to a sender.

use conveyor_model::edge::ChannelId;
use conveyor_model::{Error, Kind};
use tonic::{Code, Status};

/// Code of an error where the other end is gone; never the cause of a failure, only its echo.
pub const CLOSED: &str = "edge-closed";
/// Code of an error where a newer incarnation has taken over.
pub const FENCED: &str = "edge-fenced";
/// Code of an error where an end did what the protocol does not allow.
pub const PROTOCOL: &str = "edge-protocol";

/// Why a channel is over for good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The other end is gone.
    Closed(String),
    /// A newer incarnation, or another process, has the channel.
    Fenced(String),
    /// One of the ends broke the protocol.
    Protocol(String),
}

impl Failure {
    pub(crate) fn protocol(what: impl Into<String>) -> Self {
        Self::Protocol(what.into())
    }

    /// In words.
    pub(crate) fn why(&self) -> &str {
        match self {
            Self::Closed(why) | Self::Fenced(why) | Self::Protocol(why) => why,
        }
    }

    pub(crate) fn to_error(&self, channel: &ChannelId) -> Error {
        let (kind, code, message) = match self {
            Self::Closed(why) => (Kind::Runtime, CLOSED, why),
            Self::Fenced(why) => (Kind::Fenced, FENCED, why),
            Self::Protocol(why) => (Kind::Runtime, PROTOCOL, why),
        };
        Error::new(kind, code, message.clone()).in_pipeline(&channel.pipeline).at(format!(
            "edge {} {}->{}, incarnation {}",
            channel.edge, channel.from, channel.to, channel.incarnation
        ))
    }

    /// The answer of a receiver that refuses a channel for this reason.
    pub(crate) fn to_status(&self) -> Status {
        match self {
            Self::Closed(why) => Status::aborted(why),
            Self::Fenced(why) => Status::failed_precondition(why),
            Self::Protocol(why) => Status::invalid_argument(why),
        }
    }
}

/// What a sender does about the end of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The channel is over.
    Failed(Failure),
    /// The receiver does not have the channel yet.
    NotYet,
    /// The connection is broken.
    Broken(String),
}

/// The answer for a channel that this process does not have yet.
pub(crate) fn not_yet() -> Status {
    Status::not_found("there is no such channel here yet")
}

pub(crate) fn verdict(status: &Status) -> Verdict {
    let why = || status.message().to_owned();
    match status.code() {
        Code::Aborted => Verdict::Failed(Failure::Closed(why())),
        Code::FailedPrecondition => Verdict::Failed(Failure::Fenced(why())),
        Code::InvalidArgument | Code::OutOfRange => Verdict::Failed(Failure::Protocol(why())),
        Code::NotFound => Verdict::NotYet,
        _ => Verdict::Broken(status.to_string()),
    }
}

/// An error with its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(c) = cause {
        text.push_str(": ");
        text.push_str(&c.to_string());
        cause = c.source();
    }
    text
}
