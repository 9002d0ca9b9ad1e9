//! Requests and answers.

use conveyor_net::limits::MAX_REST_BODY;

use super::document::operations;
use super::*;
use crate::rest::PROBLEM_JSON;

/// A whole backup of a cluster `test` without pipelines.
const EMPTY_BACKUP: &str = r#"{"format": 1, "cluster": "test", "takenAtUs": 7, "pipelines": [],
    "sha256": "628c800343b328cc37704fc37902b5e54040f766fd8050b3debefdbc0446ef85"}"#;

/// Every change, with a body that is good.
fn changes() -> Vec<(String, String, &'static str)> {
    let body = |path: &str| match path.rsplit('/').next() {
        Some("rollback") => r#"{"version": 1}"#,
        Some("routers") => r#"{"id": 9, "address": "127.0.0.1:9"}"#,
        Some("restore") => EMPTY_BACKUP,
        Some("one") | Some("plan") => r#"{"manifest": "good"}"#,
        _ => "",
    };
    let changing = operations().into_iter().filter(|(method, _, _)| method != "GET");
    changing.map(|(method, path, _)| (method, path.clone(), body(&path))).collect()
}

fn assert_problem(status: StatusCode, headers: &HeaderMap, document: &Value, code: &str) {
    assert_eq!(headers["content-type"], PROBLEM_JSON, "{document}");
    assert_eq!(document["code"], code, "{document}");
    assert_eq!(document["status"], status.as_u16(), "{document}");
    assert_eq!(document["type"], format!("urn:conveyor:{code}"));
}

