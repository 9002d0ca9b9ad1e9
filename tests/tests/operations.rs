//! What an operator does to a cluster of real processes: settings, routers that come and go, lost disks, backups, metrics.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use conveyor_tests::binary;
use conveyor_tests::cluster::{Cluster, Options};
use conveyor_tests::failure::succeed;
use conveyor_tests::workspace::root;
use serde_json::Value;
use tempfile::TempDir;

/// A pipeline `default/copy` that reads whatever files come into `in` and writes them to `out`.
struct Copy {
    folder: TempDir,
    rows: u32,
}

impl Copy {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join("in")).expect("a folder");
        Self { folder, rows: 0 }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn manifest(&self) -> PathBuf {
        let text = format!(
            "apiVersion: etl.router/v1\nkind: Pipeline\nmetadata: {{name: copy}}\nspec:\n  checkpoint: {{interval: 200ms}}\n  \
             source:\n    name: numbers\n    file: {{path: '{0}/in/*.csv', format: csv, pollInterval: 100ms}}\n    schema: \
             {{n: int64}}\n  steps:\n    - filter: n >= 0\n  sink:\n    name: copies\n    file: {{path: '{0}/out', format: \
             ndjson}}\n",
            self.folder.path().display()
        );
        let path = self.path("copy.yaml");
        std::fs::write(&path, text).expect("a manifest");
        path
    }

    /// A file of 500 rows more.
    fn feed(&mut self) {
        let first = self.rows;
        self.rows += 500;
        let rows: String = (first..self.rows).map(|n| format!("{n}\n")).collect();
        let (fresh, name) = (self.path("fresh"), self.path(&format!("in/{first:06}.csv")));
        std::fs::write(&fresh, format!("n\n{rows}")).expect("rows");
        std::fs::rename(fresh, name).expect("a file");
    }

    /// What readers of the target see, in order.
    fn written(&self) -> Vec<u32> {
        let mut all = Vec::new();
        let mut folders = vec![self.path("out")];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                if name.starts_with(['_', '.']) {
                    continue;
                }
                if entry.path().is_dir() {
                    folders.push(entry.path());
                } else if name.ends_with(".ndjson") {
                    let text = std::fs::read_to_string(entry.path()).expect("a published file");
                    let row = |line: &str| -> Value { serde_json::from_str(line).expect("a row") };
                    all.extend(text.lines().map(|line| row(line)["n"].as_u64().expect("a number") as u32));
                }
            }
        }
        all.sort_unstable();
        all
    }

    /// Waits until every row that was fed is there, and then that each is there once.
    fn all_once(&self, cluster: &Cluster) {
        cluster
            .wait("all rows", |_| (self.written().len() >= self.rows as usize).then_some(()))
            .expect("nothing is lost");
        assert_eq!(self.written(), (0..self.rows).collect::<Vec<_>>(), "each row is there once");
    }
}

/// The routers by id, with their roles.
fn members(cluster: &Cluster) -> Option<BTreeMap<u64, String>> {
    let status = cluster.get("/v1/cluster").ok()?;
    let one = |r: &Value| Some((r["id"].as_u64()?, r["role"].as_str()?.to_owned()));
    status["routers"].as_array()?.iter().map(one).collect()
}

fn voters(ids: &[u64]) -> BTreeMap<u64, String> {
    ids.iter().map(|id| (*id, "voter".to_owned())).collect()
}

