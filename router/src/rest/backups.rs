//! The control state as a document, and back.

use axum::Json;
use axum::extract::{DefaultBodyLimit, State};
use conveyor_net::limits::MAX_BACKUP;
use serde_json::Value;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::extract::{Asked, Body, ChangeQuery, Expected, IfMatch, Nothing};
use super::problem::{ChangingWithBody, Problem, Reading};
use super::routers::expected;
use crate::control::Control;
use crate::control::backup::{Backup, Restored};

type Shared = State<Control>;

pub(super) fn routes() -> OpenApiRouter<Control> {
    OpenApiRouter::new()
        .routes(routes!(backup))
        .merge(OpenApiRouter::new().routes(routes!(restore)).layer(DefaultBodyLimit::max(MAX_BACKUP)))
}

/// Gives the control state: what is agreed of plans, assignments, watermarks and commits. Needs an admin.
#[utoipa::path(get, path = "/v1/cluster/backup", tag = "cluster", operation_id = "takeBackup", security(("bearer" = [])),
    responses((status = 200, description = "The control state with its checksum", body = Backup), Reading))]
async fn backup(State(control): Shared, _: Asked<Nothing>) -> Result<Json<Backup>, Problem> {
    Ok(Json(control.backup().await?))
}

/// Restores a backup into a cluster that has no pipelines. All of it is checked before anything is changed.
#[utoipa::path(post, path = "/v1/cluster/restore", tag = "cluster", operation_id = "restoreBackup",
    params(ChangeQuery, IfMatch), request_body(content = Backup, content_type = "application/json"),
    security(("bearer" = [])),
    responses((status = 200, description = "What was restored", body = Restored), ChangingWithBody))]
async fn restore(
    State(control): Shared,
    Asked(query): Asked<ChangeQuery>,
    Expected(expect): Expected,
    Body(document): Body<Value, MAX_BACKUP>,
) -> Result<Json<Restored>, Problem> {
    let backup = Backup::read(document)?;
    expected(&control, expect).await?;
    Ok(Json(control.restore(&backup, query.validate_only).await?))
}
