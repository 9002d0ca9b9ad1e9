//! `DoPut`: rows for a `flight` source, acknowledged once they are committed.
//!
//! The descriptor's path is the pipeline and the source. A third part names a producer, who numbers its batches in their
//! `app_metadata`, `{"sequence":1}`: after an error it puts what was not acknowledged again, and nothing is taken twice.

use arrow_flight::{FlightData, PutResult};
use conveyor_model::{Error, PipelineId, Result};
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream, FuturesOrdered, StreamExt};
use serde::Deserialize;
use serde_json::json;
use tonic::{Status, Streaming};

use super::rows::Rows;
use super::{Public, Put, pipeline_of, status};

/// Batches that may wait for their commit before the next is read.
const MOST_WAITING: usize = 1024;

/// What a producer says of a batch.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Label {
    sequence: u64,
}

/// Answers a client that feeds a source: one `{"epoch":n}` for each batch, in the order of the batches, with its `sequence` where
/// it has one; without an epoch where a batch was put again after its commit.
///
/// # Errors
/// If the first message names no source.
pub(crate) async fn feed(
    public: Public,
    mut data: Streaming<FlightData>,
) -> Result<BoxStream<'static, Result<PutResult, Status>>, Status> {
    let first = data.message().await?.ok_or_else(|| Status::invalid_argument("no first message"))?;
    let descriptor = first.flight_descriptor.clone().unwrap_or_default();
    let (pipeline, source, producer) = match &descriptor.path[..] {
        [pipeline, source] => (pipeline, source, None),
        [pipeline, source, producer] => (pipeline, source, Some(producer.clone())),
        _ => {
            let error = Error::bad_input("descriptor-unreadable", "the descriptor names no source");
            let help = "its path is the pipeline, the name of a `flight` source, and the producer if batches are numbered";
            return Err(status(&error.help(help)));
        }
    };
    let feed = Feed {
        public,
        pipeline: pipeline_of(pipeline),
        source: source.clone(),
        producer,
        rows: Rows::new(),
        first: Some(first),
        data: Some(data),
        waiting: FuturesOrdered::new(),
    };
    let answers = stream::unfold(Some(feed), |feed| async move {
        let mut feed = feed?;
        match feed.next().await? {
            Ok(answer) => Some((Ok(answer), Some(feed))),
            // Nothing that comes after an error can be acknowledged.
            Err(status) => Some((Err(status), None)),
        }
    });
    Ok(answers.boxed())
}

struct Feed {
    public: Public,
    pipeline: PipelineId,
    source: String,
    producer: Option<String>,
    rows: Rows,
    first: Option<FlightData>,
    /// Absent once the client has sent everything.
    data: Option<Streaming<FlightData>>,
    waiting: FuturesOrdered<BoxFuture<'static, Result<PutResult, Status>>>,
}

impl Feed {
    /// The next acknowledgement; `None` after the last.
    async fn next(&mut self) -> Option<Result<PutResult, Status>> {
        loop {
            if let Some(first) = self.first.take() {
                if let Err(status) = self.take(first).await {
                    return Some(Err(status));
                }
                continue;
            }
            let reading = self.data.is_some() && self.waiting.len() < MOST_WAITING;
            let data = tokio::select! {
                biased;
                // Both are cancel-safe: a future stays in its queue, a message in its stream.
                Some(committed) = self.waiting.next(), if !self.waiting.is_empty() => {
                    return Some(committed);
                }
                data = read(self.data.as_mut()), if reading => data,
                else => return None,
            };
            match data {
                Ok(Some(data)) => {
                    if let Err(status) = self.take(data).await {
                        return Some(Err(status));
                    }
                }
                Ok(None) => self.data = None,
                Err(status) => return Some(Err(status)),
            }
        }
    }

    async fn take(&mut self, mut data: FlightData) -> Result<(), Status> {
        let label = std::mem::take(&mut data.app_metadata);
        let rows = self.rows.read(data).map_err(|what| {
            status(&Error::bad_input("rows-unreadable", format!("the rows cannot be read: {what}")))
        })?;
        let Some(rows) = rows else { return Ok(()) };
        let sequence = self.sequence(&label).map_err(|e| status(&e))?;
        let (source, producer) = (self.source.clone(), self.producer.clone());
        let put = Put { source, producer, sequence, rows };
        let committed = self.public.ingest.put(&self.pipeline, put).await.map_err(|e| status(&e))?;
        self.waiting.push_back(Box::pin(async move {
            let epoch = committed.await.map_err(|e| status(&e))?;
            let mut answer = serde_json::Map::new();
            answer.extend(epoch.map(|e| ("epoch".to_owned(), json!(e.0))));
            answer.extend(sequence.map(|s| ("sequence".to_owned(), json!(s))));
            Ok(PutResult { app_metadata: serde_json::Value::Object(answer).to_string().into() })
        }));
        Ok(())
    }

    /// The batch's number: there if and only if there is a producer.
    fn sequence(&self, label: &[u8]) -> Result<Option<u64>> {
        let help = r#"the batches of a producer have the metadata {"sequence":1}, 2 and so on; those without have none"#;
        let wrong = |what: String| Error::bad_input("sequence-unreadable", what).help(help);
        match (&self.producer, label.is_empty()) {
            (None, true) => Ok(None),
            (None, false) => {
                Err(wrong("the batch has metadata, but the descriptor names no producer".into()))
            }
            (Some(producer), true) => {
                Err(wrong(format!("a batch of the producer `{producer}` has no number")))
            }
            (Some(_), false) => serde_json::from_slice::<Label>(label)
                .map(|label| Some(label.sequence))
                .map_err(|e| wrong(format!("the batch's metadata cannot be read: {e}"))),
        }
    }
}

async fn read(data: Option<&mut Streaming<FlightData>>) -> Result<Option<FlightData>, Status> {
    match data {
        Some(data) => data.message().await,
        None => Ok(None),
    }
}