#[test]
fn routers_come_and_go_and_a_lost_disk_comes_back_as_a_new_router() {
    let mut copy = Copy::new();
    let options = Options { routers: 3, sidecars: 1, ..Options::default() };
    let mut cluster = Cluster::start(&options, copy.folder.path()).expect("a cluster");
    copy.feed();
    cluster.apply(&copy.manifest()).expect("the pipeline is taken");
    copy.all_once(&cluster);

    // Nobody listens there: nothing changes.
    let (code, said) = cluster.refused(&["cluster", "add", "4", "127.0.0.1:1"]).expect("a refusal");
    assert!(code == Some(2) && said.contains("router-not-reached"), "{code:?} {said}");
    let (mut fourth, address) = cluster.spare_router(4, copy.folder.path()).expect("a router");
    fourth.start().expect("it starts");
    let dry = ["cluster", "add", "4", &address, "--validate-only"];
    cluster.run(&dry).expect("it could be added");
    assert_eq!(members(&cluster), Some(voters(&[1, 2, 3])));
    cluster
        .wait("the fourth router", |c| c.run(&["cluster", "add", "4", &address]).ok())
        .expect("it takes part");
    assert_eq!(members(&cluster), Some(voters(&[1, 2, 3, 4])));

    // The leader goes, and another one leads.
    let leader = cluster.leader().expect("a leader");
    assert!(leader < 3, "the fourth router has not been asked to lead");
    cluster.run(&["cluster", "remove", &(leader + 1).to_string()]).expect("it is removed");
    let gone = leader as u64 + 1;
    let left: Vec<u64> = (1..=4).filter(|id| *id != gone).collect();
    cluster
        .wait("another leader", |c| {
            let status = c.get("/v1/cluster").ok()?;
            let led = status["leader"].as_u64().is_some_and(|id| id != gone);
            (led && members(c)? == voters(&left)).then_some(())
        })
        .expect("the others go on");
    cluster.routers[leader].kill().expect("it ends");
    copy.feed();
    copy.all_once(&cluster);

    // A follower loses its disk. Under its old number it is refused; under a new one it is a new router.
    let leads = cluster.get("/v1/cluster").expect("a status")["leader"].as_u64().expect("a leader");
    let lost = left.iter().copied().find(|id| *id != leads && *id != 4).expect("a follower");
    let place = lost as usize - 1;
    cluster.routers[place].kill().expect("it ends");
    cluster.lose_disk(place).expect("its disk is lost");
    cluster.routers[place].start().expect("it starts");
    cluster
        .wait("the refusal", |c| c.routers[place].log().contains("node-disk-lost").then_some(()))
        .expect("it may not take part under its old number");
    let (mut fifth, address) = cluster.spare_router(5, copy.folder.path()).expect("a router");
    fifth.start().expect("it starts");
    cluster.run(&["cluster", "remove", &lost.to_string()]).expect("the lost one is removed");
    cluster
        .wait("the fifth router", |c| c.run(&["cluster", "add", "5", &address]).ok())
        .expect("it takes part");
    let now: Vec<u64> = left.iter().copied().filter(|id| *id != lost).chain([5]).collect();
    assert_eq!(members(&cluster), Some(voters(&now)));
    copy.feed();
    copy.all_once(&cluster);
}

fn restore(at: &str, name: &str) -> Vec<String> {
    ["backup", "restore", name, "--at", at].map(str::to_owned).to_vec()
}

/// Takes a backup of a cluster whose pipeline stands still, and gives its name.
fn back_up(cluster: &Cluster, at: &str) -> String {
    cluster.run(&["pause", "copy"]).expect("a pause");
    cluster.wait_phase("copy", "paused").expect("it stands still");
    let made = cluster.json(&["backup", "create", "--at", at]).expect("a backup");
    made[0]["name"].as_str().expect("a name").to_owned()
}

