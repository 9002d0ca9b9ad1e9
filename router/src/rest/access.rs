//! Who may do what, before anything else is looked at.

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, HOST, ORIGIN};
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use conveyor_net::{Access, Denied, Guard};

use super::problem::Problem;

/// What is shown to anybody: whether the process lives, and how the API is used.
fn is_public(path: &str) -> bool {
    matches!(path, "/healthz" | "/readyz" | "/openapi.json" | "/docs") || path.starts_with("/docs/")
}

/// Looking needs a viewer, changes of pipelines an operator, changes of the cluster an admin.
fn needed(method: &Method, path: &str) -> Access {
    match *method {
        // All of what is agreed, in one piece.
        _ if path == "/v1/cluster/backup" => Access::Admin,
        Method::GET | Method::HEAD | Method::OPTIONS => Access::Viewer,
        _ if path.starts_with("/v1/cluster/") => Access::Admin,
        _ => Access::Operator,
    }
}

/// Lets a request through, or answers 401 or 403. Who makes a change is in the log.
pub(super) async fn check(State(guard): State<Guard>, mut request: Request, next: Next) -> Response {
    let path = request.uri().path();
    if is_public(path) {
        return next.run(request).await;
    }
    let needed = needed(request.method(), path);
    let header = match request.headers().get(AUTHORIZATION).map(|value| value.to_str()) {
        None => None,
        Some(Ok(text)) => Some(text),
        Some(Err(_)) => {
            return Problem::from(Denied::Unauthenticated("the authorization is not text")).into_response();
        }
    };
    let principal = match guard.user(header, needed) {
        Ok(principal) => principal,
        Err(denied) => return Problem::from(denied).into_response(),
    };
    if needed > Access::Viewer {
        if !guard.has_tokens() && is_from_another_site(&request) {
            return foreign().into_response();
        }
        tracing::info!(who = principal.name, method = %request.method(), path, "a change was asked for");
    }
    request.extensions_mut().insert(principal);
    next.run(request).await
}

/// A page of another site makes a browser send requests here; without tokens nothing else would stop them.
fn is_from_another_site(request: &Request) -> bool {
    let Some(origin) = request.headers().get(ORIGIN) else { return false };
    let origin = origin.to_str().ok().and_then(|text| text.parse::<Uri>().ok());
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok());
    let host = host.or_else(|| request.uri().authority().map(|a| a.as_str()));
    match (origin.as_ref().and_then(Uri::authority), host) {
        (Some(origin), Some(host)) => origin.as_str() != host,
        _ => true,
    }
}

fn foreign() -> Problem {
    Problem::new(StatusCode::FORBIDDEN, "cross-origin", "a page of another site may not make changes")
}
