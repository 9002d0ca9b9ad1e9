//! What can be done to a pipeline besides editing it.

use axum::Json;
use axum::extract::State;
use axum::http::header::ETAG;
use axum::response::{IntoResponse, Response};
use conveyor_model::PipelineId;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::extract::{Asked, Body, By, ChangeQuery, Expected, IfMatch, Named, PipelinePath, etag};
use super::pipelines::{check_version, raced};
use super::problem::{Changing, ChangingWithBody, Problem};
use super::views::RollbackBody;
use crate::control::types::PipelineSummary;
use crate::control::{Accept, Control};

type Shared = State<Control>;

pub(super) fn routes() -> OpenApiRouter<Control> {
    OpenApiRouter::new()
        .routes(routes!(pause))
        .routes(routes!(resume))
        .routes(routes!(drain))
        .routes(routes!(rollback))
}

/// The pipeline as it is after a change.
async fn afterwards(control: &Control, id: &PipelineId) -> Result<Response, Problem> {
    let pipeline = control.get(id).await?.summary;
    Ok(([(ETAG, etag(pipeline.version))], Json(pipeline)).into_response())
}

async fn expected(control: &Control, id: &PipelineId, expect: Option<u64>) -> Result<(), Problem> {
    match expect {
        Some(expect) => check_version(control, id, expect, false).await.map(drop),
        None => Ok(()),
    }
}

/// Pauses a pipeline: its sources stop, what they have read is committed and published, then nothing runs.
#[utoipa::path(post, path = "/v1/pipelines/{namespace}/{name}/pause", tag = "actions",
    operation_id = "pausePipeline", params(PipelinePath, ChangeQuery,
        IfMatch),
    security(("bearer" = [])), responses((status = 200, description = "The pipeline afterwards", body = PipelineSummary,
        headers(("etag" = String, description = "Version of the plan"))), Changing))]
async fn pause(
    State(control): Shared,
    Named(id): Named,
    By(by): By,
    Asked(query): Asked<ChangeQuery>,
    Expected(expect): Expected,
) -> Result<Response, Problem> {
    if query.validate_only {
        expected(&control, &id, expect).await?;
        control.check_pause(&id).await?;
    } else {
        control.pause(&id, &by, expect).await.map_err(|e| raced(e, expect))?;
    }
    afterwards(&control, &id).await
}

/// Lets a pipeline run again that was paused, has failed or has finished.
#[utoipa::path(post, path = "/v1/pipelines/{namespace}/{name}/resume", tag = "actions",
    operation_id = "resumePipeline", params(PipelinePath, ChangeQuery,
        IfMatch),
    security(("bearer" = [])), responses((status = 200, description = "The pipeline afterwards", body = PipelineSummary,
        headers(("etag" = String, description = "Version of the plan"))), Changing))]
async fn resume(
    State(control): Shared,
    Named(id): Named,
    By(by): By,
    Asked(query): Asked<ChangeQuery>,
    Expected(expect): Expected,
) -> Result<Response, Problem> {
    if query.validate_only {
        expected(&control, &id, expect).await?;
        control.check_resume(&id).await?;
    } else {
        control.resume(&id, &by, expect).await.map_err(|e| raced(e, expect))?;
    }
    afterwards(&control, &id).await
}

/// Pauses a pipeline that is to stop for a while, as before an upgrade.
#[utoipa::path(post, path = "/v1/pipelines/{namespace}/{name}/drain", tag = "actions",
    operation_id = "drainPipeline", params(PipelinePath, ChangeQuery,
        IfMatch),
    security(("bearer" = [])), responses((status = 200, description = "The pipeline afterwards", body = PipelineSummary,
        headers(("etag" = String, description = "Version of the plan"))), Changing))]
async fn drain(
    State(control): Shared,
    Named(id): Named,
    By(by): By,
    Asked(query): Asked<ChangeQuery>,
    Expected(expect): Expected,
) -> Result<Response, Problem> {
    if query.validate_only {
        expected(&control, &id, expect).await?;
        control.check_pause(&id).await?;
    } else {
        control.drain(&id, &by, expect).await.map_err(|e| raced(e, expect))?;
    }
    afterwards(&control, &id).await
}

/// Makes an older plan of a pipeline the newest one.
#[utoipa::path(post, path = "/v1/pipelines/{namespace}/{name}/rollback", tag = "actions",
    operation_id = "rollbackPipeline", params(PipelinePath, ChangeQuery,
        IfMatch),
    request_body(content = RollbackBody, content_type = "application/json"), security(("bearer" = [])),
    responses((status = 200, description = "The pipeline afterwards", body = PipelineSummary,
        headers(("etag" = String, description = "Version of the plan"))), ChangingWithBody))]
async fn rollback(
    State(control): Shared,
    Named(id): Named,
    Asked(query): Asked<ChangeQuery>,
    Expected(expect): Expected,
    Body(body): Body<RollbackBody>,
) -> Result<Response, Problem> {
    expected(&control, &id, expect).await?;
    let accept = Accept { state_loss: body.accept_state_loss, reset: false };
    let done = control.rollback(&id, body.version, expect, accept, query.validate_only).await;
    done.map_err(|e| raced(e, expect))?;
    afterwards(&control, &id).await
}
