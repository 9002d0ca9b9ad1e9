//! The receiving side: inlets, the streams that fill them, and the credits that go back.

mod channel;
mod inlet;
mod registry;
mod serve;
mod session;
mod state;

pub(crate) use inlet::FlightInlet;
pub(crate) use registry::{Registry, fenced};
pub(crate) use serve::serve;
