//! What comes in with a request, with every refusal as a [`Problem`].

use axum::Json;
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::header::{CONTENT_LENGTH, IF_MATCH};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use conveyor_model::PipelineId;
use conveyor_net::Principal;
use conveyor_net::limits::MAX_REST_BODY;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use utoipa::IntoParams;

use super::problem::Problem;
use super::views::MAX_NUMBER;

/// The pipeline that the path names.
#[derive(Debug, Clone, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct PipelinePath {
    /// Namespace of the pipeline.
    #[param(
        example = "default",
        pattern = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$",
        min_length = 1,
        max_length = 63
    )]
    namespace: String,
    /// Name of the pipeline.
    #[param(
        example = "orders",
        pattern = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$",
        min_length = 1,
        max_length = 63
    )]
    name: String,
}

/// [`PipelinePath`], read and checked.
pub(super) struct Named(pub(super) PipelineId);

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = Path::<PipelinePath>::from_request_parts(parts, state)
            .await
            .map_err(|e: PathRejection| Problem::bad_request("path-invalid", e.body_text()))?;
        for part in [&path.namespace, &path.name] {
            if !is_name(part) {
                let sentence = format!("`{}` is no name", part.escape_debug());
                return Err(Problem::bad_request("name-invalid", sentence).help(
                    "names have 1 to 63 lower-case letters, digits and `-`, with no `-` at either end",
                ));
            }
        }
        Ok(Self(PipelineId::new(&path.namespace, &path.name)))
    }
}

/// The router that the path names.
#[derive(Debug, Clone, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct RouterPath {
    /// Id of the router.
    #[param(minimum = 1, maximum = 9007199254740991u64)]
    pub(super) id: u64,
}

impl<S: Send + Sync> FromRequestParts<S> for RouterPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = Path::<String>::from_request_parts(parts, state)
            .await
            .map_err(|e: PathRejection| Problem::bad_request("path-invalid", e.body_text()))?;
        let plain = path.bytes().all(|b| b.is_ascii_digit());
        match path.parse() {
            Ok(id) if plain && (1..=MAX_NUMBER).contains(&id) => Ok(Self { id }),
            _ => Err(Problem::bad_request(
                "path-invalid",
                format!("`{}` is no router's id", path.escape_debug()),
            )),
        }
    }
}

fn is_name(text: &str) -> bool {
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    matches!(bytes.len(), 1..=63)
        && fits(bytes[0])
        && fits(bytes[bytes.len() - 1])
        && bytes.iter().all(|b| fits(*b) || *b == b'-')
}

/// The query, with nothing in it that is not known.
pub(super) struct Asked<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Asked<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let query = Query::<T>::from_request_parts(parts, state)
            .await
            .map_err(|e: QueryRejection| Problem::bad_request("query-invalid", e.body_text()))?;
        Ok(Self(query.0))
    }
}

/// No query at all.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Nothing {}

/// The query of every change.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct ChangeQuery {
    /// Checks everything and changes nothing.
    #[serde(default)]
    #[param(required = false)]
    pub(super) validate_only: bool,
}

/// A JSON body of at most `MOST` bytes; a route that takes more than usual has a layer that says so, too.
pub(super) struct Body<T, const MOST: usize = MAX_REST_BODY>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync, const MOST: usize> FromRequest<S> for Body<T, MOST> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        // Said before a byte of it is read.
        let length = request.headers().get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
        if length.is_some_and(|length| length > MOST as u64) {
            return Err(too_large(MOST));
        }
        match Json::<T>::from_request(request, state).await {
            Ok(Json(body)) => Ok(Self(body)),
            Err(JsonRejection::MissingJsonContentType(_)) => Err(Problem::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "body-not-json",
                "the body's content type is not application/json",
            )),
            Err(e) if e.status() == StatusCode::PAYLOAD_TOO_LARGE => Err(too_large(MOST)),
            Err(e) => Err(Problem::bad_request("body-invalid", e.body_text())),
        }
    }
}

fn too_large(most: usize) -> Problem {
    let sentence = format!("the body has over {most} bytes");
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", sentence)
}

/// How `If-Match` is described; [`Expected`] reads it.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "it is only described")]
pub(super) struct IfMatch {
    /// The ETag that the caller saw: 412 if the plan is at another version by now.
    #[param(
        rename = "if-match",
        pattern = "^(\"[0-9]{1,16}\"|[0-9]{1,16})$",
        required = false,
        nullable = false
    )]
    if_match: Option<String>,
}

/// The plan version in `If-Match`, if it is there.
pub(super) struct Expected(pub(super) Option<u64>);

impl<S: Send + Sync> FromRequestParts<S> for Expected {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        expected(&parts.headers).map(Self)
    }
}

fn expected(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let mut values = headers.get_all(IF_MATCH).iter();
    let Some(value) = values.next() else { return Ok(None) };
    // Without its quotes it is no ETag, but what it means is plain.
    let version = value
        .to_str()
        .ok()
        .map(|text| text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(text));
    let digits = version.filter(|v| v.bytes().all(|b| b.is_ascii_digit()) && (1..=16).contains(&v.len()));
    match (digits.and_then(|v| v.parse().ok()), values.next()) {
        (Some(version), None) => Ok(Some(version)),
        _ => Err(Problem::bad_request("if-match-invalid", "`If-Match` is not one ETag of a pipeline")
            .help("send the ETag as it came: \"7\", with the quotes")),
    }
}

/// The ETag of a plan version.
pub(super) fn etag(version: u64) -> HeaderValue {
    HeaderValue::from_str(&format!("\"{version}\"")).expect("digits and quotes are allowed in a header")
}

/// A number of decimal digits alone: no sign, no spaces.
pub(super) fn digits<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u32>, D::Error> {
    let text = String::deserialize(from)?;
    let plain = !text.is_empty() && text.len() <= 9 && text.bytes().all(|b| b.is_ascii_digit());
    match text.parse() {
        Ok(number) if plain => Ok(Some(number)),
        _ => Err(serde::de::Error::custom("not a whole number")),
    }
}

/// Who asks, as the guard found out.
pub(super) struct By(pub(super) String);

impl<S: Sync> FromRequestParts<S> for By {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let principal = parts.extensions.get::<Principal>().ok_or_else(|| {
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "unguarded", "the request did not pass the guard")
        })?;
        Ok(Self(principal.name.clone()))
    }
}
