//! Whether the process lives, whether it can serve, and what it has counted.

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use conveyor_model::Error;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::extract::{Asked, Nothing};
use super::measures;
use super::problem::{Problem, Reading};
use crate::control::Control;
use crate::control::types::ClusterStatus;

/// What a scraper is told that it gets.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Entries that a router may be behind its own log and still be asked.
const MAX_LAG: u64 = 1000;

type Shared = State<Control>;

pub(super) fn routes() -> OpenApiRouter<Control> {
    OpenApiRouter::new().routes(routes!(healthz)).routes(routes!(readyz)).routes(routes!(metrics))
}

/// Says that the process lives.
#[utoipa::path(get, path = "/healthz", tag = "probes", operation_id = "healthz", security(()),
    responses((status = 200, description = "It lives", body = String, content_type = "text/plain; charset=utf-8")))]
async fn healthz() -> &'static str {
    "ok\n"
}

/// Says whether this router can serve: it knows a leader, and its log is not far behind. Pipelines do not matter.
#[utoipa::path(get, path = "/readyz", tag = "probes", operation_id = "readyz", security(()),
    responses((status = 200, description = "It can serve", body = String, content_type = "text/plain; charset=utf-8"),
        (status = 503, description = "Not now", body = Problem, content_type = "application/problem+json")))]
async fn readyz(State(control): Shared) -> Response {
    match ready(&control.own_status()) {
        Ok(()) => "ready\n".into_response(),
        Err(why) => Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not-ready", why).into_response(),
    }
}

/// Everything that is counted, for Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "probes", operation_id = "metrics", security(("bearer" = [])),
    responses((status = 200, description = "OpenMetrics text", body = String,
        content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8"), Reading))]
async fn metrics(State(control): Shared, _: Asked<Nothing>) -> Result<Response, Problem> {
    let text = measures::render(control.measures().await?)
        .map_err(|e| Error::runtime("metrics-text", "the metrics cannot be written").because(e))?;
    Ok(([(CONTENT_TYPE, OPENMETRICS)], text).into_response())
}

/// Whether a router can serve; the sentence says why not.
fn ready(own: &ClusterStatus) -> Result<(), &'static str> {
    let behind = own.last_entry.unwrap_or(0).saturating_sub(own.applied_entry.unwrap_or(0));
    match own.leader {
        None => Err("no leader is known"),
        Some(_) if behind > MAX_LAG => Err("the log is not applied yet"),
        Some(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_router_is_ready_with_a_leader_and_an_applied_log() {
        let mut own = ClusterStatus {
            cluster: "test".into(),
            node: 1,
            term: 1,
            leader: Some(2),
            last_entry: Some(5000),
            applied_entry: Some(4000),
            snapshot_entry: None,
            routers: Vec::new(),
        };
        assert_eq!(ready(&own), Ok(()));
        own.applied_entry = Some(3999);
        assert_eq!(ready(&own), Err("the log is not applied yet"));
        own.applied_entry = None;
        assert!(ready(&own).is_err());
        own = ClusterStatus { leader: None, applied_entry: Some(5000), ..own };
        assert_eq!(ready(&own), Err("no leader is known"));
    }
}
