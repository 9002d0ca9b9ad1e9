//! The REST API of a real router with TLS and tokens, against its own OpenAPI document: a property-based client finds nothing
//! that the document does not say, and every change is guarded.

use std::path::Path;
use std::process::Command;

use conveyor_tests::cluster::{Cluster, Options};
use conveyor_tests::failure::succeed;
use conveyor_tests::python;
use conveyor_tests::workspace::root;
use tempfile::TempDir;

/// The property-based client that is installed from the Python registry.
const SCHEMATHESIS: &str = "schemathesis==4.32.5";

/// Requests that are made up for each operation; with those that follow from the document there are a few thousand.
const EXAMPLES: &str = "25";

fn one_router() -> (Cluster, TempDir) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let options = Options { routers: 1, sidecars: 0, ..Options::default() };
    let cluster = Cluster::start(&options, folder.path()).expect("a router starts");
    (cluster, folder)
}

/// A pipeline `default/guarded` that is planned without looking outside the folder.
fn manifest(folder: &Path) -> std::path::PathBuf {
    std::fs::write(folder.join("in.csv"), "a\n1\n").expect("the input can be written");
    let text = format!(
        "apiVersion: etl.router/v1\nkind: Pipeline\nmetadata: {{name: guarded}}\nspec:\n  mode: job\n  source:\n    \
         name: in\n    file: {{path: '{0}/in.csv', format: csv}}\n    schema: {{a: int64}}\n  sink:\n    name: out\n    \
         file: {{path: '{0}/out', format: ndjson}}\n",
        folder.display()
    );
    let path = folder.join("pipeline.yaml");
    std::fs::write(&path, text).expect("the manifest can be written");
    path
}

/// Applies the pipeline, and asks for every change without a token, as a viewer, and with a stale version.
fn apply_and_check_guards(cluster: &Cluster, folder: &Path) {
    let python = python::with(SCHEMATHESIS).expect("Python");
    let mut ask = Command::new(python);
    ask.arg(root().join("tests").join("rest").join("guards.py")).arg(&cluster.endpoints()[0]);
    ask.arg(cluster.cert("ca.crt").parent().expect("a folder")).arg(manifest(folder));
    let said = succeed(ask.env("PYTHONDONTWRITEBYTECODE", "1")).expect("all are guarded");
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.ends_with("changes are guarded\n") && !said.starts_with('0'), "{said}");
}

#[test]
fn every_change_needs_a_token_a_role_and_the_current_version() {
    let (cluster, folder) = one_router();
    apply_and_check_guards(&cluster, folder.path());
}

#[test]
fn a_property_based_client_finds_what_the_document_says() {
    let (cluster, folder) = one_router();
    apply_and_check_guards(&cluster, folder.path());
    // The document's own example reads this file.
    std::fs::write(folder.path().join("orders.csv"), "id\n1\n").expect("the input can be written");
    let python = python::with(SCHEMATHESIS).expect("Python");
    let token = std::fs::read_to_string(cluster.cert("admin.token")).expect("a token");
    let mut run = Command::new(python.with_file_name("schemathesis"));
    run.arg("--config-file").arg(root().join("tests").join("rest").join("schemathesis.toml"));
    run.args(["run", &format!("{}/openapi.json", cluster.endpoints()[0]), "--no-color", "--checks", "all"]);
    run.args(["--max-examples", EXAMPLES, "--seed", "1", "--generation-database", "none"]);
    run.args(["--suppress-health-check", "all", "--tls-verify"]).arg(cluster.cert("ca.crt"));
    run.args(["--header", &format!("Authorization: Bearer {}", token.trim())]);
    // The machine's own authorities and proxies do not come into it.
    for name in
        ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"]
    {
        run.env_remove(name);
    }
    // Whatever it leaves behind goes with the folder.
    let run = run.current_dir(folder.path()).env("PYTHONDONTWRITEBYTECODE", "1");
    let said = succeed(run).unwrap_or_else(|failures| panic!("{failures:#}\n{}", cluster.logs()));
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    let cases = said.lines().find(|line| line.contains(" generated, ")).expect("a summary").to_owned();
    let numbers: Vec<u32> = cases.split([' ', ',']).filter_map(|word| word.parse().ok()).collect();
    assert!(numbers[0] > 1000 && numbers[0] == numbers[1], "{said}");
    let cluster_says = cluster.get("/v1/cluster").expect("it still answers");
    assert_eq!(cluster_says["leader"], 1);
}
