//! The wire: protobuf forms of what the log keeps, and the only conversions to and from `model`.
//!
//! Decoding refuses what it does not know. An unknown command, enum value or field is an error, never skipped: an old
//! process that misread a newer log would apply another history than the one that was agreed. The messages of
//! `control.proto` live as long as a connection, and are read leniently where that does no harm.

mod control;
mod convert;
mod history;
mod wire;

/// Generated from `proto/conveyor/v1/*.proto`.
#[allow(missing_docs, unreachable_pub, clippy::all)]
pub mod v1 {
    include!(concat!(env!("OUT_DIR"), "/conveyor.v1.rs"));
}

pub use control::{committed_from_wire, object_from_wire, pipeline_from_wire, task_from_wire};
pub use wire::{
    Snapshot, decode, decode_command, decode_outcome, decode_snapshot, encode, encode_command,
    encode_outcome, encode_snapshot, malformed, unknown,
};
