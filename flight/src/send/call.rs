//! A `DoExchange` call whose request is a body of our own.

use arrow_flight::FlightData;
use http::header::{CONTENT_TYPE, HeaderValue, TE};
use tonic::codec::{Codec, Streaming};
use tonic::transport::Channel;
use tonic::{Status, body::Body};
use tonic_prost::ProstCodec;
use tower::{Service, ServiceExt};

/// Largest answer taken: credits of many channels.
const ANSWER_BYTES: usize = 4 << 20;

/// Opens the stream; answers come back on it.
///
/// # Errors
/// The refusal of the peer, or what is wrong with the connection.
pub(super) async fn exchange<B>(channel: &mut Channel, body: B) -> Result<Streaming<FlightData>, Status>
where
    B: http_body::Body<Data = bytes::Bytes, Error = Status> + Send + 'static,
{
    let broken = |e: tonic::transport::Error| Status::unavailable(crate::error::chain(&e));
    let ready = channel.ready().await.map_err(broken)?;
    let mut request = http::Request::new(Body::new(body));
    *request.method_mut() = http::Method::POST;
    *request.version_mut() = http::Version::HTTP_2;
    *request.uri_mut() = http::Uri::from_static("/arrow.flight.protocol.FlightService/DoExchange");
    request.headers_mut().insert(TE, HeaderValue::from_static("trailers"));
    request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    let response = ready.call(request).await.map_err(broken)?;
    let (head, body) = response.into_parts();
    if let Some(status) = Status::from_header_map(&head.headers) {
        return Err(status);
    }
    if head.status != http::StatusCode::OK {
        return Err(Status::unavailable(format!("HTTP status {}", head.status)));
    }
    let decoder = ProstCodec::<FlightData, FlightData>::default().decoder();
    Ok(Streaming::new_response(decoder, body, head.status, None, Some(ANSWER_BYTES)))
}
