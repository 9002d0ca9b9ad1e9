//! `ListFlights`, `GetFlightInfo` and `GetSchema`: the edges by name.

use arrow_flight::{FlightDescriptor, FlightEndpoint, FlightInfo, Ticket};
use conveyor_model::{Error, Result};
use serde_json::json;

use super::taps::EdgeTap;
use super::{Public, pipeline_of};
use std::sync::Arc;

/// All edges that start in this process.
///
/// # Errors
/// If a schema cannot be written.
pub(crate) fn list(public: &Public) -> Result<Vec<FlightInfo>> {
    public.taps.all().iter().map(|tap| info_of(tap)).collect()
}

/// The edge that a descriptor names by its path: pipeline and edge.
///
/// # Errors
/// `BadInput` if it names none.
pub(crate) fn describe(public: &Public, descriptor: &FlightDescriptor) -> Result<Arc<EdgeTap>> {
    match &descriptor.path[..] {
        [pipeline, edge] => public.taps.find(&pipeline_of(pipeline), edge),
        _ => Err(Error::bad_input("descriptor-unreadable", "the descriptor names no edge")
            .help("its path is the pipeline and the name of the edge")),
    }
}

/// What a client needs to watch an edge.
///
/// # Errors
/// If the schema cannot be written.
pub(crate) fn info_of(tap: &EdgeTap) -> Result<FlightInfo> {
    let pipeline = tap.pipeline.to_string();
    let ticket = json!({"pipeline": pipeline, "edge": tap.edge}).to_string();
    let endpoint = FlightEndpoint::new().with_ticket(Ticket::new(ticket));
    let info = FlightInfo::new()
        .try_with_schema(&tap.schema)
        .map_err(|e| Error::runtime("schema-unsent", "the schema of an edge cannot be written").because(e))?;
    Ok(info
        .with_descriptor(FlightDescriptor::new_path(vec![pipeline, tap.edge.clone()]))
        .with_endpoint(endpoint)
        .with_total_records(-1)
        .with_total_bytes(-1))
}
