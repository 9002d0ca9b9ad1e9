//! The `flight` source: rows that clients put by Arrow Flight.
//!
//! The process that serves Arrow Flight shares an [`Intake`] with the connector: what is put there waits, in bounded memory,
//! until the source's task reads it, and whoever put it is told once the epoch that holds it is committed. What is not
//! committed when the task ends is forgotten, and whoever put it is told so: they put it again.

mod columns;
mod intake;
mod ledger;
mod source;

use std::sync::Arc;

use arrow::datatypes::Schema;
use async_trait::async_trait;
use conveyor_model::connector::{ConnectorSpec, FieldKind, FieldSpec};
use conveyor_model::plan::Mode;
use conveyor_model::source::{DiscoverRequest, Discovered, Pushdown, Source, SourceConnector, SourceContext};
use conveyor_model::{Error, Result};
use serde::Deserialize;

pub use intake::{Accepted, Intake, Offered};

/// Bytes that wait to be read, where the manifest does not say.
const BUFFER_BYTES: u64 = 32 << 20;

static SPEC: ConnectorSpec = ConnectorSpec {
    name: "flight",
    doc: "Rows that clients put by Arrow Flight's DoPut; each batch is acknowledged once its epoch is committed.",
    fields: &[FieldSpec {
        name: "bufferBytes",
        kind: FieldKind::Size,
        required: false,
        default: Some("32MiB"),
        doc: "Rows that wait to be read; a put waits while they are more.",
    }],
};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Config {
    buffer_bytes: Option<u64>,
}

/// Takes rows from Arrow Flight clients.
#[derive(Default)]
pub struct FlightSource {
    intake: Option<Arc<Intake>>,
}

impl FlightSource {
    /// The connector of a process whose Arrow Flight service puts rows into `intake`. Without one (`default`), sources can be
    /// planned and not opened.
    pub fn new(intake: Arc<Intake>) -> Self {
        Self { intake: Some(intake) }
    }
}

#[async_trait]
impl SourceConnector for FlightSource {
    fn spec(&self) -> &'static ConnectorSpec {
        &SPEC
    }

    async fn discover(&self, request: &DiscoverRequest) -> Result<Discovered> {
        let _: Config = crate::settings::parse("flight", &request.config)?;
        if request.declared.is_empty() {
            return Err(Error::bad_input("schema-needed", "nobody can know yet what clients will put")
                .at(&request.name)
                .help("declare the columns under `schema`"));
        }
        if request.mode == Mode::Job {
            return Err(Error::bad_input("endless-source", "what clients put has no end, but a job has one")
                .at(&request.name)
                .help("set `mode: streaming`"));
        }
        Ok(Discovered {
            schema: Arc::new(Schema::new(request.declared.clone())),
            projection: true,
            predicate: Pushdown::No,
            notes: vec!["clients put exactly the declared columns".to_owned()],
        })
    }

    async fn open(&self, context: SourceContext) -> Result<Box<dyn Source>> {
        let config: Config = crate::settings::parse("flight", &context.config)?;
        let intake = self.intake.as_ref().ok_or_else(|| {
            Error::bad_input(
                "no-flight-service",
                "this process serves no Arrow Flight, so nobody can put rows",
            )
            .at(&context.name)
            .help("apply the manifest to a cluster: `deploy/local/cluster up`, then `conveyorctl apply`")
        })?;
        let buffer = config.buffer_bytes.unwrap_or(BUFFER_BYTES);
        source::open(intake, context, buffer)
    }
}
