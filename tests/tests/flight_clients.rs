//! A cluster and a foreign Arrow Flight client, pyarrow's: it lists and watches edges, slow or not, and feeds a source.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use conveyor_tests::cluster::{Cluster, Options};
use conveyor_tests::failure::succeed;
use conveyor_tests::{python, workspace};
use serde_json::{Value, json};
use tempfile::TempDir;

/// The client that is installed from the Python registry.
const PYARROW: &str = "pyarrow==26.0.1";

/// What the feeder puts in one batch.
const ROWS: u64 = 100;

/// An endless pipeline with two edges, as fast as it goes.
const TAPPED: &str = "
apiVersion: etl.router/v1
kind: Pipeline
metadata: {name: tapped}
spec:
  checkpoint: {interval: 500ms}
  parallelism: 1
  placement: {spread: true}
  source:
    name: events
    generator: {}
    eventTime: {column: ts}
  steps:
    - compute: {cents: amount * 100}
    - {name: once, dedupe: {key: [id], within: 1s}}
  sink: {name: out, blackhole: {}}
";

/// A pipeline that clients feed.
const FED: &str = "
apiVersion: etl.router/v1
kind: Pipeline
metadata: {name: fed}
spec:
  checkpoint: {interval: 100ms}
  parallelism: 1
  placement: {spread: true}
  source:
    name: in
    flight: {}
    schema: {id: int64, name: string}
  steps:
    - compute: {twice: id * 2}
  sinks:
    - {name: even, when: id % 2 = 0, file: {path: 'OUT/even', format: ndjson}}
    - {name: odd, when: id % 2 = 1, file: {path: 'OUT/odd', format: ndjson}}
";

fn cluster() -> (Cluster, TempDir) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let options = Options { routers: 1, sidecars: 2, ..Options::default() };
    let cluster = Cluster::start(&options, folder.path()).expect("a cluster starts");
    (cluster, folder)
}

fn apply(cluster: &Cluster, folder: &Path, name: &str, text: &str) {
    let manifest = folder.join(format!("{name}.yaml"));
    let text = text.replace("OUT", &folder.display().to_string());
    std::fs::write(&manifest, text).expect("the manifest can be written");
    cluster.apply(&manifest).expect("the manifest is taken");
    cluster.wait_phase(name, "running").expect("it runs");
}

/// A client that is told what to do.
fn client(cluster: &Cluster, what: &str) -> Command {
    let sidecars = cluster.get("/v1/sidecars").expect("the sidecars are known");
    let endpoints = sidecars["items"].as_array().expect("a list").iter().map(|s| s["endpoint"].as_str());
    let endpoints: Vec<&str> = endpoints.map(|e| e.expect("an endpoint")).collect();
    let mut client = Command::new(python::with(PYARROW).expect("Python"));
    client.arg(workspace::root().join("tests").join("flight").join("clients.py")).arg(what);
    client.arg(cluster.cert("ca.crt").parent().expect("a folder")).arg(endpoints.join(","));
    client.env("PYTHONDONTWRITEBYTECODE", "1");
    client
}

