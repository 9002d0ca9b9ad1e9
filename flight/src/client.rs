//! A client of what processes offer to anyone: finds an edge, and watches it.

use std::pin::Pin;
use std::str::FromStr as _;

use arrow_array::RecordBatch;
use arrow_flight::decode::{DecodedPayload, FlightDataDecoder};
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::{FlightDescriptor, Ticket};
use conveyor_model::{Error, Kind, PipelineId, Result};
use futures::{StreamExt, TryStreamExt};
use serde::Serialize;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

/// Largest message that is taken, in bytes.
const MOST_MESSAGE: usize = 160 << 20;

/// What a viewer wants of an edge.
#[derive(Debug, Clone, Serialize)]
pub struct View {
    /// `namespace/name`.
    pub pipeline: String,
    /// Name of the edge.
    pub edge: String,
    /// Only these columns, in this order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub columns: Option<Vec<String>>,
    /// Only rows for which this SQL condition holds.
    #[serde(rename = "where", skip_serializing_if = "Option::is_none")]
    pub predicate: Option<String>,
    /// At most so many rows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
}

/// A client of one process.
#[derive(Clone)]
pub struct Client {
    inner: FlightServiceClient<Channel>,
    token: Option<MetadataValue<tonic::metadata::Ascii>>,
}

/// Rows as they pass.
pub struct Passing(Pin<Box<FlightDataDecoder>>);

impl Client {
    /// A client over a connection, with a bearer token where one is needed.
    ///
    /// # Errors
    /// `BadInput` if the token is none.
    pub fn new(channel: Channel, token: Option<&str>) -> Result<Self> {
        let value = |token: &str| {
            MetadataValue::from_str(&format!("Bearer {token}")).map_err(|_| {
                Error::bad_input("token-unreadable", "the token has characters that no token has")
            })
        };
        let inner = FlightServiceClient::new(channel).max_decoding_message_size(MOST_MESSAGE);
        Ok(Self { inner, token: token.map(value).transpose()? })
    }

    /// URIs of the processes where an edge starts.
    ///
    /// # Errors
    /// `BadInput` if there is none of that name; `Unavailable` if nobody can say.
    pub async fn find(&self, pipeline: &PipelineId, edge: &str) -> Result<Vec<String>> {
        let descriptor = FlightDescriptor::new_path(vec![pipeline.to_string(), edge.to_owned()]);
        let info = self.inner.clone().get_flight_info(self.request(descriptor)).await.map_err(error_of)?;
        let endpoints = info.into_inner().endpoint.into_iter();
        Ok(endpoints.flat_map(|e| e.location).map(|l| l.uri).collect())
    }

    /// Watches an edge that starts in the process.
    ///
    /// # Errors
    /// `BadInput` if the edge, a column or the condition is wrong; `Unavailable` if the process cannot be reached.
    pub async fn watch(&self, view: &View) -> Result<Passing> {
        let ticket = serde_json::to_vec(view)
            .map_err(|e| Error::runtime("ticket-unwritten", "a ticket cannot be written").because(e))?;
        let data = self.inner.clone().do_get(self.request(Ticket::new(ticket))).await.map_err(error_of)?;
        let data = data.into_inner().map_err(|status| FlightError::Tonic(Box::new(status)));
        Ok(Passing(Box::pin(FlightDataDecoder::new(data))))
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(token) = &self.token {
            request.metadata_mut().insert("authorization", token.clone());
        }
        request
    }
}

impl Passing {
    /// The next rows, and how many were missed so far because this viewer was too slow; `None` at the end. Cancel-safe.
    ///
    /// # Errors
    /// `Unavailable` if the connection breaks.
    pub async fn next(&mut self) -> Result<Option<(RecordBatch, u64)>> {
        loop {
            let Some(data) = self.0.next().await else { return Ok(None) };
            let data = data.map_err(|e| match e {
                FlightError::Tonic(status) => error_of(*status),
                other => Error::runtime("rows-unreadable", "rows of the edge cannot be read").because(other),
            })?;
            if let DecodedPayload::RecordBatch(rows) = data.payload {
                let said: serde_json::Value =
                    serde_json::from_slice(&data.inner.app_metadata).unwrap_or_default();
                return Ok(Some((rows, said["missed"].as_u64().unwrap_or(0))));
            }
        }
    }
}

/// What a process says is wrong. Its code, if it has one, is at the end of the sentence, in brackets.
fn error_of(status: Status) -> Error {
    let kind = match status.code() {
        Code::InvalidArgument | Code::Unauthenticated | Code::PermissionDenied => Kind::BadInput,
        Code::ResourceExhausted => Kind::Exhausted,
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Unknown => Kind::Unavailable,
        _ => Kind::Runtime,
    };
    let text = status.message();
    let (message, help) = text.split_once("; ").map_or((text, None), |(a, b)| (a, Some(b)));
    let coded = message.strip_suffix(']').and_then(|m| m.rsplit_once(" ["));
    let error = match (coded, status.code()) {
        (Some((message, code)), _) => Error::reported(kind, code, message),
        (None, Code::Unauthenticated) => Error::reported(kind, "unauthenticated", message),
        (None, Code::PermissionDenied) => Error::reported(kind, "permission-denied", message),
        (None, _) => Error::reported(kind, "process-refused", message),
    };
    match help {
        Some(help) => error.help(help),
        None => error,
    }
}
