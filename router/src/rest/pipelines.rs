//! Pipelines: lists, one of them, its status, plan, history and dead letters; applying and deleting.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::ETAG;
use axum::response::{IntoResponse, Response};
use conveyor_model::{Error, PipelineId};
use conveyor_planner::Document;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::convert::applied;
use super::extract::{Asked, Body, ChangeQuery, Expected, IfMatch, Named, Nothing, PipelinePath, etag};
use super::page::{Page, PageQuery};
use super::problem::{Changing, ChangingWithBody, Problem, Reading, ReadingOne};
use super::views::{AppliedPipeline, ApplyBody, DeadLetterCount, ObjectName, PlanDocument};
use crate::control::types::{History, PipelineStatus, PipelineSummary};
use crate::control::{Accept, Apply, Control};
use crate::manifests::Selection;

type Shared = State<Control>;

pub(super) fn routes() -> OpenApiRouter<Control> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(get, put, delete))
        .routes(routes!(status))
        .routes(routes!(plan))
        .routes(routes!(history))
        .routes(routes!(dead_letters))
}

/// Lists pipelines.
#[utoipa::path(get, path = "/v1/pipelines", tag = "pipelines", operation_id = "listPipelines", params(PageQuery),
    security(("bearer" = [])),
    responses((status = 200, description = "Pipelines by namespace and name", body = Page<PipelineSummary>), Reading))]
async fn list(
    State(control): Shared,
    Asked(page): Asked<PageQuery>,
) -> Result<Json<Page<PipelineSummary>>, Problem> {
    page.of(control.list().await?, |p| format!("{}/{}", p.namespace, p.name))
}

/// Shows a pipeline.
#[utoipa::path(get, path = "/v1/pipelines/{namespace}/{name}", tag = "pipelines", operation_id = "getPipeline",
    params(PipelinePath), security(("bearer" = [])),
    responses((status = 200, description = "The pipeline", body = PipelineSummary,
        headers(("etag" = String, description = "Version of the plan, for `If-Match`"))), ReadingOne))]
async fn get(State(control): Shared, Named(id): Named, _: Asked<Nothing>) -> Result<Response, Problem> {
    let pipeline = control.get(&id).await?.summary;
    Ok(([(ETAG, etag(pipeline.version))], Json(pipeline)).into_response())
}

/// Applies a manifest: makes the pipeline, or changes it.
#[utoipa::path(put, path = "/v1/pipelines/{namespace}/{name}", tag = "pipelines", operation_id = "applyPipeline",
    params(PipelinePath, ChangeQuery,
        IfMatch),
    request_body(content = ApplyBody, content_type = "application/json"), security(("bearer" = [])),
    responses(
        (status = 200, description = "It was changed, or would be", body = AppliedPipeline,
            headers(("etag" = String, description = "Version of the plan now"))),
        (status = 201, description = "It was made", body = AppliedPipeline,
            headers(("etag" = String, description = "Version of the plan now"))),
        ChangingWithBody))]
async fn put(
    State(control): Shared,
    Named(id): Named,
    Asked(query): Asked<ChangeQuery>,
    Expected(expect): Expected,
    Body(body): Body<ApplyBody>,
) -> Result<Response, Problem> {
    if let Some(expect) = expect {
        check_version(&control, &id, expect, true).await?;
    }
    let apply = Apply {
        documents: vec![Document { name: "manifest".to_owned(), text: body.manifest }],
        selection: Selection {
            pipeline: Some(id.name.clone()),
            namespace: Some(id.namespace.clone()),
            look_outside: true,
            ..Selection::default()
        },
        validate_only: query.validate_only,
        expect: expect.map(|version| (id.clone(), version)).into_iter().collect(),
        accept: Accept { state_loss: body.accept_state_loss, reset: body.reset },
    };
    let done = control.apply(apply).await?.pop().ok_or_else(|| {
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "nothing-applied", "the pipeline was not planned")
    })?;
    let version = done.outcome.map_err(|e| raced(e, expect))?;
    let created = done.planned.version == 0 && !query.validate_only;
    let status = if created { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, [(ETAG, etag(version))], Json(applied(&done.planned, version))).into_response())
}

/// Stops and forgets a pipeline. What it has published stays.
#[utoipa::path(delete, path = "/v1/pipelines/{namespace}/{name}", tag = "pipelines", operation_id = "deletePipeline",
    params(PipelinePath, ChangeQuery,
        IfMatch),
    security(("bearer" = [])), responses((status = 204, description = "It is gone, or would be"), Changing))]
