//! The nouns of Conveyor and the contracts between its parts.
//!
//! Nothing here does I/O, spawns a task, reads a clock or knows a wire form. Every other crate speaks in these words:
//! a [`Batch`] of rows with their [`Origin`], [`Frame`]s that travel on edges under [`credit`]s, [`Position`]s in source
//! splits, [`Epoch`]s that commit in the [`log`], and a [`plan::Plan`] that says what runs.

pub mod batch;
pub mod cause;
pub mod clock;
pub mod connector;
pub mod counters;
pub mod credit;
pub mod dead_letter;
pub mod edge;
pub mod epoch;
pub mod error;
pub mod frame;
pub mod ids;
pub mod log;
pub mod lookup;
pub mod manifest;
pub mod origin;
pub mod plan;
pub mod planted;
pub mod position;
pub mod predicate;
pub mod progress;
pub mod secret;
pub mod simulation;
pub mod sink;
pub mod source;
pub mod state;
pub mod step;

pub use batch::Batch;
pub use clock::Clock;
pub use counters::RowCounters;
pub use error::{Error, Kind, Place, Result};
pub use frame::{Frame, Watermark};
pub use ids::{Epoch, Incarnation, NodeId, PipelineId, TaskId};
pub use origin::{Origin, RowRef, Segment};
pub use planted::planted;
pub use position::{Position, Positions, SplitState};
