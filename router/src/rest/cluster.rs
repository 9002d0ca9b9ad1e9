//! Sidecars, objects of plans, dry runs.

use axum::Json;
use axum::extract::State;
use conveyor_planner::Document;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::convert::applied;
use super::extract::{Asked, Body, Nothing};
use super::objects::{Kind, objects};
use super::page::{Page, PageQuery};
use super::problem::{Planning, Problem, Reading};
use super::views::{DryRun, PlanBody, PlanObject};
use crate::control::Control;
use crate::control::types::SidecarStatus;
use crate::manifests::Selection;

type Shared = State<Control>;

pub(super) fn routes() -> OpenApiRouter<Control> {
    OpenApiRouter::new()
        .routes(routes!(sources))
        .routes(routes!(transforms))
        .routes(routes!(lookups))
        .routes(routes!(sinks))
        .routes(routes!(sidecars))
        .routes(routes!(plan))
}

/// Lists the sources that pipelines read.
#[utoipa::path(get, path = "/v1/sources", tag = "objects", operation_id = "listSources", params(PageQuery),
    security(("bearer" = [])), responses((status = 200, description = "Sources", body = Page<PlanObject>), Reading))]
async fn sources(
    State(control): Shared,
    Asked(page): Asked<PageQuery>,
) -> Result<Json<Page<PlanObject>>, Problem> {
    objects(&control, Kind::Source, &page).await
}

/// Lists the steps of pipelines.
#[utoipa::path(get, path = "/v1/transforms", tag = "objects", operation_id = "listTransforms", params(PageQuery),
    security(("bearer" = [])), responses((status = 200, description = "Steps", body = Page<PlanObject>), Reading))]
async fn transforms(
    State(control): Shared,
    Asked(page): Asked<PageQuery>,
) -> Result<Json<Page<PlanObject>>, Problem> {
    objects(&control, Kind::Step, &page).await
}

/// Lists the lookups that pipelines ask.
#[utoipa::path(get, path = "/v1/lookups", tag = "objects", operation_id = "listLookups", params(PageQuery),
    security(("bearer" = [])), responses((status = 200, description = "Lookups", body = Page<PlanObject>), Reading))]
async fn lookups(
    State(control): Shared,
    Asked(page): Asked<PageQuery>,
) -> Result<Json<Page<PlanObject>>, Problem> {
    objects(&control, Kind::Lookup, &page).await
}

/// Lists the sinks that pipelines write.
#[utoipa::path(get, path = "/v1/sinks", tag = "objects", operation_id = "listSinks", params(PageQuery),
    security(("bearer" = [])), responses((status = 200, description = "Sinks", body = Page<PlanObject>), Reading))]
async fn sinks(
    State(control): Shared,
    Asked(page): Asked<PageQuery>,
) -> Result<Json<Page<PlanObject>>, Problem> {
    objects(&control, Kind::Sink, &page).await
}

/// Lists the sidecars.
#[utoipa::path(get, path = "/v1/sidecars", tag = "cluster", operation_id = "listSidecars", params(PageQuery),
    security(("bearer" = [])), responses((status = 200, description = "Sidecars", body = Page<SidecarStatus>), Reading))]
async fn sidecars(
    State(control): Shared,
    Asked(page): Asked<PageQuery>,
) -> Result<Json<Page<SidecarStatus>>, Problem> {
    page.of(control.sidecars().await?, |sidecar| sidecar.id.clone())
}

/// Says what applying a manifest would do, and does nothing.
#[utoipa::path(post, path = "/v1/plan", tag = "cluster", operation_id = "plan",
    request_body(content = PlanBody, content_type = "application/json"), security(("bearer" = [])),
    responses((status = 200, description = "What would change", body = DryRun), Planning))]
async fn plan(
    State(control): Shared,
    _: Asked<Nothing>,
    Body(body): Body<PlanBody>,
) -> Result<Json<DryRun>, Problem> {
    let document = Document { name: "manifest".to_owned(), text: body.manifest };
    let selection = Selection { look_outside: true, ..Selection::default() };
    let planned = control.plan(&[document], &selection).await?;
    Ok(Json(DryRun { pipelines: planned.iter().map(|p| applied(p, p.version)).collect() }))
}
