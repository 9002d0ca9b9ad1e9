//! Rows as Arrow IPC messages: encoding without copies, and decoding of what other processes send.

mod check;
mod compact;
mod decode;
mod encode;

pub(crate) use check::Limits;
pub(crate) use decode::{Decoder, schema_of};
pub(crate) use encode::{Encoder, schema_message};
