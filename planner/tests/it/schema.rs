//! The JSON Schema: read by a small validator of the keywords that it uses, so that schema and parser agree.

use conveyor_planner::json_schema;
use serde_json::{Value, json};

use crate::support::registry;

/// Whether `value` is valid; knows the keywords that the schema uses and panics on others.
fn valid(root: &Value, schema: &Value, value: &Value) -> bool {
    let Some(schema) = schema.as_object() else { return schema.as_bool().unwrap_or(true) };
    schema.iter().all(|(keyword, arg)| match keyword.as_str() {
        "type" => {
            let is = |name: &Value| match name.as_str() {
                Some("object") => value.is_object(),
                Some("array") => value.is_array(),
                Some("string") => value.is_string(),
                Some("integer") => value.is_i64() || value.is_u64(),
                Some("number") => value.is_number(),
                Some("boolean") => value.is_boolean(),
                Some("null") => value.is_null(),
                other => panic!("type {other:?}"),
            };
            arg.as_array().map_or_else(|| is(arg), |all| all.iter().any(is))
        }
        "properties" => value
            .as_object()
            .is_none_or(|map| map.iter().all(|(k, v)| arg.get(k).is_none_or(|s| valid(root, s, v)))),
        "additionalProperties" => value.as_object().is_none_or(|map| {
            let known = schema.get("properties");
            map.iter().filter(|(k, _)| known.is_none_or(|p| p.get(*k).is_none())).all(|(_, v)| match arg {
                Value::Bool(allowed) => *allowed,
                other => valid(root, other, v),
            })
        }),
        "required" => value.as_object().is_none_or(|map| {
            arg.as_array().expect("a list").iter().all(|k| map.contains_key(k.as_str().expect("a name")))
        }),
        "items" => value.as_array().is_none_or(|all| all.iter().all(|v| valid(root, arg, v))),
        "enum" => arg.as_array().expect("a list").contains(value),
        "const" => arg == value,
        "anyOf" => arg.as_array().expect("a list").iter().any(|s| valid(root, s, value)),
        "oneOf" => arg.as_array().expect("a list").iter().filter(|s| valid(root, s, value)).count() == 1,
        "allOf" => arg.as_array().expect("a list").iter().all(|s| valid(root, s, value)),
        "if" => !valid(root, arg, value) || valid(root, &schema["then"], value),
        "minimum" => value.as_f64().is_none_or(|v| v >= arg.as_f64().expect("a number")),
        "maximum" => value.as_f64().is_none_or(|v| v <= arg.as_f64().expect("a number")),
        "minLength" => value.as_str().is_none_or(|v| v.len() as u64 >= arg.as_u64().expect("a number")),
        "maxLength" => value.as_str().is_none_or(|v| v.len() as u64 <= arg.as_u64().expect("a number")),
        "pattern" => value.as_str().is_none_or(|v| {
            regex::Regex::new(arg.as_str().expect("a pattern")).expect("a good pattern").is_match(v)
        }),
        "$ref" => {
            let path = arg.as_str().and_then(|r| r.strip_prefix('#')).expect("a local reference");
            valid(root, root.pointer(path).expect("the definition"), value)
        }
        "then" | "$schema" | "$defs" | "title" | "description" | "examples" => true,
        other => panic!("keyword {other}"),
    })
}

fn check(value: &Value) -> bool {
    let schema = json_schema(&registry());
    valid(&schema, &schema, value)
}

fn manifest(kind: &str, spec: Value) -> Value {
    json!({ "apiVersion": "etl.router/v1", "kind": kind, "metadata": { "name": "x" }, "spec": spec })
}

fn late_flights() -> Value {
    json!({
        "mode": "job", "delivery": "exactly_once", "checkpoint": { "interval": "10s" }, "parallelism": 2,
        "sources": [{
            "name": "flights",
            "file": { "path": "data/flights-*.csv", "format": "csv", "nullValues": ["NA"] },
            "schema": { "dep_delay": "int32", "time_hour": "timestamp" },
            "eventTime": { "column": "time_hour", "allowedLateness": "1h", "idleTimeout": "30s" }
        }],
        "merge": { "strategy": "event_time" },
        "steps": [
            { "filter": "dep_delay > 15" },
            { "compute": { "speed_mph": "distance / (air_time / 60.0)", "one": 1 } },
            { "lookup": { "table": "airlines", "on": { "carrier": "carrier" }, "select": { "name": "airline" }, "onMiss": "keep" } },
            { "mask": { "tailnum": "hash", "key": { "secret": { "env": "K" } } } },
            "enrich-geo"
        ],
        "sinks": [{ "name": "late", "when": "dep_delay < 120", "file": { "path": "out/late", "roll": { "every": "1m", "size": 100 } } }, "archive"],
        "dlq": { "path": "out/dlq", "maxRetries": 3, "maxRatio": 0.05 }
    })
}

#[test]
fn good_manifests_are_valid() {
    assert!(check(&manifest("Pipeline", late_flights())));
    let short = json!({ "source": "kafka-users", "steps": ["filter-active"], "sink": "analytics", "dlq": { "enabled": true } });
    assert!(check(&manifest("EtlPipeline", short)));
    assert!(check(&manifest("Lookup", json!({ "file": { "path": "a.csv" }, "refresh": "5m" }))));
    assert!(check(&manifest("Sink", json!({ "console": null }))));
    assert!(check(&manifest("Transform", json!({ "steps": [{ "use": "other" }] }))));
}

#[test]
fn bad_manifests_are_not() {
    let change = |pointer: &str, to: Value| {
        let mut spec = late_flights();
        *spec.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer}")) = to;
        check(&manifest("Pipeline", spec))
    };
    assert!(!change("/mode", json!("batch")));
    assert!(!change("/checkpoint/interval", json!("soon")));
    assert!(!change("/parallelism", json!("2")));
    assert!(!change("/sources/0/file", json!({})));
    assert!(!change("/steps/0", json!({ "filter": "a", "drop": ["b"] })));
    assert!(!change("/steps/0", json!({ "filtre": "a" })));
    assert!(!change("/dlq/maxRatio", json!(2)));
    assert!(!check(&manifest("Pipelines", late_flights())));
    assert!(!check(&manifest("Source", json!({ "console": {} }))));
}
