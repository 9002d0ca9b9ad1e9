//! Routers that come and go.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::ETAG;
use axum::response::{IntoResponse, Response};
use conveyor_model::Error;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::extract::{Asked, Body, ChangeQuery, Expected, IfMatch, Nothing, RouterPath, etag};
use super::problem::{Changing, ChangingWithBody, Problem, Reading};
use super::views::RouterBody;
use crate::control::Control;
use crate::control::types::ClusterStatus;

type Shared = State<Control>;

pub(super) fn routes() -> OpenApiRouter<Control> {
    OpenApiRouter::new().routes(routes!(cluster)).routes(routes!(add)).routes(routes!(remove))
}

/// Shows the routers and who leads.
#[utoipa::path(get, path = "/v1/cluster", tag = "cluster", operation_id = "getCluster", security(("bearer" = [])),
    responses((status = 200, description = "The routers", body = ClusterStatus,
        headers(("etag" = String, description = "Names who takes part, for `If-Match`"))), Reading))]
async fn cluster(State(control): Shared, _: Asked<Nothing>) -> Result<Response, Problem> {
    shown(&control).await
}

/// Lets a router take part that was started with a new data directory and an id that was never used.
#[utoipa::path(post, path = "/v1/cluster/routers", tag = "cluster", operation_id = "addRouter",
    params(ChangeQuery, IfMatch), request_body(content = RouterBody, content_type = "application/json"),
    security(("bearer" = [])),
    responses((status = 200, description = "The routers afterwards", body = ClusterStatus,
        headers(("etag" = String, description = "Names who takes part"))), ChangingWithBody))]
async fn add(
    State(control): Shared,
    Asked(query): Asked<ChangeQuery>,
    Expected(expect): Expected,
    Body(body): Body<RouterBody>,
) -> Result<Response, Problem> {
    expected(&control, expect).await?;
    if !query.validate_only {
        control.add_router(body.id, &body.address, expect).await.map_err(not_joined)?;
    }
    shown(&control).await
}

/// Removes a router. Its id must not be used again.
#[utoipa::path(delete, path = "/v1/cluster/routers/{id}", tag = "cluster", operation_id = "removeRouter",
    params(RouterPath, ChangeQuery, IfMatch), security(("bearer" = [])),
    responses((status = 200, description = "The routers afterwards", body = ClusterStatus,
        headers(("etag" = String, description = "Names who takes part"))), Changing))]
async fn remove(
    State(control): Shared,
    RouterPath { id }: RouterPath,
    Asked(query): Asked<ChangeQuery>,
    Expected(expect): Expected,
) -> Result<Response, Problem> {
    let status = expected(&control, expect).await?;
    if !status.routers.iter().any(|router| router.id == id) {
        let sentence = format!("there is no router {id}");
        return Err(Problem::new(StatusCode::NOT_FOUND, "unknown-member", sentence));
    }
    if status.routers.len() == 1 {
        return Err(Problem::new(StatusCode::CONFLICT, "last-router", "the only router cannot be removed"));
    }
    if query.validate_only {
        return shown(&control).await;
    }
    control.remove_router(id, expect).await.map_err(changed)?;
    // A router that was asked to remove itself finds no leader any more, and yet it is done.
    let itself = control.own_status().node == id;
    let seen = if itself { None } else { control.cluster().await.ok() };
    shown_as(seen.unwrap_or_else(|| without(status, id)))
}

/// What is left once a router is gone.
fn without(mut status: ClusterStatus, id: u64) -> ClusterStatus {
    status.routers.retain(|router| router.id != id);
    status.leader = status.leader.filter(|leader| *leader != id);
    status
}

async fn shown(control: &Control) -> Result<Response, Problem> {
    shown_as(control.cluster().await?)
}

fn shown_as(status: ClusterStatus) -> Result<Response, Problem> {
    Ok(([(ETAG, etag(status.tag()))], Json(status)).into_response())
}

/// The cluster, unless other routers take part than the caller has seen.
pub(super) async fn expected(control: &Control, expect: Option<u64>) -> Result<ClusterStatus, Problem> {
    let status = control.cluster().await?;
    match expect {
        Some(expect) if expect != status.tag() => Err(stale()),
        _ => Ok(status),
    }
}

/// What went stale between the look and the change.
fn changed(error: Error) -> Problem {
    if error.code() == "stale-cluster" { stale() } else { error.into() }
}

fn stale() -> Problem {
    Problem::new(StatusCode::PRECONDITION_FAILED, "stale-cluster", "other routers take part now")
        .help("look at the cluster again, and send its ETag as If-Match")
}

/// That the new router is not reached is no failure of the one that was asked.
fn not_joined(error: Error) -> Problem {
    if error.code() == "stale-cluster" {
        return changed(error);
    }
    let other = matches!(error.code(), "log-unanswered" | "router-unreachable" | "node-refused");
    let problem = Problem::from(error);
    if !other {
        return problem;
    }
    let detail = problem.detail.into_string();
    Problem::new(StatusCode::CONFLICT, "router-not-reached", detail)
        .help("start it first, with the cluster's name and certificates, and check its address")
}
