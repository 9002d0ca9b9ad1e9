//! The sending side: outlets, the streams that carry their frames, and the credits that come back.

mod body;
mod call;
mod driver;
mod outlet;
mod peer;
mod state;

pub(crate) use driver::Driver;
pub(crate) use outlet::FlightOutlet;
pub(crate) use peer::Peers;
pub(crate) use state::Shared;
