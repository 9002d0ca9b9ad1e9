//! What processes have said lately.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::extract::Asked;
use super::problem::{Problem, Reading};
use super::views::MAX_NUMBER;
use crate::control::Control;
use crate::logs::{LogLine, Wanted};

/// Lines of an answer where nobody says how many.
const USUAL: u32 = 200;
/// Longest `namespace/name`, in characters.
const MAX_PIPELINE: usize = 127;
/// Longest name of a node or a process, in characters.
const MAX_NAME: usize = 255;

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

impl LogQuery {
    /// What is wrong with it.
    fn wrong(&self) -> Option<String> {
        let names = [
            ("pipeline", &self.pipeline, MAX_PIPELINE),
            ("step", &self.step, MAX_NAME),
            ("process", &self.process, MAX_NAME),
        ];
        for (name, value, most) in names {
            if value.as_ref().is_some_and(|text| text.chars().count() > most) {
                return Some(format!("`{name}` has more than {most} characters"));
            }
        }
        if self.after_us.is_some_and(|us| us.unsigned_abs() > MAX_NUMBER) {
            return Some(format!("`after_us` is beyond {MAX_NUMBER}"));
        }
        let many = self.limit.is_some_and(|limit| !(1..=1000).contains(&limit));
        many.then(|| "`limit` is from 1 to 1000".to_owned())
    }
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
    if let Some(wrong) = query.wrong() {
        return Err(Problem::bad_request("query-invalid", wrong));
    }
    let limit = query.limit.unwrap_or(USUAL);
    let wanted = Wanted {
        pipeline: query.pipeline,
        step: query.step,
        process: query.process,
        after_us: query.after_us,
        limit: limit as usize,
    };
    Ok(Json(LogLines { items: control.logs(wanted).await? }))
}
