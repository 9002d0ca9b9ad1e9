//! Bytes of commands, outcomes and snapshots.

use std::collections::BTreeMap;

use conveyor_model::log::{Command, Outcome, PipelineState};
use conveyor_model::{Error, Kind, PipelineId, Result};
use prost::Message;

use crate::v1;

/// The state machine's whole state after an entry of the log.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Snapshot {
    /// Index of the last entry applied.
    pub last_index: u64,
    /// Its term.
    pub last_term: u64,
    /// All pipelines.
    pub pipelines: BTreeMap<PipelineId, PipelineState>,
}

/// Bytes of a command.
pub fn encode_command(command: &Command) -> Vec<u8> {
    v1::Command::from(command).encode_to_vec()
}

/// The command in `bytes`.
///
/// # Errors
/// `Corrupt` with code `proto-unknown` for a variant, enum value or field that this version does not know, and
/// `proto-malformed` for anything else that is not a command.
pub fn decode_command(bytes: &[u8]) -> Result<Command> {
    Command::try_from(decode::<v1::Command>("command", bytes)?)
}

/// Bytes of an outcome.
pub fn encode_outcome(outcome: &Outcome) -> Vec<u8> {
    v1::Outcome::from(outcome).encode_to_vec()
}

/// The outcome in `bytes`.
///
/// # Errors
/// As [`decode_command`].
pub fn decode_outcome(bytes: &[u8]) -> Result<Outcome> {
    Outcome::try_from(decode::<v1::Outcome>("outcome", bytes)?)
}

/// Bytes of a snapshot: the same state always gives the same bytes.
pub fn encode_snapshot(
    last_index: u64,
    last_term: u64,
    pipelines: &BTreeMap<PipelineId, PipelineState>,
) -> Vec<u8> {
    let pipelines = pipelines.iter().map(v1::PipelineState::from).collect();
    v1::Snapshot { last_index, last_term, pipelines }.encode_to_vec()
}

/// The snapshot in `bytes`.
///
/// # Errors
/// As [`decode_command`].
pub fn decode_snapshot(bytes: &[u8]) -> Result<Snapshot> {
    Snapshot::try_from(decode::<v1::Snapshot>("snapshot", bytes)?)
}

/// Bytes of a message: the same message always gives the same bytes.
pub fn encode<M: Message>(message: &M) -> Vec<u8> {
    message.encode_to_vec()
}

/// The message in `bytes`; `what` names it in errors.
///
/// Compares with its own encoding: protobuf skips fields that it does not know, and then the two differ.
///
/// # Errors
/// As [`decode_command`]. A oneof without a value is left to the caller.
pub fn decode<M: Message + Default>(what: &str, bytes: &[u8]) -> Result<M> {
    let message =
        M::decode(bytes).map_err(|cause| malformed(what, "is not protobuf of its kind").because(cause))?;
    if message.encode_to_vec() != bytes {
        return Err(unknown(what, "holds a field that this version of conveyor does not know"));
    }
    Ok(message)
}

/// The error for a message that lacks what it must have.
pub fn malformed(what: &str, why: &str) -> Error {
    Error::new(Kind::Corrupt, "proto-malformed", format!("a {what} of the log {why}"))
        .help("the bytes are damaged: restore the data directory from a backup")
}

/// The error for a form that this version does not know.
pub fn unknown(what: &str, why: &str) -> Error {
    Error::new(Kind::Corrupt, "proto-unknown", format!("a {what} of the log {why}"))
        .help("it was written by a newer version: run that version or a later one")
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