#[test]
fn all_routers_are_lost_and_a_backup_brings_the_pipeline_back() {
    let mut copy = Copy::new();
    let options = Options { routers: 3, sidecars: 2, ..Options::default() };
    let mut cluster = Cluster::start(&options, copy.folder.path()).expect("a cluster");
    copy.feed();
    cluster.apply(&copy.manifest()).expect("the pipeline is taken");
    copy.all_once(&cluster);
    let at = cluster.folder().join("kept").display().to_string();
    let old = back_up(&cluster, &at);
    cluster.run(&["resume", "copy"]).expect("it goes on");
    copy.feed();
    copy.all_once(&cluster);
    let newest = back_up(&cluster, &at);

    let refusal = |cluster: &Cluster, name: &str| {
        let line = restore(&at, name);
        let line: Vec<&str> = line.iter().map(String::as_str).collect();
        let (code, said) = cluster.refused(&line).expect("a refusal");
        assert!(code.is_some_and(|c| c == 1 || c == 2), "{code:?} {said}");
        said
    };
    // The cluster lives.
    assert!(refusal(&cluster, &newest).contains("cluster-not-empty"));
    // One byte is another one.
    let good = std::fs::read_to_string(format!("{at}/backups/{newest}.json")).expect("a backup");
    std::fs::write(format!("{at}/backups/torn.json"), good.replacen("sha256\":\"", "sha256\":\"0", 1))
        .expect("a file");
    assert!(refusal(&cluster, "torn").contains("backup-damaged"));
    std::fs::write(format!("{at}/backups/later.json"), good.replacen("\"format\":1", "\"format\":9", 1))
        .expect("a file");
    assert!(refusal(&cluster, "later").contains("backup-format"));
    assert!(refusal(&cluster, "none").contains("unknown-backup"));
    let list = cluster.json(&["backup", "list", "--at", &at]).expect("a list");
    let problems: BTreeMap<&str, &Value> = list
        .as_array()
        .expect("a list")
        .iter()
        .map(|b| (b["name"].as_str().expect("a name"), &b["problem"]))
        .collect();
    assert_eq!(problems[newest.as_str()], &Value::Null);
    assert_eq!((problems["torn"], problems["later"]), (&"backup-damaged".into(), &"backup-format".into()));

    cluster.lose_all_routers(&[("CLUSTER_NAME", "another")]).expect("another cluster");
    assert!(refusal(&cluster, &newest).contains("backup-other-cluster"));
    cluster.lose_all_routers(&[]).expect("a new cluster");
    // The target has had rows that this backup knows nothing of.
    let said = refusal(&cluster, &old);
    assert!(said.contains("ledger-ahead") && said.contains("copies"), "{said}");
    assert_eq!(cluster.json(&["get"]).expect("a list"), Value::Array(Vec::new()), "nothing was restored");
    let line = restore(&at, &newest);
    let line: Vec<&str> = line.iter().map(String::as_str).collect();
    cluster.run(&[&line[..], &["--validate-only"]].concat()).expect("it can be restored");
    assert_eq!(cluster.json(&["get"]).expect("a list"), Value::Array(Vec::new()), "nothing was restored yet");
    cluster.run(&line).expect("it is restored");
    // Said again, it changes nothing.
    cluster.run(&line).expect("it is restored");
    assert_eq!(cluster.status("copy").expect("a status")["phase"], "paused");
    cluster.run(&["resume", "copy"]).expect("it goes on");
    copy.feed();
    copy.all_once(&cluster);
    let history = cluster.json(&["history", "copy"]).expect("a history");
    let restored = history[0]["changes"].as_array().expect("changes").iter().any(|c| c["what"] == "restore");
    assert!(restored, "{history:#}");
}

/// Waits until a file is there, and ends the process.
fn settle(mut command: Command, holds: impl Fn() -> bool) {
    let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().expect("a process");
    let began = conveyor_tests::cluster::now();
    let mut ended = false;
    while !holds() && !ended {
        assert!(began.elapsed() < conveyor_tests::cluster::PATIENCE, "it does not come");
        ended = child.try_wait().expect("a process").is_some();
        std::thread::yield_now();
    }
    // It may have ended by itself; then there is nothing to kill.
    drop(child.kill());
    let said = child.wait_with_output().expect("it ends");
    assert!(holds(), "{}", String::from_utf8_lossy(&said.stderr));
}

#[test]
fn a_flag_wins_over_the_environment_and_the_environment_over_the_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let place = |name: &str| folder.path().join(name).display().to_string();
    let file = place("settings.yaml");
    let text = format!(
        "nodeId: 1\nstore: '{}'\ngrpcPort: 0\nhttpPort: 0\npeers: {{1: '127.0.0.1:1'}}\ndataDir: '{}'\n",
        place("store"),
        place("by-file")
    );
    std::fs::write(&file, text).expect("a file");
    for (variable, flag, winner) in [
        (None, None, "by-file"),
        (Some("by-variable"), None, "by-variable"),
        (Some("other"), Some("by-flag"), "by-flag"),
    ] {
        let mut router = Command::new(binary::conveyorctl().expect("a binary"));
        router.arg("router").env("CONVEYOR_CONFIG", &file).env_remove("DATA_DIR");
        if let Some(name) = variable {
            router.env("DATA_DIR", place(name));
        }
        if let Some(name) = flag {
            router.arg("--data-dir").arg(place(name));
        }
        settle(router, || Path::new(&place(winner)).is_dir());
        assert!(!Path::new(&place("other")).exists(), "the flag has won");
    }
}

