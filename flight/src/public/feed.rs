//! `DoPut`: rows for a `flight` source, acknowledged once they are committed.

use arrow_flight::{FlightData, PutResult};
use conveyor_model::{Error, PipelineId, Result};
use futures::stream::{self, BoxStream, FuturesOrdered, StreamExt};
use tonic::{Status, Streaming};

use super::rows::Rows;
use super::{Committed, Public, pipeline_of, status};

/// Batches that may wait for their commit before the next is read.
const MOST_WAITING: usize = 1024;

/// Answers a client that feeds a source: one `{"epoch":n}` for each batch, in the order of the batches.
///
/// # Errors
/// If the first message names no source.
pub(crate) async fn feed(
    public: Public,
    mut data: Streaming<FlightData>,
) -> Result<BoxStream<'static, Result<PutResult, Status>>, Status> {
    let first = data.message().await?.ok_or_else(|| Status::invalid_argument("no first message"))?;
    let descriptor = first.flight_descriptor.clone().unwrap_or_default();
    let [pipeline, source] = &descriptor.path[..] else {
        let error = Error::bad_input("descriptor-unreadable", "the descriptor names no source");
        return Err(status(&error.help("its path is the pipeline and the name of a `flight` source")));
    };
    let feed = Feed {
        public,
        pipeline: pipeline_of(pipeline),
        source: source.clone(),
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
    rows: Rows,
    first: Option<FlightData>,
    /// Absent once the client has sent everything.
    data: Option<Streaming<FlightData>>,
    waiting: FuturesOrdered<Committed>,
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
                    return Some(committed.map(|epoch| PutResult {
                        app_metadata: format!(r#"{{"epoch":{epoch}}}"#).into(),
                    }).map_err(|error| status(&error)));
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

    async fn take(&mut self, data: FlightData) -> Result<(), Status> {
        let rows = self.rows.read(data).map_err(|what| {
            status(&Error::bad_input("rows-unreadable", format!("the rows cannot be read: {what}")))
        })?;
        let Some(rows) = rows else { return Ok(()) };
        let committed = self.public.ingest.put(&self.pipeline, &self.source, rows).await;
        self.waiting.push_back(committed.map_err(|error| status(&error))?);
        Ok(())
    }
}

async fn read(data: Option<&mut Streaming<FlightData>>) -> Result<Option<FlightData>, Status> {
    match data {
        Some(data) => data.message().await,
        None => Ok(None),
    }
}
