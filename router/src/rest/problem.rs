//! Every failure in one form: `application/problem+json` (RFC 9457) with a stable code.

use std::collections::BTreeMap;

use axum::Json;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use conveyor_model::{Error, Kind};
use conveyor_net::Denied;
use serde::{Deserialize, Serialize};
use utoipa::openapi::{ContentBuilder, Ref, RefOr, ResponseBuilder};
use utoipa::{IntoResponses, ToSchema};

use super::convert::findings;
use super::views::Finding;
use crate::manifests::Failure;

/// The media type of a failure.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// What went wrong.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// `urn:conveyor:` and the code.
    #[serde(rename = "type")]
    #[schema(value_type = String)]
    pub kind: Box<str>,
    /// The status, in words.
    #[schema(value_type = String)]
    pub title: Box<str>,
    /// The HTTP status.
    pub status: u16,
    /// Stable and kebab-case: what programs decide by.
    #[schema(value_type = String)]
    pub code: Box<str>,
    /// What failed, where and why.
    #[schema(value_type = String)]
    pub detail: Box<str>,
    /// What to do next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// What is wrong with the manifest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<Finding>,
}

impl Problem {
    /// A failure with its status, code and sentence.
    pub fn new(status: StatusCode, code: &str, detail: impl Into<String>) -> Self {
        Self {
            kind: format!("urn:conveyor:{code}").into(),
            title: status.canonical_reason().unwrap_or("Failure").into(),
            status: status.as_u16(),
            code: code.into(),
            detail: detail.into().into(),
            help: None,
            findings: Vec::new(),
        }
    }

    /// Adds what to do next.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// The request is malformed.
    pub fn bad_request(code: &str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, detail)
    }
}

impl From<Denied> for Problem {
    fn from(denied: Denied) -> Self {
        let status = match denied {
            Denied::Unauthenticated(_) => StatusCode::UNAUTHORIZED,
            Denied::Forbidden(_) => StatusCode::FORBIDDEN,
        };
        Self::new(status, denied.code(), denied.to_string())
    }
}

