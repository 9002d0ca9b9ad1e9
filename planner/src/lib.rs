//! YAML manifests in; diagnostics with line and column, plan, diff, picture and JSON Schema out.
//!
//! Everything here is a pure function: no file is opened, nothing is sent, nothing runs. The way is
//! [`parse`] -> [`Objects::discoveries`] (the caller asks the connectors) -> [`compile`] -> [`diff`], [`explain`],
//! [`graph`](fn@graph).

mod compile;
mod diagnostic;
mod diff;
mod explain;
mod graph;
mod json_schema;
mod manifest;
mod names;
mod objects;
mod picture;
mod place;
mod settings;
pub mod types;
mod units;
mod yaml;

pub use compile::{Catalog, Compiled, Options, compile};
pub use diagnostic::{Diagnostic, Severity};
pub use diff::{Action, FieldChange, ObjectChange, ObjectKind, PlanDiff, StateChange, StateVerdict, diff};
pub use explain::explain;
pub use json_schema::json_schema;
pub use objects::{Discoveries, Document, ObjectId, Objects, Parsed, parse};
pub use picture::{GraphFormat, graph};
pub use place::{Placement, Site, Unplaced, place, window_bytes};
pub use settings::{Setting, settings};
