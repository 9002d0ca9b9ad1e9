//! The REST API: what can be seen and changed, with an OpenAPI document made from the same code.
//!
//! Every request passes, in this order: the keeper of its body, the limit of time, the guard (401, 403), the route (404, 405), parameters and body
//! (400, 413, 415), and then [`Control`].

mod access;
mod actions;
mod backups;
mod cluster;
mod convert;
mod extract;
mod leftover;
mod logs;
mod measures;
mod objects;
mod page;
mod pipelines;
mod probes;
mod problem;
mod routers;
pub mod views;

use axum::extract::{DefaultBodyLimit, Request};
use axum::http::header::{CACHE_CONTROL, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderValue, Method, StatusCode, Uri};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use conveyor_net::Guard;
use conveyor_net::limits::{MAX_REST_BODY, REST_TIMEOUT};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};
use utoipa_axum::router::OpenApiRouter;
use utoipa_swagger_ui::SwaggerUi;

use crate::control::Control;

pub use page::Page;
pub use problem::{PROBLEM_JSON, Problem};

#[derive(OpenApi)]
#[openapi(
    info(title = "Conveyor", description = "Pipelines, sidecars and routers of a Conveyor cluster."),
    components(schemas(Problem)),
    modifiers(&Bearer),
    tags(
        (name = "pipelines", description = "Pipelines and how they do"),
        (name = "actions", description = "What can be done to a pipeline"),
        (name = "objects", description = "What pipelines are made of"),
        (name = "cluster", description = "Routers, sidecars, dry runs"),
        (name = "probes", description = "For schedulers and scrapers"),
    )
)]
struct Document;

/// Names the way in which callers prove who they are.
struct Bearer;

impl Modify for Bearer {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let scheme = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("A token of the role viewer for looking, operator for changes"))
            .build();
        document
            .components
            .get_or_insert_default()
            .add_security_scheme("bearer", SecurityScheme::Http(scheme));
    }
}

fn described() -> (axum::Router<Control>, utoipa::openapi::OpenApi) {
    OpenApiRouter::with_openapi(Document::openapi())
        .merge(pipelines::routes())
        .merge(actions::routes())
        .merge(cluster::routes())
        .merge(routers::routes())
        .merge(backups::routes())
        .merge(logs::routes())
        .merge(probes::routes())
        .split_for_parts()
}

/// The OpenAPI document.
pub fn document() -> utoipa::openapi::OpenApi {
    described().1
}

/// All routes, for [`conveyor_net::serve_http`].
pub fn router(control: Control, guard: Guard) -> axum::Router {
    let (routes, document) = described();
    routes
        .with_state(control)
        .merge(SwaggerUi::new("/docs").url("/openapi.json", document))
        .fallback(nothing_here)
        .method_not_allowed_fallback(not_this_way)
        .layer(DefaultBodyLimit::max(MAX_REST_BODY))
        .layer(from_fn_with_state(guard, access::check))
        .layer(from_fn(in_time))
        .layer(from_fn(leftover::clear))
}

async fn nothing_here(uri: Uri) -> Problem {
    let sentence = format!("there is nothing at {}", uri.path());
    Problem::new(StatusCode::NOT_FOUND, "route-unknown", sentence).help("/openapi.json lists all routes")
}

async fn not_this_way(method: Method, uri: Uri) -> Problem {
    let sentence = format!("{} does not take {method}", uri.path());
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", sentence)
}

/// Ends what takes too long, and marks every answer as nothing to guess about or keep.
async fn in_time(request: Request, next: Next) -> Response {
    let mut response = match tokio::time::timeout(REST_TIMEOUT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "too-slow",
            format!("the request was not answered within {} seconds", REST_TIMEOUT.as_secs()),
        )
        .into_response(),
    };
    let headers = response.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}