/// The names of all families in a text of metrics.
fn families(text: &str) -> BTreeSet<String> {
    let family = |line: &str| {
        let (name, kind) = line.strip_prefix("# TYPE ")?.split_once(' ')?;
        Some(if kind == "counter" { format!("{name}_total") } else { name.to_owned() })
    };
    text.lines().filter_map(family).collect()
}

/// The names of metrics in a text.
fn named(text: &str) -> BTreeSet<String> {
    let word = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
    text.split(word).filter(|w| w.starts_with("conveyor_")).map(str::to_owned).collect()
}

/// What a sidecar answers at a path: the status and the text.
fn ask_sidecar(cluster: &Cluster, path: &str, token: Option<&str>) -> (u32, String) {
    let settings = cluster.sidecars[0].settings();
    let port =
        settings.iter().find(|(key, _)| key == "HTTP_PORT").map(|(_, port)| port.clone()).expect("a port");
    let script = "import ssl, sys, urllib.error, urllib.request\n\
                  request = urllib.request.Request(sys.argv[1])\n\
                  if sys.argv[3]: request.add_header('authorization', 'Bearer ' + open(sys.argv[3]).read().strip())\n\
                  context = ssl.create_default_context(cafile=sys.argv[2])\n\
                  opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), \
                  urllib.request.HTTPSHandler(context=context))\n\
                  try: answer = opener.open(request, timeout=30)\n\
                  except urllib.error.HTTPError as error: answer = error\n\
                  print(answer.status)\n\
                  print(answer.read().decode(), end='')\n";
    let mut ask = Command::new("python3");
    ask.args(["-c", script, &format!("https://127.0.0.1:{port}{path}")]).arg(cluster.cert("ca.crt"));
    let said = succeed(ask.arg(token.map(|t| cluster.cert(t)).unwrap_or_default())).expect("an answer");
    let text = String::from_utf8(said.stdout).expect("text");
    let (status, body) = text.split_once('\n').expect("a status");
    (status.parse().expect("a number"), body.to_owned())
}

#[test]
fn dashboards_and_docs_name_metrics_that_there_are_and_a_sidecar_tells_of_itself() {
    let mut copy = Copy::new();
    let options = Options { routers: 1, sidecars: 1, ..Options::default() };
    let cluster = Cluster::start(&options, copy.folder.path()).expect("a cluster");
    copy.feed();
    cluster.apply(&copy.manifest()).expect("the pipeline is taken");
    copy.all_once(&cluster);
    assert_eq!(ask_sidecar(&cluster, "/healthz", None), (200, "ok\n".to_owned()));
    assert_eq!(ask_sidecar(&cluster, "/readyz", None), (200, "ready\n".to_owned()));
    assert_eq!(ask_sidecar(&cluster, "/elsewhere", None).0, 404);
    assert_eq!(ask_sidecar(&cluster, "/metrics", None).0, 401, "metrics are for viewers");
    let (status, own) = ask_sidecar(&cluster, "/metrics", Some("viewer.token"));
    assert_eq!(status, 200);
    let credits =
        own.lines().find(|l| l.starts_with("conveyor_edge_credits_available_bytes{")).expect("credits");
    assert!(
        credits.contains("sidecar=\"sidecar-1\"") && credits.contains("pipeline=\"default/copy\""),
        "{credits}"
    );
    let router = cluster.get("/metrics").expect("metrics");
    let mut known = families(router.as_str().expect("text"));
    assert!(known.len() > 20, "{known:?}");
    known.extend(families(&own));
    for place in ["deploy/compose/grafana/dashboards/conveyor.json", "docs/operating/monitor.md"] {
        let text = std::fs::read_to_string(root().join(place)).expect("a file");
        let names = named(&text);
        assert!(names.len() > 10, "{place}");
        let strange: Vec<_> = names.difference(&known).collect();
        assert!(strange.is_empty(), "{place} names {strange:?}; there are {known:?}");
    }
    let dashboard = std::fs::read_to_string(root().join("deploy/compose/grafana/dashboards/conveyor.json"));
    serde_json::from_str::<Value>(&dashboard.expect("a file")).expect("JSON");
    // Nobody leads it any more.
    let mut cluster = cluster;
    cluster.routers[0].kill().expect("it ends");
    cluster
        .wait("the sidecar is not ready", |c| (ask_sidecar(c, "/readyz", None).0 == 503).then_some(()))
        .expect("without a router it is not ready");
}
