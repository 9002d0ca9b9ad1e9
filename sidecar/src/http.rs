//! The port for people and tools: `/metrics`, `/healthz`, `/readyz`.

use std::convert::Infallible;
use std::sync::Arc;

use conveyor_model::Clock;
use conveyor_net::{Access, Guard};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use hyper::{Method, Request, Response, StatusCode};

use crate::board::Board;
use crate::heartbeat::resident_bytes;
use crate::prometheus::{self, Gauge};

/// What a request is answered from. Clones are the same one.
#[derive(Clone)]
pub(crate) struct Pages(pub(crate) Arc<Parts>);

pub(crate) struct Parts {
    pub(crate) id: String,
    pub(crate) guard: Guard,
    pub(crate) board: Arc<Board>,
    pub(crate) clock: Arc<dyn Clock>,
}

const TEXT: &str = "text/plain; charset=utf-8";

impl Pages {
    /// Answers a request.
    ///
    /// # Errors
    /// Never.
    pub(crate) async fn answer(
        self,
        request: Request<Incoming>,
    ) -> Result<Response<Full<Bytes>>, Infallible> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return Ok(page(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET\n"));
        }
        Ok(match request.uri().path() {
            "/healthz" => page(StatusCode::OK, TEXT, "ok\n"),
            "/readyz" if self.0.board.is_attached() => page(StatusCode::OK, TEXT, "ready\n"),
            "/readyz" => page(StatusCode::SERVICE_UNAVAILABLE, TEXT, "no router leads this sidecar\n"),
            "/metrics" => match self.refusal(&request) {
                Some(refusal) => refusal,
                None => self.metrics(),
            },
            _ => page(StatusCode::NOT_FOUND, TEXT, "see /metrics, /healthz and /readyz\n"),
        })
    }

    /// Metrics are for viewers, as the routers' are.
    fn refusal(&self, request: &Request<Incoming>) -> Option<Response<Full<Bytes>>> {
        // What is no text is no token either.
        let header = request.headers().get(AUTHORIZATION).map(|value| value.to_str().unwrap_or_default());
        let denied = self.0.guard.user(header, Access::Viewer).err()?;
        let status = match denied {
            conveyor_net::Denied::Unauthenticated(_) => StatusCode::UNAUTHORIZED,
            conveyor_net::Denied::Forbidden(_) => StatusCode::FORBIDDEN,
        };
        let mut response = page(status, TEXT, format!("{denied}\n"));
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        Some(response)
    }

    fn metrics(&self) -> Response<Full<Bytes>> {
        let Parts { id, board, clock, .. } = &*self.0;
        let gauges = [
            Gauge {
                name: "process_resident",
                help: "Memory of this process",
                bytes: true,
                value: resident_bytes() as f64,
            },
            Gauge {
                name: "router_attached",
                help: "Whether a router leads this sidecar",
                bytes: false,
                value: f64::from(u8::from(board.is_attached())),
            },
        ];
        let labels = [("sidecar", id.as_str())];
        match prometheus::render(board.snapshots(clock.monotonic_us()), &labels, &gauges) {
            Ok(text) => page(StatusCode::OK, prometheus::CONTENT_TYPE, text),
            Err(error) => page(StatusCode::INTERNAL_SERVER_ERROR, TEXT, error.to_string()),
        }
    }
}

fn page(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