fn run(cluster: &Cluster, what: &str) -> Vec<Value> {
    let said = succeed(&mut client(cluster, what)).unwrap_or_else(|e| panic!("{e:#}\n{}", cluster.logs()));
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    said.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// A client that goes on while the test does something else.
struct Background {
    child: Child,
    tell: ChildStdin,
    said: BufReader<ChildStdout>,
}

impl Background {
    fn start(cluster: &Cluster, what: &str) -> Self {
        let mut command = client(cluster, what);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the client starts");
        let tell = child.stdin.take().expect("it is piped");
        let said = BufReader::new(child.stdout.take().expect("it is piped"));
        Self { child, tell, said }
    }

    /// What it says next; none at its end.
    fn next(&mut self) -> Option<Value> {
        let mut line = String::new();
        let read = self.said.read_line(&mut line).expect("it can be heard");
        (read > 0).then(|| serde_json::from_str(&line).expect("JSON"))
    }

    fn end(mut self) {
        drop(self.tell);
        assert!(self.child.wait().expect("it ends").success(), "the client says what is wrong");
    }
}

/// How often each id is in the output.
fn output(folder: &Path) -> BTreeMap<u64, u32> {
    let mut ids = BTreeMap::new();
    for part in ["even", "odd"] {
        let Ok(files) = std::fs::read_dir(folder.join(part)) else { continue };
        for file in files.map(|f| f.expect("an entry").path()).filter(|f| f.is_file()) {
            for line in std::fs::read_to_string(file).expect("text").lines() {
                let row: Value = serde_json::from_str(line).expect("JSON");
                let id = row["id"].as_u64().expect("an id");
                assert_eq!((&row["name"], &row["twice"]), (&json!(format!("name {id}")), &json!(2 * id)));
                *ids.entry(id).or_insert(0) += 1;
            }
        }
    }
    ids
}

/// The ids of these batches, each once.
fn once(batches: impl IntoIterator<Item = u64>) -> BTreeMap<u64, u32> {
    batches.into_iter().flat_map(|n| (n - 1) * ROWS..n * ROWS).map(|id| (id, 1)).collect()
}

fn edge_rows(cluster: &Cluster) -> u64 {
    let status = cluster.status("tapped").expect("a status");
    let edges = status["edges"].as_array().expect("edges");
    edges.iter().find(|e| e["name"] == "events->once").and_then(|e| e["rows"].as_u64()).unwrap_or(0)
}

#[test]
fn edges_are_named_and_watched_and_a_slow_viewer_slows_nothing() {
    let (cluster, folder) = cluster();
    apply(&cluster, folder.path(), "tapped", TAPPED);
    let said = run(&cluster, "watch");
    let names: Vec<_> = said[0]["flights"].as_array().expect("a list").iter().map(|f| &f[1]).collect();
    assert_eq!(names, ["events->once", "once->out"]);
    assert_eq!(said.last(), Some(&json!({"done": true})));

    let mut viewer = Background::start(&cluster, "stall");
    assert_eq!(viewer.next(), Some(json!({"watching": true})));
    // Far more than its connection and its queue hold goes past a viewer that reads nothing: some 40 MB.
    let most = edge_rows(&cluster) + 250_000;
    cluster.wait("the pipeline goes on", |c| (edge_rows(c) > most).then_some(())).expect("it does");
    viewer.tell.write_all(b"\n").expect("it listens");
    let saw = viewer.next().expect("it says what it saw");
    assert!(saw["missed"].as_u64() > Some(0), "{saw}");
    viewer.end();

    let said = cluster.run(&[
        "tap",
        "tapped",
        "events->once",
        "--columns",
        "id,country",
        "--where",
        "country = 'DE' AND id % 2 = 1",
        "--limit",
        "25",
        "-o",
        "json",
    ]);
    let rows: Value = serde_json::from_slice(&said.expect("rows").stdout).expect("JSON");
    let rows = rows.as_array().expect("a list");
    assert!(
        rows.len() == 25
            && rows.iter().all(|r| r["country"] == "DE" && r["id"].as_i64().unwrap_or(0) % 2 == 1)
    );
    for (arguments, word) in [
        (&["tap", "tapped", "nothing", "--limit", "1"][..], "events->once, once->out"),
        (&["tap", "tapped", "events->once", "--where", "idd = 1"], "did you mean `id`?"),
        (&["tap", "untapped", "events->once"], "unknown-pipeline"),
    ] {
        let said = cluster.ctl(arguments).expect("a command").output().expect("it runs");
        let error = String::from_utf8_lossy(&said.stderr).into_owned();
        assert!(said.status.code() == Some(2) && error.contains(word), "{error}");
    }
}

#[test]
fn rows_that_are_put_are_acknowledged_when_they_are_in_the_sink_once() {
    let (mut cluster, folder) = cluster();
    apply(&cluster, folder.path(), "fed", FED);
    assert_eq!(run(&cluster, "feed"), [json!({"acknowledged": 7 * ROWS})]);
    assert_eq!(output(folder.path()), once(1..=7), "acknowledged is in the sink");
    run(&cluster, "refuse");
    assert_eq!(output(folder.path()), once(1..=8), "what is refused is nowhere");

    let mut feeder = Background::start(&cluster, "persist");
    // The sidecar with the source is killed while the feeder feeds, again and again.
    for left in [50, 30, 10] {
        while feeder.next().expect("it goes on")["left"].as_u64() > Some(left) {}
        let status = cluster.status("fed").expect("a status");
        let task = status["tasks"].as_array().expect("tasks").iter().find(|t| t["node"] == 0);
        let name =
            task.expect("a source").get("sidecar").and_then(Value::as_str).expect("a place").to_owned();
        let sidecar = cluster.sidecars.iter_mut().find(|s| s.name() == name).expect("a sidecar");
        sidecar.kill().expect("it is killed");
        sidecar.start().expect("it starts again");
    }
    while feeder.next().is_some_and(|said| said["done"] != true) {}
    feeder.end();
    assert_eq!(output(folder.path()), once((1..=8).chain(101..=160)), "each row once, whoever was killed");
}
