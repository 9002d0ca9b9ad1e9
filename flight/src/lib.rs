//! Edges between processes: frames over Arrow Flight, credits coming back.
//!
//! A [`FlightExchange`] makes the two ends of channels whose other end is in another process, under the rules of local
//! ones. A sender has two connections to a process that it sends to: one with a `DoExchange` stream for each channel's frames, and one
//! on which the receiver tells, for all channels, what it has received and what it grants. Both are opened again when they
//! break; frames that did not arrive are sent again.

mod client;
mod error;
mod exchange;
mod frame;
mod ipc;
mod message;
mod origin;
mod probe;
mod public;
mod receive;
mod send;
mod service;
mod settings;
mod window;
mod wire;

pub use client::{Client, Passing, View};
pub use error::{CLOSED, FENCED, PROTOCOL};
pub use exchange::FlightExchange;
pub use probe::flights;
pub use public::{Committed, Directory, EdgeTap, Filter, Filters, Flight, Ingest, Public, Put, Taps};
pub use service::FlightServer;
pub use settings::{Components, Compression, Dial, Lane, Settings};