#[tokio::test]
async fn nobody_gets_in_without_a_token_and_a_viewer_changes_nothing() {
    let rest = Rest::new().await;
    assert_eq!(changes().len(), 10);
    for (method, path, body) in changes() {
        let wrong = ("authorization", "Bearer wrong");
        for headers in [&[JSON][..], &[JSON, wrong]] {
            // Before anything else is looked at: also with a body that is no good.
            for body in [body, "{"] {
                let (status, headers, problem) = rest.ask_all(&method, &path, headers, body).await;
                assert_eq!(status, StatusCode::UNAUTHORIZED, "{method} {path}");
                assert_problem(status, &headers, &problem, "unauthenticated");
                assert_eq!(headers["www-authenticate"], "Bearer");
            }
        }
        let (status, headers, problem) = rest.ask_all(&method, &path, &[JSON, VIEWER], body).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{method} {path}");
        assert_problem(status, &headers, &problem, "permission-denied");
    }
    for (method, path, _) in operations().into_iter().filter(|(method, _, _)| method == "GET") {
        let open = path == "/healthz" || path == "/readyz";
        let status = rest.ask(&method, &path, &[], "").await.0;
        assert_eq!(status, if open { StatusCode::OK } else { StatusCode::UNAUTHORIZED }, "{path}");
        let viewed = rest.ask(&method, &path, &[VIEWER], "").await.0;
        let secret = path == "/v1/cluster/backup";
        assert_eq!(viewed, if secret { StatusCode::FORBIDDEN } else { StatusCode::OK }, "{path}");
        assert_eq!(rest.ask(&method, &path, &[ADMIN], "").await.0, StatusCode::OK, "{path}");
    }
    assert_eq!(rest.ask("GET", "/nowhere", &[], "").await.0, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_stale_version_changes_nothing() {
    let rest = Rest::new().await;
    let before = rest.versions().await;
    for (method, path, body) in changes().into_iter().filter(|(_, path, _)| path != "/v1/plan") {
        let stale = ("if-match", "\"99\"");
        let (status, headers, problem) = rest.ask_all(&method, &path, &[JSON, ADMIN, stale], body).await;
        assert_eq!(status, StatusCode::PRECONDITION_FAILED, "{method} {path}");
        let code = if path.starts_with("/v1/cluster") { "stale-cluster" } else { "stale-plan" };
        assert_problem(status, &headers, &problem, code);
        for wrong in ["", "\"x\"", "W/\"1\"", "\"1\", \"2\"", "*", "\"12345678901234567\""] {
            let headers = [JSON, ADMIN, ("if-match", wrong)];
            let (status, problem) = rest.ask(&method, &path, &headers, body).await;
            assert_eq!(
                (status, &problem["code"]),
                (StatusCode::BAD_REQUEST, &"if-match-invalid".into()),
                "{wrong}"
            );
        }
    }
    assert_eq!(rest.versions().await, before);
}

#[tokio::test]
async fn the_etag_goes_along_with_the_version() {
    let rest = Rest::new().await;
    for path in ["/v1/pipelines/a/one", "/v1/pipelines/a/one/plan"] {
        assert_eq!(rest.ask_all("GET", path, &[VIEWER], "").await.1["etag"], "\"1\"", "{path}");
    }
    put(rest.control(), "a/one", Mode::Job, 1).await;
    for path in ["/v1/pipelines/a/one", "/v1/pipelines/a/one/plan"] {
        assert_eq!(rest.ask_all("GET", path, &[VIEWER], "").await.1["etag"], "\"2\"", "{path}");
    }
    // With it the plan can be rolled back, which makes a new version of the old plan.
    let path = "/v1/pipelines/a/one/rollback";
    for if_match in ["\"2\"", "3"] {
        let headers = [JSON, OPERATOR, ("if-match", if_match)];
        let (status, headers, pipeline) = rest.ask_all("POST", path, &headers, r#"{"version": 1}"#).await;
        assert_eq!((status, &headers["etag"]), (StatusCode::OK, &"\"3\"".parse().unwrap()), "{pipeline}");
    }
    let headers = [JSON, OPERATOR, ("if-match", "\"2\"")];
    assert_eq!(rest.ask("POST", path, &headers, r#"{"version": 1}"#).await.1["code"], "stale-plan");
    let (status, problem) = rest.ask("POST", path, &[JSON, OPERATOR], r#"{"version": 9}"#).await;
    assert_eq!((status, &problem["code"]), (StatusCode::NOT_FOUND, &"unknown-version".into()));
}

#[tokio::test]
async fn validating_changes_nothing() {
    let rest = Rest::new().await;
    let before = rest.versions().await;
    for (method, path, body) in
        changes().into_iter().filter(|(m, path, _)| path != "/v1/plan" && m != "PUT" && !path.ends_with("/1"))
    {
        let query = format!("{path}?validate_only=true");
        let (status, answer) = rest.ask(&method, &query, &[JSON, ADMIN], body).await;
        match path.as_str() {
            // There are pipelines.
            "/v1/cluster/restore" => assert_eq!(answer["code"], "cluster-not-empty"),
            _ => assert!(status.is_success(), "{method} {path}: {status}"),
        }
        let wrong = format!("{path}?validate_only=maybe");
        assert_eq!(rest.ask(&method, &wrong, &[JSON, ADMIN], body).await.1["code"], "query-invalid");
    }
    assert_eq!(rest.versions().await, before);
}

#[tokio::test]
async fn pipelines_are_paused_resumed_and_deleted() {
    let rest = Rest::new().await;
    let phase = |document: &Value| document["phase"].as_str().unwrap_or_default().to_owned();
    for action in ["pause", "drain"] {
        let (status, paused) =
            rest.ask("POST", &format!("/v1/pipelines/a/one/{action}"), &[OPERATOR], "").await;
        assert_eq!(status, StatusCode::OK, "{paused}");
        assert!(["draining", "paused"].contains(&phase(&paused).as_str()), "{paused}");
    }
    // Nothing runs, so the leader notes by itself that it is paused.
    let id = PipelineId::new("a", "one");
    rest.world.state_when(&id, "paused", |s| s.phase == conveyor_model::log::Phase::Paused).await;
    let (_, history) = rest.ask("GET", "/v1/pipelines/a/one/history", &[VIEWER], "").await;
    let said = history["changes"].as_array().unwrap().iter().any(|c| c["reason"] == "paused by operator");
    assert!(said, "{history}");
    let (_, resumed) = rest.ask("POST", "/v1/pipelines/a/one/resume", &[OPERATOR], "").await;
    assert_eq!(phase(&resumed), "pending");

    let (status, _) = rest.ask("DELETE", "/v1/pipelines/a/one", &[OPERATOR], "").await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    let (status, problem) = rest.ask("GET", "/v1/pipelines/a/one", &[VIEWER], "").await;
    assert_eq!((status, &problem["code"]), (StatusCode::NOT_FOUND, &"unknown-pipeline".into()));
    assert_eq!(rest.ask("DELETE", "/v1/pipelines/a/one", &[OPERATOR], "").await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn bodies_are_checked() {
    let rest = Rest::new().await;
    let path = "/v1/pipelines/a/one";
    let large = format!(r#"{{"manifest": "{}"}}"#, "x".repeat(MAX_REST_BODY));
    let text = ("content-type", "text/yaml");
    let (text, json) = (&[OPERATOR, text][..], &[OPERATOR, JSON][..]);
    let cases = [
        (&[OPERATOR][..], r#"{"manifest": "good"}"#, 415, "body-not-json"),
        (text, r#"{"manifest": "good"}"#, 415, "body-not-json"),
        (json, "", 400, "body-invalid"),
        (json, "{", 400, "body-invalid"),
        (json, "{}", 400, "body-invalid"),
        (json, r#"{"manifest": "good", "force": true}"#, 400, "body-invalid"),
        (json, &large, 413, "body-too-large"),
        (json, r#"{"manifest": "a: [b"}"#, 422, "manifest-invalid"),
        (json, r#"{"manifest": ""}"#, 422, "pipeline-not-in-manifest"),
    ];
    for (headers, body, expected, code) in cases {
        let (status, headers, problem) = rest.ask_all("PUT", path, headers, body).await;
        assert_eq!(status.as_u16(), expected, "{problem}");
        assert_problem(status, &headers, &problem, code);
    }
    // A length that is announced is believed before anything is read.
    let announced = ("content-length", "99999999999");
    assert_eq!(rest.ask("PUT", path, &[OPERATOR, JSON, announced], "{}").await.1["code"], "body-too-large");
}

#[tokio::test]
async fn paths_queries_and_methods_are_checked() {
    let rest = Rest::new().await;
    let cases = [
        ("GET", "/v1/nothing", 404, "route-unknown"),
        ("GET", "/v1/pipelines/", 404, "route-unknown"),
        ("GET", "/v1/pipelines/a/absent", 404, "unknown-pipeline"),
        ("GET", "/v1/pipelines/A/one", 400, "name-invalid"),
        ("GET", "/v1/pipelines/a/-one", 400, "name-invalid"),
        ("GET", "/v1/pipelines/a/..%2F..%2Fetc", 400, "name-invalid"),
        ("GET", "/v1/pipelines/a/%FF", 400, "path-invalid"),
        ("GET", "/v1/pipelines/a/one?x=1", 400, "query-invalid"),
        ("GET", "/v1/pipelines?page_size=0", 400, "page-size-invalid"),
        ("GET", "/v1/pipelines?page_size=1001", 400, "page-size-invalid"),
        ("GET", "/v1/pipelines?page_size=%2B5", 400, "query-invalid"),
        ("GET", "/v1/pipelines?page_size=many", 400, "query-invalid"),
        ("GET", "/v1/pipelines?page_token=zz", 400, "page-token-invalid"),
        ("GET", "/v1/pipelines?page_token=abc", 400, "page-token-invalid"),
        ("GET", "/v1/pipelines?page_size=1&page_size=2", 400, "query-invalid"),
        ("POST", "/v1/pipelines", 405, "method-not-allowed"),
        ("PATCH", "/v1/pipelines/a/one", 405, "method-not-allowed"),
        ("TRACE", "/v1/cluster", 405, "method-not-allowed"),
        ("GET", "/v1/pipelines/a/one/pause", 405, "method-not-allowed"),
    ];
    for (method, path, expected, code) in cases {
        let (status, headers, problem) = rest.ask_all(method, path, &[OPERATOR], "").await;
        assert_eq!(status.as_u16(), expected, "{method} {path}: {problem}");
        assert_problem(status, &headers, &problem, code);
        assert_eq!(headers.contains_key("allow"), expected == 405, "{method} {path}");
        assert_eq!(headers["x-content-type-options"], "nosniff");
    }
}

#[tokio::test]
async fn lists_come_in_pages() {
    let rest = Rest::new().await;
    for (list, expected) in
        [("pipelines", 3), ("sources", 2), ("sinks", 2), ("lookups", 0), ("transforms", 0)]
    {
        let (mut seen, mut token) = (Vec::new(), String::new());
        loop {
            let (_, page) = rest.ask("GET", &format!("/v1/{list}?page_size=1{token}"), &[VIEWER], "").await;
            let items = page["items"].as_array().expect("items").clone();
            assert!(items.len() <= 1);
            seen.extend(items.iter().map(|item| format!("{}/{}", item["namespace"], item["name"])));
            match page["nextPageToken"].as_str() {
                Some(next) => token = format!("&page_token={next}"),
                None => break,
            }
        }
        assert_eq!(seen.len(), expected, "{list}");
        assert!(seen.is_sorted() && seen.windows(2).all(|pair| pair[0] != pair[1]), "{seen:?}");
    }
    let (_, page) = rest.ask("GET", "/v1/pipelines?page_size=3", &[VIEWER], "").await;
    assert_eq!((page["items"].as_array().unwrap().len(), page.get("nextPageToken")), (3, None));
    let (_, page) = rest.ask("GET", "/v1/sources", &[VIEWER], "").await;
    assert_eq!(page["items"][0]["usedBy"], serde_json::json!(["a/one", "a/two"]));
}

#[tokio::test]
async fn routers_come_and_go_on_an_admins_word() {
    let rest = Rest::new().await;
    let (_, headers, _) = rest.ask_all("GET", "/v1/cluster", &[VIEWER], "").await;
    let current = ("if-match", headers["etag"].to_str().unwrap());
    let body = r#"{"id": 9, "address": "127.0.0.1:9"}"#;
    let cases = [
        ("POST", "/v1/cluster/routers", OPERATOR, body, 403, "permission-denied"),
        ("DELETE", "/v1/cluster/routers/1", OPERATOR, "", 403, "permission-denied"),
        ("POST", "/v1/cluster/routers", ADMIN, body, 409, "router-not-reached"),
        ("POST", "/v1/cluster/routers", ADMIN, r#"{"id": 9, "address": "nowhere"}"#, 400, "body-invalid"),
        ("DELETE", "/v1/cluster/routers/1", ADMIN, "", 409, "last-router"),
        ("DELETE", "/v1/cluster/routers/9", ADMIN, "", 404, "unknown-member"),
        ("DELETE", "/v1/cluster/routers/x", ADMIN, "", 400, "path-invalid"),
    ];
    for (method, path, who, body, expected, code) in cases {
        let (status, headers, problem) = rest.ask_all(method, path, &[JSON, who, current], body).await;
        assert_eq!(status.as_u16(), expected, "{method} {path}: {problem}");
        assert_problem(status, &headers, &problem, code);
    }
}

#[tokio::test]
async fn what_is_counted_is_shown() {
    let rest = Rest::new().await;
    let (_, headers, text) = rest.ask_all("GET", "/metrics", &[VIEWER], "").await;
    assert!(headers["content-type"].to_str().unwrap().starts_with("application/openmetrics-text"));
    let text = text.as_str().unwrap();
    for line in [
        "conveyor_raft_leader 1",
        "conveyor_pipeline_phase{pipeline=\"a/one\",phase=\"pending\"} 1",
        "conveyor_raft_members{role=\"voter\"} 1",
        "# EOF",
    ] {
        assert!(text.lines().any(|l| l.starts_with(line)), "{line}: {text}");
    }
    let (_, cluster) = rest.ask("GET", "/v1/cluster", &[VIEWER], "").await;
    assert_eq!((&cluster["leader"], cluster["routers"].as_array().unwrap().len()), (&1.into(), 1));
    assert_eq!(rest.ask("GET", "/v1/sidecars", &[VIEWER], "").await.1, serde_json::json!({ "items": [] }));
    let (_, status) = rest.ask("GET", "/v1/pipelines/a/one/status", &[VIEWER], "").await;
    assert_eq!((&status["name"], &status["phase"]), (&"one".into(), &"pending".into()));
}

#[tokio::test]
async fn without_tokens_pages_of_other_sites_change_nothing() {
    let rest = Rest::new().await;
    let routes = crate::rest::router(rest.control().clone(), Guard::new(false, None));
    for (origin, expected) in [
        (None, 200),
        (Some("http://127.0.0.1:1"), 200),
        (Some("http://evil.example"), 403),
        (Some("null"), 403),
    ] {
        let mut request = Request::post("/v1/pipelines/a/one/pause").header("host", "127.0.0.1:1");
        if let Some(origin) = origin {
            request = request.header("origin", origin);
        }
        let answer = routes.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(answer.status().as_u16(), expected, "{origin:?}");
    }
}

/// A connection on which requests with bodies follow each other, each refused before its body is looked at.
#[tokio::test]
async fn a_refusal_leaves_the_connection_as_it_should_be() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let rest = Rest::new().await;
    let address = "127.0.0.1:0".parse().unwrap();
    let exposure = conveyor_net::Exposure {
        what: "the test",
        address,
        callers: conveyor_net::Callers::Rest,
        tokens: true,
        insecure: false,
    };
    let listener = conveyor_net::Listener::bind(&exposure, None).await.unwrap();
    let address = listener.local_address().unwrap();
    let stop = tokio_util::sync::CancellationToken::new();
    let server = tokio::spawn(conveyor_net::serve_http(listener, rest.routes.clone(), stop.clone()));
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let mut answer = vec![0; 64 << 10];
    for _ in 0..3 {
        let head = "POST /v1/plan HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 20000\r\n\r\n";
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&[b' '; 20000]).await.unwrap();
        let length = stream.read(&mut answer).await.unwrap();
        let said = String::from_utf8_lossy(&answer[..length]).into_owned();
        assert!(said.starts_with("HTTP/1.1 401") && !said.contains("connection: close"), "{said}");
    }
    // What is too long to be read out ends the connection, and says so.
    let head = format!("POST /v1/plan HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", 2 * MAX_REST_BODY);
    stream.write_all(head.as_bytes()).await.unwrap();
    let (mut from, mut to) = stream.split();
    let piece = vec![b' '; 2 * MAX_REST_BODY];
    let sending = async {
        to.write_all(&piece).await.ok();
        std::future::pending::<()>().await
    };
    let length = tokio::select! {
        length = from.read(&mut answer) => length.unwrap(),
        () = sending => unreachable!("it waits for ever"),
    };
    let said = String::from_utf8_lossy(&answer[..length]).into_owned();
    assert!(said.starts_with("HTTP/1.1 401") && said.contains("connection: close"), "{said}");
    stop.cancel();
    server.await.unwrap();
}

#[tokio::test]
async fn lines_of_logs_are_asked_for_within_limits() {
    let rest = Rest::new().await;
    let ask = async |query: String| rest.ask("GET", &format!("/v1/logs?{query}"), &[VIEWER], "").await;
    for name in ["pipeline", "step", "process"] {
        let (status, problem) = ask(format!("{name}={}", "x".repeat(256))).await;
        assert_eq!((status, &problem["code"]), (StatusCode::BAD_REQUEST, &"query-invalid".into()), "{name}");
        assert!(problem["detail"].as_str().is_some_and(|text| text.contains(name)), "{problem}");
    }
    for wrong in ["limit=0", "limit=1001", "after_us=9007199254740992", "later=1"] {
        assert_eq!(ask(wrong.to_owned()).await.0, StatusCode::BAD_REQUEST, "{wrong}");
    }
    for good in ["", "limit=1000", "after_us=-5", "pipeline=a/one&step=in&process=router%201"] {
        assert_eq!(ask(good.to_owned()).await.0, StatusCode::OK, "{good}");
    }
}
