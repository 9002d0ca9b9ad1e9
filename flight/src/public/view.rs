//! `DoGet`: what passes on an edge, for one viewer.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_flight::FlightData;
use arrow_schema::SchemaRef;
use conveyor_model::{Error, Result};
use futures::stream::{self, BoxStream, StreamExt};
use serde::Deserialize;
use tonic::Status;

use super::taps::Viewer;
use super::{Public, pipeline_of, status};
use crate::ipc::{Encoder, schema_message};
use crate::settings::Compression;

/// Longest ticket, in bytes.
const MOST_TICKET: usize = 64 << 10;

/// Keeps the rows for which a predicate holds.
pub type Filter = Arc<dyn Fn(&RecordBatch) -> Result<RecordBatch> + Send + Sync>;

/// Makes filters from SQL.
pub trait Filters: Send + Sync {
    /// The filter for `predicate` over rows of `schema`.
    ///
    /// # Errors
    /// `BadInput` if it is no predicate over these columns.
    fn compile(&self, schema: &SchemaRef, predicate: &str) -> Result<Filter>;
}

/// What a viewer asks for: the JSON in a ticket.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ask {
    pipeline: String,
    edge: String,
    columns: Option<Vec<String>>,
    #[serde(rename = "where")]
    predicate: Option<String>,
    limit: Option<u64>,
}

/// The rows of an edge from now on. Each message's `app_metadata` is `{"missed":n}`: how many rows did not fit into the viewer's
/// queue so far.
///
/// # Errors
/// If the ticket asks for what there is not.
pub(crate) fn view(
    public: &Public,
    ticket: &[u8],
) -> Result<BoxStream<'static, Result<FlightData, Status>>, Status> {
    let (watch, schema) = Watch::new(public, ticket).map_err(|e| status(&e))?;
    let first = FlightData { data_header: schema_message(&schema).into(), ..Default::default() };
    let rows = stream::unfold(Some(watch), |watch| async move {
        let mut watch = watch?;
        let messages = match watch.next().await? {
            Ok(messages) => messages,
            Err(error) => return Some((vec![Err(status(&error))], None)),
        };
        let more = watch.left > 0;
        Some((messages, more.then_some(watch)))
    });
    Ok(stream::once(async { Ok(first) }).chain(rows.flat_map(stream::iter)).boxed())
}

/// One viewer and what is done with the rows for it.
struct Watch {
    viewer: Viewer,
    filter: Option<Filter>,
    columns: Option<Vec<usize>>,
    encoder: Encoder,
    left: u64,
}

impl Watch {
    fn new(public: &Public, ticket: &[u8]) -> Result<(Self, SchemaRef)> {
        let bad =
            |e: String| Error::bad_input("ticket-unreadable", format!("the ticket cannot be read: {e}"));
        if ticket.len() > MOST_TICKET {
            return Err(bad(format!("it has {} bytes; {MOST_TICKET} are the most", ticket.len())));
        }
        let ask: Ask = serde_json::from_slice(ticket).map_err(|e| {
            bad(e.to_string()).help(
                r#"a ticket is {"pipeline":"p","edge":"e"}, and "columns", "where" and "limit" as you like"#,
            )
        })?;
        let tap = public.taps.find(&pipeline_of(&ask.pipeline), &ask.edge)?;
        let full = tap.schema.clone();
        let filter = ask.predicate.map(|p| public.filters.compile(&full, &p)).transpose()?;
        let index = |name: &String| {
            full.index_of(name).map_err(|_| {
                let names: Vec<&str> = full.fields().iter().map(|f| f.name().as_str()).collect();
                Error::bad_input("unknown-column", format!("the edge has no column `{name}`"))
                    .help(format!("its columns are {}", names.join(", ")))
            })
        };
        let columns: Option<Vec<usize>> =
            ask.columns.map(|names| names.iter().map(index).collect()).transpose()?;
        let schema = match &columns {
            Some(columns) => Arc::new(full.project(columns).map_err(|e| bad(e.to_string()))?),
            None => full,
        };
        let encoder = Encoder::new(&schema, Compression::None).map_err(|e| bad(e.to_string()))?;
        let left = ask.limit.unwrap_or(u64::MAX);
        Ok((Self { viewer: tap.watch()?, filter, columns, encoder, left }, schema))
    }

    /// The messages of the next batch that has rows for the viewer; `None` at the end.
    async fn next(&mut self) -> Option<Result<Vec<Result<FlightData, Status>>>> {
        loop {
            if self.left == 0 {
                return None;
            }
            let (rows, missed) = self.viewer.next().await?;
            match self.select(rows).await {
                Ok(rows) if rows.num_rows() == 0 => {}
                Ok(rows) => {
                    self.left -= rows.num_rows() as u64;
                    return Some(self.encode(&rows, missed));
                }
                Err(error) => return Some(Err(error)),
            }
        }
    }

    async fn select(&self, rows: RecordBatch) -> Result<RecordBatch> {
        let rows = match self.filter.clone() {
            // What a viewer asks for may take long; the threads that serve connections have other things to do.
            Some(filter) => tokio::task::spawn_blocking(move || filter(&rows)).await.map_err(|e| {
                Error::runtime("predicate-failed", "a viewer's predicate ended in a panic").because(e)
            })??,
            None => rows,
        };
        let rows = match &self.columns {
            Some(columns) => rows.project(columns).map_err(unsent)?,
            None => rows,
        };
        let most = usize::try_from(self.left).unwrap_or(usize::MAX);
        Ok(rows.slice(0, rows.num_rows().min(most)))
    }

    fn encode(&mut self, rows: &RecordBatch, missed: u64) -> Result<Vec<Result<FlightData, Status>>> {
        let encoded = self.encoder.encode(rows).map_err(unsent)?;
        let messages = encoded.dictionaries.into_iter().chain([encoded.rows]);
        Ok(messages
            .map(|message| {
                Ok(FlightData {
                    flight_descriptor: None,
                    data_header: message.header.into(),
                    app_metadata: format!(r#"{{"missed":{missed}}}"#).into(),
                    data_body: message
                        .body
                        .iter()
                        .flat_map(|b| b.iter().copied())
                        .collect::<Vec<u8>>()
                        .into(),
                })
            })
            .collect())
    }
}

fn unsent(error: arrow_schema::ArrowError) -> Error {
    Error::runtime("rows-unsent", "rows of the edge cannot be shown").because(error)
}
