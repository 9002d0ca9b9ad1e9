//! `ListFlights`, `GetFlightInfo` and `GetSchema`: edges that can be watched and sources that can be fed, by name.

use arrow_flight::{FlightDescriptor, FlightEndpoint, FlightInfo, Ticket};
use arrow_schema::SchemaRef;
use async_trait::async_trait;
use conveyor_model::{Error, PipelineId, Result};
use serde_json::json;

use super::{Public, pipeline_of};

/// An edge or a `flight` source of a pipeline that runs.
#[derive(Debug, Clone, PartialEq)]
pub struct Flight {
    /// The pipeline.
    pub pipeline: PipelineId,
    /// Name of the edge or the source.
    pub name: String,
    /// Whether it is a source.
    pub source: bool,
    /// Schema of the rows.
    pub schema: SchemaRef,
    /// URIs of the processes where the edge starts, or where the source takes rows: `grpc://host:port`, `grpc+tls://host:port`.
    pub at: Vec<String>,
}

/// Knows the flights of all processes.
#[async_trait]
pub trait Directory: Send + Sync {
    /// All of one pipeline, or of all of them.
    ///
    /// # Errors
    /// `Unavailable` if nobody who knows can be asked.
    async fn flights(&self, pipeline: Option<&PipelineId>) -> Result<Vec<Flight>>;
}

/// All flights, in order.
///
/// # Errors
/// Those of the directory, or if a schema cannot be written.
pub(crate) async fn list(public: &Public) -> Result<Vec<FlightInfo>> {
    let mut flights = public.directory.flights(None).await?;
    flights.sort_by(|a, b| (&a.pipeline, a.source, &a.name).cmp(&(&b.pipeline, b.source, &b.name)));
    flights.iter().map(info_of).collect()
}

/// The flight that a descriptor names by its path: pipeline, and edge or source. What a producer adds to it does not matter.
///
/// # Errors
/// `BadInput` if it names none; those of the directory.
pub(crate) async fn describe(public: &Public, descriptor: &FlightDescriptor) -> Result<Flight> {
    let (pipeline, name) = match &descriptor.path[..] {
        [pipeline, name] | [pipeline, name, _] => (pipeline_of(pipeline), name),
        _ => {
            return Err(Error::bad_input(
                "descriptor-unreadable",
                "the descriptor names no edge and no source",
            )
            .help("its path is the pipeline, and the name of the edge or the source"));
        }
    };
    let flights = public.directory.flights(Some(&pipeline)).await?;
    let found = flights.into_iter().find(|f| f.pipeline == pipeline && f.name == *name);
    found.ok_or_else(|| {
        let what = format!("no pipeline {pipeline} with an edge or a `flight` source `{name}` runs");
        Error::bad_input("flight-unknown", what).help("ListFlights names what there is")
    })
}

impl Flight {
    /// What a client needs to watch an edge, or to feed a source.
    ///
    /// # Errors
    /// If the schema cannot be written.
    pub(crate) fn info(&self) -> Result<FlightInfo> {
        info_of(self)
    }
}

fn info_of(flight: &Flight) -> Result<FlightInfo> {
    let pipeline = flight.pipeline.to_string();
    let mut info = FlightInfo::new()
        .try_with_schema(&flight.schema)
        .map_err(|e| Error::runtime("schema-unsent", "the schema of a flight cannot be written").because(e))?
        .with_descriptor(FlightDescriptor::new_path(vec![pipeline.clone(), flight.name.clone()]))
        .with_app_metadata(json!({"kind": if flight.source { "source" } else { "edge" }}).to_string())
        .with_total_records(-1)
        .with_total_bytes(-1);
    // The rows of an edge are those of all its endpoints together; nobody can get rows from a source.
    let ticket = json!({"pipeline": pipeline, "edge": flight.name}).to_string();
    for at in &flight.at {
        let mut endpoint = FlightEndpoint::new().with_location(at);
        if !flight.source {
            endpoint = endpoint.with_ticket(Ticket::new(ticket.clone()));
        }
        info = info.with_endpoint(endpoint);
    }
    Ok(info)
}
