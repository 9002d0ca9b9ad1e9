//! The REST API of a router that runs, without sidecars: what it answers, whom, and that its document says so.

mod document;
mod routes;

use std::path::Path;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderMap, Request, Response, StatusCode};
use conveyor_model::PipelineId;
use conveyor_model::plan::Mode;
use conveyor_net::{Access, Guard, Tokens, hash_token};
use serde_json::Value;
use tower::ServiceExt as _;

use super::world::{World, plan};
use crate::control::{Accept, Control};

/// A router with pipelines, and tokens that are the roles' words.
struct Rest {
    routes: axum::Router,
    world: World,
    _folder: tempfile::TempDir,
}

impl Rest {
    async fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let tokens = tokens(folder.path());
        let world = World::start(1).await;
        for name in ["a/one", "a/two", "b/one"] {
            put(world.any().control(), name, Mode::Streaming, 0).await;
        }
        let routes = crate::rest::router(world.any().control().clone(), Guard::new(true, Some(tokens)));
        Self { routes, world, _folder: folder }
    }

    fn control(&self) -> &Control {
        self.world.any().control()
    }

    async fn send(&self, request: Request<Body>) -> Response<Body> {
        self.routes.clone().oneshot(request).await.expect("routes do not fail")
    }

    /// Status and document of an answer.
    async fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> (StatusCode, Value) {
        let (status, _, document) = self.ask_all(method, path, headers, body).await;
        (status, document)
    }

    async fn ask_all(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> (StatusCode, HeaderMap, Value) {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = self.send(request.body(Body::from(body.to_owned())).expect("a request")).await;
        let (status, headers) = (response.status(), response.headers().clone());
        let bytes = axum::body::to_bytes(response.into_body(), 1 << 24).await.expect("a body");
        let document = serde_json::from_slice(&bytes)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned()));
        (status, headers, document)
    }

    /// What is agreed of all pipelines.
    async fn versions(&self) -> Vec<(String, u64, String)> {
        let all = self.control().list().await.expect("a list");
        all.into_iter()
            .map(|p| (format!("{}/{}", p.namespace, p.name), p.version, format!("{:?}", p.phase)))
            .collect()
    }
}

/// Puts a pipeline `namespace/name` into the log.
async fn put(control: &Control, name: &str, mode: Mode, expect: u64) -> u64 {
    let (namespace, short) = name.split_once('/').expect("two parts");
    let mut plan = plan(short, mode);
    plan.pipeline = PipelineId::new(namespace, short);
    control.put(plan, expect, Accept::default(), false).await.expect("it is taken")
}

fn tokens(folder: &Path) -> Arc<Tokens> {
    let path = folder.join("tokens");
    let lines = Access::ALL.map(|access| format!("{access} {access} {}\n", hash_token(access.word())));
    std::fs::write(&path, lines.concat()).expect("a file of tokens");
    Arc::new(Tokens::load(path).expect("it is good"))
}

const VIEWER: (&str, &str) = ("authorization", "Bearer viewer");
const OPERATOR: (&str, &str) = ("authorization", "Bearer operator");
const ADMIN: (&str, &str) = ("authorization", "Bearer admin");
const JSON: (&str, &str) = ("content-type", "application/json");