async fn delete(
    State(control): Shared,
    Named(id): Named,
    Asked(query): Asked<ChangeQuery>,
    Expected(expect): Expected,
) -> Result<StatusCode, Problem> {
    let version = match expect {
        Some(expect) => check_version(&control, &id, expect, false).await?,
        None => control.get(&id).await?.summary.version,
    };
    if !query.validate_only {
        control.delete(&id, Some(version)).await.map_err(|e| raced(e, expect))?;
    }
    Ok(StatusCode::NO_CONTENT)
}

/// Shows how a pipeline does: tasks, rows, edges, epochs.
#[utoipa::path(get, path = "/v1/pipelines/{namespace}/{name}/status", tag = "pipelines",
    operation_id = "getPipelineStatus", params(PipelinePath), security(("bearer" = [])),
    responses((status = 200, description = "Its status", body = PipelineStatus), ReadingOne))]
async fn status(
    State(control): Shared,
    Named(id): Named,
    _: Asked<Nothing>,
) -> Result<Json<PipelineStatus>, Problem> {
    Ok(Json(control.get(&id).await?))
}

/// Shows the plan of a pipeline.
#[utoipa::path(get, path = "/v1/pipelines/{namespace}/{name}/plan", tag = "pipelines",
    operation_id = "getPipelinePlan", params(PipelinePath), security(("bearer" = [])),
    responses((status = 200, description = "Its plan", body = PlanDocument,
        headers(("etag" = String, description = "Version of the plan, for `If-Match`"))), ReadingOne))]
async fn plan(State(control): Shared, Named(id): Named, _: Asked<Nothing>) -> Result<Response, Problem> {
    let version = control.get(&id).await?.summary.version;
    let plan = control.plan_of(&id, Some(version)).await?;
    let (store, dead_letters) = control.places(&plan);
    let committed = control.committed(&id).await?.map(|c| ObjectName { key: c.key, sha256: c.sha256 });
    let plan = serde_json::to_value(&plan)
        .map_err(|e| Error::runtime("not-json", "the plan cannot be written as JSON").because(e))?;
    let document = PlanDocument { version, plan, store, dead_letters, committed };
    Ok(([(ETAG, etag(version))], Json(document)).into_response())
}

/// Shows what the log remembers of a pipeline: its last changes, and the versions to which it can be rolled back.
#[utoipa::path(get, path = "/v1/pipelines/{namespace}/{name}/history", tag = "pipelines",
    operation_id = "getPipelineHistory", params(PipelinePath), security(("bearer" = [])),
    responses((status = 200, description = "Its history, oldest first", body = History), ReadingOne))]
async fn history(
    State(control): Shared,
    Named(id): Named,
    _: Asked<Nothing>,
) -> Result<Json<History>, Problem> {
    Ok(Json(control.history(&id).await?))
}

/// Counts the dead letters of a pipeline by node and code, since its tasks were started last.
#[utoipa::path(get, path = "/v1/pipelines/{namespace}/{name}/dead-letters", tag = "pipelines",
    operation_id = "getPipelineDeadLetters", params(PipelinePath, PageQuery), security(("bearer" = [])),
    responses((status = 200, description = "Its dead letters", body = Page<DeadLetterCount>), ReadingOne))]
async fn dead_letters(
    State(control): Shared,
    Named(id): Named,
    Asked(page): Asked<PageQuery>,
) -> Result<Json<Page<DeadLetterCount>>, Problem> {
    let mut counts = Vec::new();
    for node in control.get(&id).await?.live.nodes {
        for (code, rows) in node.rejected {
            counts.push(DeadLetterCount { node: node.name.clone(), code, rows });
        }
    }
    // Names have no NUL, so the two parts sort as a pair does.
    page.of(counts, |count| format!("{}\0{}", count.node, count.code))
}

/// The version that is current, if it is the one that the caller saw. Where a pipeline may be `absent`, it is at 0 then.
pub(super) async fn check_version(
    control: &Control,
    id: &PipelineId,
    expect: u64,
    absent: bool,
) -> Result<u64, Problem> {
    let current = match control.get(id).await {
        Ok(pipeline) => pipeline.summary.version,
        Err(error) if absent && error.code() == "unknown-pipeline" => 0,
        Err(error) => return Err(error.into()),
    };
    if current == expect { Ok(current) } else { Err(stale(format!("the plan is at version {current} now"))) }
}

/// A version that went stale between the look and the change: 412 where the caller named one, a conflict otherwise.
pub(super) fn raced(error: Error, expect: Option<u64>) -> Problem {
    if error.code() == "stale-plan" && expect.is_some() { stale(error.message()) } else { error.into() }
}

fn stale(why: impl Into<String>) -> Problem {
    Problem::new(StatusCode::PRECONDITION_FAILED, "stale-plan", why)
        .help("look at the pipeline again, and send its ETag as If-Match")
}
