//! The OpenAPI document against what is served.

use super::*;

/// Method, path with names filled in, and the operation, of everything that is described.
pub(super) fn operations() -> Vec<(String, String, Value)> {
    let document = serde_json::to_value(crate::rest::document()).expect("it is JSON");
    let paths = document["paths"].as_object().expect("paths").clone();
    let mut all = Vec::new();
    for (path, methods) in paths {
        let filled = path.replace("{namespace}", "a").replace("{name}", "one").replace("{id}", "1");
        for (method, operation) in methods.as_object().expect("methods") {
            all.push((method.to_uppercase(), filled.clone(), operation.clone()));
        }
    }
    all
}

fn is_change(method: &str, path: &str) -> bool {
    method != "GET" && path != "/v1/plan"
}

#[test]
fn everything_promised_is_described() {
    let described: Vec<String> = operations().into_iter().map(|(m, p, _)| format!("{m} {p}")).collect();
    let one = "/v1/pipelines/a/one";
    let mut promised: Vec<String> = ["GET", "PUT", "DELETE"].map(|m| format!("{m} {one}")).to_vec();
    promised.extend(["status", "plan", "history", "dead-letters"].map(|part| format!("GET {one}/{part}")));
    promised.extend(["pause", "resume", "drain", "rollback"].map(|part| format!("POST {one}/{part}")));
    let lists = ["pipelines", "sources", "transforms", "lookups", "sinks", "cluster", "sidecars", "logs"];
    promised.extend(lists.map(|list| format!("GET /v1/{list}")));
    promised.extend(["POST /v1/plan", "GET /healthz", "GET /readyz", "GET /metrics"].map(str::to_owned));
    promised.extend(["POST /v1/cluster/routers", "DELETE /v1/cluster/routers/1"].map(str::to_owned));
    promised.extend(["GET /v1/cluster/backup", "POST /v1/cluster/restore"].map(str::to_owned));
    promised.sort();
    let mut found = described.clone();
    found.sort();
    assert_eq!(found, promised);
}

#[test]
fn every_operation_is_whole() {
    for (method, path, operation) in operations() {
        let what = format!("{method} {path}");
        assert!(operation["operationId"].is_string() && operation["summary"].is_string(), "{what}");
        let responses = operation["responses"].as_object().expect("responses");
        let has = |status: &str| responses.contains_key(status);
        if path.starts_with("/v1") || path == "/metrics" {
            assert!(["400", "401", "403", "500", "503"].iter().all(|s| has(s)), "{what}");
            assert_eq!(operation["security"], serde_json::json!([{ "bearer": [] }]), "{what}");
        }
        if is_change(&method, &path) {
            assert!(["404", "409", "412", "422"].iter().all(|s| has(s)), "{what}");
            let parameters = operation["parameters"].as_array().expect("parameters");
            for name in ["if-match", "validate_only"] {
                assert!(
                    parameters.iter().any(|p| p["name"] == name && p["required"] == false),
                    "{what} {name}"
                );
            }
        }
        let body = !operation["requestBody"].is_null();
        assert_eq!(body, has("413") && has("415"), "{what}");
        for (status, response) in responses {
            let bad = status.as_str() >= "400";
            let problem = response["content"].get(crate::rest::PROBLEM_JSON).is_some();
            assert_eq!(bad, problem, "{what} {status}");
        }
    }
}

#[tokio::test]
async fn the_document_and_its_pages_are_served_to_anybody() {
    let rest = Rest::new().await;
    let (status, document) = rest.ask("GET", "/openapi.json", &[], "").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(document, serde_json::to_value(crate::rest::document()).unwrap());
    let (status, page) = rest.ask("GET", "/docs/", &[], "").await;
    assert_eq!(status, StatusCode::OK);
    assert!(page.as_str().unwrap().contains("swagger-ui"), "{page}");
    assert_eq!(rest.ask("GET", "/docs/swagger-ui.css", &[], "").await.0, StatusCode::OK);
}
