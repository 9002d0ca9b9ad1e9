//! Connectors that can be planned with; nothing ever opens them.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use async_trait::async_trait;
use conveyor_model::connector::{ConnectorSpec, FieldKind, FieldSpec, Registry};
use conveyor_model::plan::{Delivery, Mode};
use conveyor_model::sink::{Committer, Sink, SinkConnector, SinkContext};
use conveyor_model::source::{DiscoverRequest, Discovered, Pushdown, Source, SourceConnector, SourceContext};
use conveyor_model::{Error, Kind, Result};

static IN: ConnectorSpec = ConnectorSpec { name: "in", doc: "Rows.", fields: &[PATH] };
static OUT: ConnectorSpec = ConnectorSpec { name: "out", doc: "Rows.", fields: &[PATH] };
const PATH: FieldSpec =
    FieldSpec { name: "path", kind: FieldKind::Text, required: true, default: None, doc: "Where." };

struct In;
struct Out;

fn never<T>() -> Result<T> {
    Err(Error::runtime("not-here", "routers open no connector"))
}

#[async_trait]
impl SourceConnector for In {
    fn spec(&self) -> &'static ConnectorSpec {
        &IN
    }

    async fn discover(&self, request: &DiscoverRequest) -> Result<Discovered> {
        if request.config["path"] == "away" {
            return Err(Error::new(Kind::Unavailable, "source-away", "the source does not answer"));
        }
        let schema = Schema::new(vec![
            Field::new("id", DataType::Int64, true),
            Field::new("name", DataType::Utf8, true),
            Field::new("at", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true),
        ]);
        Ok(Discovered {
            schema: Arc::new(schema),
            projection: true,
            predicate: Pushdown::No,
            notes: Vec::new(),
        })
    }

    async fn open(&self, _: SourceContext) -> Result<Box<dyn Source>> {
        never()
    }
}

#[async_trait]
impl SinkConnector for Out {
    fn spec(&self) -> &'static ConnectorSpec {
        &OUT
    }

    fn delivery(&self) -> Delivery {
        Delivery::ExactlyOnce
    }

    fn check(&self, _: &serde_json::Value, _: &SchemaRef, _: Mode) -> Result<()> {
        Ok(())
    }

    async fn open(&self, _: SinkContext) -> Result<Box<dyn Sink>> {
        never()
    }

    async fn committer(&self, _: SinkContext) -> Result<Box<dyn Committer>> {
        never()
    }
}

/// `in` reads, `out` writes.
pub(super) fn registry() -> Registry {
    Registry {
        sources: BTreeMap::from([("in", Arc::new(In) as Arc<dyn SourceConnector>)]),
        sinks: BTreeMap::from([("out", Arc::new(Out) as Arc<dyn SinkConnector>)]),
        lookups: BTreeMap::new(),
    }
}
