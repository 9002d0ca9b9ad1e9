//! What is left of a request's body when it is answered without having been read, as after a 401.
//!
//! HTTP/1.1 cannot go on with a connection whose last body is unread. So a small rest is read and thrown away, and of a large
//! one the caller is told that the connection ends.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use axum::extract::Request;
use axum::http::header::CONNECTION;
use axum::http::{HeaderValue, Version};
use axum::middleware::Next;
use axum::response::Response;
use conveyor_net::limits::MAX_REST_BODY;
use futures::{StreamExt as _, stream};
use parking_lot::Mutex;
use tokio::time::timeout;

/// Time for the rest.
const READ_WITHIN: Duration = Duration::from_secs(2);

/// Answers, and sees to the rest of the body.
pub(super) async fn clear(request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    if parts.version >= Version::HTTP_2 {
        return next.run(Request::from_parts(parts, body)).await;
    }
    let whole = Arc::new(Mutex::new(body.into_data_stream()));
    let lent = whole.clone();
    let lent = Body::from_stream(stream::poll_fn(move |cx| lent.lock().poll_next_unpin(cx)));
    let mut response = next.run(Request::from_parts(parts, lent)).await;
    if !matches!(timeout(READ_WITHIN, is_read_out(&whole)).await, Ok(true)) {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Reads to the end, if that is not far; false if it is, or if the caller breaks off.
async fn is_read_out(rest: &Mutex<BodyDataStream>) -> bool {
    let mut left = MAX_REST_BODY;
    while let Some(piece) = poll_fn(|cx| rest.lock().poll_next_unpin(cx)).await {
        match piece.ok().and_then(|bytes| left.checked_sub(bytes.len())) {
            Some(after) => left = after,
            None => return false,
        }
    }
    true
}