/// Codes of the façade that say more than their kind does.
const BY_CODE: &[(&str, StatusCode)] = &[
    ("unknown-pipeline", StatusCode::NOT_FOUND),
    ("unknown-version", StatusCode::NOT_FOUND),
    ("stale-plan", StatusCode::CONFLICT),
    ("not-running", StatusCode::CONFLICT),
    ("still-draining", StatusCode::CONFLICT),
    ("busy-pipeline", StatusCode::CONFLICT),
    ("state-would-be-lost", StatusCode::CONFLICT),
    ("unknown-member", StatusCode::NOT_FOUND),
    ("membership-refused", StatusCode::CONFLICT),
];

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let by_code = BY_CODE.iter().find(|(code, _)| *code == error.code()).map(|(_, status)| *status);
        let status = by_code.unwrap_or(match error.kind() {
            Kind::BadInput => StatusCode::UNPROCESSABLE_ENTITY,
            Kind::Unavailable | Kind::Exhausted => StatusCode::SERVICE_UNAVAILABLE,
            Kind::Fenced => StatusCode::CONFLICT,
            Kind::Corrupt | Kind::Runtime => StatusCode::INTERNAL_SERVER_ERROR,
        });
        let mut detail = error.message().to_owned();
        let place = error.place().to_string();
        if !place.is_empty() {
            detail.push_str(&format!(" ({place})"));
        }
        if let Some(cause) = error.cause_text() {
            detail.push_str(&format!(": {cause}"));
        }
        Self { help: error.help_text().map(str::to_owned), ..Self::new(status, error.code(), detail) }
    }
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        let manifest = |status, code, detail: &str, all: &[_]| Self {
            findings: findings(all),
            ..Self::new(status, code, detail)
        };
        match failure {
            Failure::Diagnostics(all) => manifest(
                StatusCode::UNPROCESSABLE_ENTITY,
                "manifest-invalid",
                "the manifest is no good",
                &all,
            ),
            Failure::Unreachable(all) => {
                let why = "a system that the manifest names does not answer";
                manifest(StatusCode::SERVICE_UNAVAILABLE, "manifest-unreachable", why, &all)
            }
            // What is unknown is in the manifest, not in the path.
            Failure::Error(error) => {
                let wrong = error.kind() == Kind::BadInput && error.code() == "unknown-pipeline";
                let problem = Self::from(error);
                if !wrong {
                    return problem;
                }
                Self {
                    help: problem.help,
                    ..Self::new(
                        StatusCode::UNPROCESSABLE_ENTITY,
                        "pipeline-not-in-manifest",
                        problem.detail.into_string(),
                    )
                }
            }
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        if status.is_server_error() {
            tracing::warn!(code = &*self.code, "a REST request failed: {}", self.detail);
        }
        let mut response = (status, Json(self)).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

/// Failures of every route that asks the router for something.
pub(super) struct Reading;

/// Those, and that there is no such pipeline.
pub(super) struct ReadingOne;

/// Failures of a change without a body.
pub(super) struct Changing;

/// Failures of a change with a body.
pub(super) struct ChangingWithBody;

/// Failures of a dry run.
pub(super) struct Planning;

const READING: &[u16] = &[400, 401, 403, 500, 503];
const BODY: &[u16] = &[413, 415, 422];

impl IntoResponses for Reading {
    fn responses() -> BTreeMap<String, RefOr<utoipa::openapi::Response>> {
        problems(&[READING])
    }
}

impl IntoResponses for ReadingOne {
    fn responses() -> BTreeMap<String, RefOr<utoipa::openapi::Response>> {
        problems(&[READING, &[404]])
    }
}

impl IntoResponses for Changing {
    fn responses() -> BTreeMap<String, RefOr<utoipa::openapi::Response>> {
        problems(&[READING, &[404, 409, 412, 422]])
    }
}

impl IntoResponses for ChangingWithBody {
    fn responses() -> BTreeMap<String, RefOr<utoipa::openapi::Response>> {
        problems(&[READING, &[404, 409, 412], BODY])
    }
}

impl IntoResponses for Planning {
    fn responses() -> BTreeMap<String, RefOr<utoipa::openapi::Response>> {
        problems(&[READING, BODY])
    }
}

fn problems(statuses: &[&[u16]]) -> BTreeMap<String, RefOr<utoipa::openapi::Response>> {
    let content = || ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
    let one = |status: u16| {
        let response =
            ResponseBuilder::new().description(meaning(status)).content(PROBLEM_JSON, content()).build();
        (status.to_string(), RefOr::T(response))
    };
    statuses.iter().flat_map(|all| all.iter()).map(|status| one(*status)).collect()
}

fn meaning(status: u16) -> &'static str {
    match status {
        400 => "A parameter, a header or the body is malformed",
        401 => "No bearer token, or one that is not known",
        403 => "The token's role does not allow it",
        404 => "There is no such pipeline, version of its plan, or router",
        409 => "It cannot be done while things are as they are",
        412 => "It is at another version than `If-Match` says",
        413 => "The body is too large",
        415 => "The body is not JSON",
        422 => "The manifest, or what it names, is no good",
        503 => "The router, or a system that it needs, is not available now",
        _ => "The router failed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_become_statuses_and_keep_their_codes() {
        let cases = [
            (Error::bad_input("unknown-pipeline", "x"), 404),
            (Error::new(Kind::Fenced, "stale-plan", "x"), 409),
            (Error::bad_input("state-would-be-lost", "x"), 409),
            (Error::bad_input("odd", "x"), 422),
            (Error::new(Kind::Unavailable, "not-leader", "x"), 503),
            (Error::new(Kind::Exhausted, "full", "x"), 503),
            (Error::new(Kind::Fenced, "fenced", "x"), 409),
            (Error::new(Kind::Corrupt, "torn", "x"), 500),
            (Error::runtime("broken", "x"), 500),
        ];
        for (error, status) in cases {
            let code = error.code();
            let problem = Problem::from(error.help("do something"));
            assert_eq!((problem.status, &*problem.code), (status, code));
            assert_eq!(problem.help.as_deref(), Some("do something"));
            let response = problem.into_response();
            assert_eq!(response.status().as_u16(), status);
            assert_eq!(response.headers()[CONTENT_TYPE], PROBLEM_JSON);
            assert_eq!(response.headers().contains_key(RETRY_AFTER), status == 503);
        }
    }

    #[test]
    fn causes_and_places_are_told() {
        let error = Error::runtime("broken", "it broke").because("the disk").at("flights");
        assert_eq!(&*Problem::from(error).detail, "it broke (at flights): the disk");
    }
}
