//! What travels on an edge.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Batch, Epoch};

/// A promise that no row with an earlier event time follows, in microseconds since 1970-01-01T00:00:00Z.
///
/// `Watermark::MAX` is sent at the end of a bounded input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Watermark(pub i64);

impl Watermark {
    /// Before all event times.
    pub const MIN: Watermark = Watermark(i64::MIN);
    /// After all event times.
    pub const MAX: Watermark = Watermark(i64::MAX);
}

impl fmt::Display for Watermark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Watermark::MIN => f.write_str("none"),
            Watermark::MAX => f.write_str("end"),
            Watermark(micros) => match arrow_array::temporal_conversions::timestamp_us_to_datetime(micros) {
                Some(t) => write!(f, "{}Z", t.format("%Y-%m-%dT%H:%M:%S%.3f")),
                None => write!(f, "{micros}us"),
            },
        }
    }
}

/// One unit on a channel. Control frames keep their place behind the data of their own channel and cost no credit.
#[derive(Debug, Clone)]
pub enum Frame {
    /// Rows. The cost was computed once, by the sender; the receiver refunds this very figure.
    Data {
        /// The rows.
        batch: Batch,
        /// Bytes of credit spent on them.
        cost: u64,
    },
    /// Everything before belongs to this epoch or an earlier one.
    Barrier(Epoch),
    /// Event time has advanced on this channel.
    Watermark(Watermark),
    /// The channel has no rows for now and must not hold back the receiver's watermark until its next frame.
    Idle,
    /// Nothing follows; only a bounded input sends it.
    End,
}
