//! What processes have said lately.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::extract::Asked;
use super::problem::{Problem, Reading};
use crate::control::Control;
use crate::logs::{LogLine, Wanted};

/// Lines of an answer where nobody says how many.
const USUAL: u32 = 200;

type Shared = State<Control>;

pub(super) fn routes() -> OpenApiRouter<Control> {
    OpenApiRouter::new().routes(routes!(logs))
}

/// Which lines.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct LogQuery {
    /// Those about this pipeline, `namespace/name`.
    #[param(required = false, nullable = false, max_length = 127)]
    pipeline: Option<String>,
    /// Those about this node of the plan.
    #[param(required = false, nullable = false, max_length = 255)]
    step: Option<String>,
    /// Those of this process: `router 1`, or a sidecar's name.
    #[param(required = false, nullable = false, max_length = 255)]
    process: Option<String>,
    /// Those later than this, microseconds since 1970.
    #[param(required = false, nullable = false, minimum = -9007199254740991i64, maximum = 9007199254740991i64)]
    after_us: Option<i64>,
    /// At most so many, the newest; 200 by default.
    #[param(required = false, nullable = false, minimum = 1, maximum = 1000)]
    limit: Option<u32>,
}

/// Lines of logs.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
struct LogLines {
    /// Oldest first.
    items: Vec<LogLine>,
}

/// Shows what processes have said lately: the last lines of the leader and of the sidecars that it has heard. Nothing is kept
/// beyond that; the whole is in the logs of the processes.
#[utoipa::path(get, path = "/v1/logs", tag = "cluster", operation_id = "listLogLines", params(LogQuery),
    security(("bearer" = [])), responses((status = 200, description = "Lines, oldest first", body = LogLines), Reading))]
async fn logs(State(control): Shared, Asked(query): Asked<LogQuery>) -> Result<Json<LogLines>, Problem> {
    let limit = query.limit.unwrap_or(USUAL);
    if !(1..=1000).contains(&limit) {
        return Err(Problem::bad_request("query-invalid", "limit is from 1 to 1000"));
    }
    let wanted = Wanted {
        pipeline: query.pipeline,
        step: query.step,
        process: query.process,
        after_us: query.after_us,
        limit: limit as usize,
    };
    Ok(Json(LogLines { items: control.logs(wanted).await? }))
}
