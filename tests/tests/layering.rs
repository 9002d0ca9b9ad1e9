//! Who may depend on whom: the star of `ARCHITECTURE.md` and the one door of each foreign crate, as data.

use std::collections::BTreeMap;

use conveyor_tests::workspace::metadata;

/// Crate (without `conveyor-`) and the crates of ours that it may depend on. A crate that is not here fails the test.
const LAYERS: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("proto", &["model"]),
    ("expr", &["model"]),
    ("store", &["model"]),
    ("connectors", &["model"]),
    ("epoch", &["model"]),
    ("net", &["model"]),
    ("planner", &["model", "expr"]),
    ("engine", &["model", "expr", "epoch"]),
    ("flight", &["model", "proto"]),
    ("raft", &["model", "proto"]),
    ("sidecar", &["model", "proto", "expr", "engine", "connectors", "store", "flight", "net"]),
    ("router", &["model", "proto", "expr", "planner", "raft", "store", "epoch", "net"]),
    ("cli", ANYTHING),
    ("tests", ANYTHING),
    ("benches", ANYTHING),
];

const ANYTHING: &[&str] = &[
    "model",
    "proto",
    "expr",
    "store",
    "connectors",
    "epoch",
    "net",
    "planner",
    "engine",
    "flight",
    "raft",
    "sidecar",
    "router",
    "cli",
];

/// Foreign crates with one door: only these crates of ours may name them, also for tests.
const DOORS: &[(&str, &[&str])] = &[
    ("openraft", &["raft"]),
    ("arrow-flight", &["flight"]),
    ("axum", &["router"]),
    ("datafusion", &["expr", "engine", "planner"]),
    ("clap", &["cli", "router", "sidecar"]),
    ("object_store", &["store", "connectors", "cli"]),
    ("saphyr-parser", &["planner"]),
    ("anyhow", &["cli", "router", "sidecar", "tests", "benches"]),
];

/// Crates that wait for nothing: they have no runtime.
const WITHOUT_TOKIO: &[&str] = &["model", "expr", "planner"];

/// Dependencies of all kinds, by crate, names without `conveyor-` for ours.
fn dependencies() -> BTreeMap<String, Vec<(String, String)>> {
    let packages =
        metadata().expect("cargo metadata")["packages"].as_array().expect("a list of packages").clone();
    packages
        .iter()
        .map(|package| {
            let text = |value: &serde_json::Value| value.as_str().unwrap_or("normal").to_string();
            let all = package["dependencies"].as_array().expect("a list of dependencies");
            (text(&package["name"]), all.iter().map(|d| (text(&d["name"]), text(&d["kind"]))).collect())
        })
        .collect()
}

fn ours(name: &str) -> Option<&str> {
    name.strip_prefix("conveyor-")
}

#[test]
fn every_crate_depends_on_lower_layers_only() {
    let mut wrong = Vec::new();
    for (package, needs) in dependencies() {
        let short = ours(&package).unwrap_or_else(|| panic!("{package} is not called conveyor-<folder>"));
        let Some((_, allowed)) = LAYERS.iter().find(|(name, _)| *name == short) else {
            wrong.push(format!("{package} has no layer; give it one in LAYERS"));
            continue;
        };
        for (need, kind) in &needs {
            // A crate may name itself among its dev-dependencies to switch on a feature of its own for tests.
            let bad = ours(need).is_some_and(|n| !allowed.contains(&n) && n != short);
            if bad {
                wrong.push(format!("{package} must not depend on {need} ({kind})"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_foreign_crate_comes_in_by_its_door() {
    let mut wrong = Vec::new();
    for (package, needs) in dependencies() {
        let short = ours(&package).unwrap_or_default();
        for (need, _) in &needs {
            // `datafusion-expr` and its like are DataFusion too.
            let door = DOORS.iter().find(|(name, _)| need == name || need.starts_with(&format!("{name}-")));
            if let Some((_, allowed)) = door.filter(|(_, allowed)| !allowed.contains(&short)) {
                wrong
                    .push(format!("{package} must not depend on {need}; its door is {}", allowed.join(", ")));
            }
            let tokio = need == "tokio" || need == "tokio-util" || need == "tokio-stream";
            if tokio && WITHOUT_TOKIO.contains(&short) {
                wrong.push(format!("{package} must not depend on {need}: it waits for nothing"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
