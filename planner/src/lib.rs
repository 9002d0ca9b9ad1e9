//! YAML manifests in; diagnostics with line and column, plan, diff, picture and JSON Schema out.
//!
//! Everything here is a pure function: no file is opened, nothing is sent, nothing runs. The way is
//! [`parse`] -> [`Objects::discoveries`] (the caller asks the connectors) -> [`compile`] -> [`diff`], [`explain`],
//! [`graph`](fn@graph).

mod compile;
mod diagnostic;
mod explain;
mod graph;
mod manifest;
mod names;
mod objects;
mod picture;
pub mod types;
mod units;
mod yaml;

pub use compile::{Catalog, Compiled, Options, compile};
pub use explain::explain;
pub use picture::{GraphFormat, graph};
pub use diagnostic::{Diagnostic, Severity};
pub use objects::{Discoveries, Document, ObjectId, Objects, Parsed, parse};
