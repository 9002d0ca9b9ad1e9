//! The shape of everything that `conveyorctl … -o json` prints: keys and types, pinned in `json-output.txt`.
//!
//! A line is a verb, the way to a value, and its type; `?` marks what may be missing or null. `UPDATE_GOLDEN=1` adds what is new to the
//! list; what is gone, or optional, is edited by hand: scripts of other people rely on it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use conveyor_tests::binary;
use conveyor_tests::cluster::{Cluster, Options};
use conveyor_tests::failure::succeed;
use conveyor_tests::workspace::root;
use serde_json::Value;

/// A pipeline that copies numbers; one row of its input is none.
fn manifest(folder: &Path, name: &str, mode: &str) -> PathBuf {
    std::fs::write(folder.join("numbers.csv"), "n\n1\n2\nx\n").expect("the input");
    let text = format!(
        "apiVersion: etl.router/v1\nkind: Pipeline\nmetadata: {{name: {name}}}\nspec:\n  mode: {mode}\n  checkpoint: {{interval: \
         200ms}}\n  source:\n    name: numbers\n    file: {{path: '{0}/numbers.csv', format: csv}}\n    schema: {{n: int64}}\n  \
         steps:\n    - compute: {{m: n + 1}}\n  sink:\n    name: copies\n    file: {{path: '{0}/{name}', format: ndjson}}\n  dlq: \
         {{path: '{0}/letters-{name}', maxRatio: 1.0}}\n",
        folder.display()
    );
    let path = folder.join(format!("{name}.yaml"));
    std::fs::write(&path, text).expect("a manifest");
    path
}

/// Every value of a document: its way and its type. Names of members that are data stand for themselves as `*`.
fn lines(way: &str, value: &Value, into: &mut BTreeSet<String>) {
    // These are keyed by what people name.
    const FREE: &[&str] = &["labels", "rejected", "schema", "fields", "config", "before", "after", "plan"];
    let kind = match value {
        Value::Null => return,
        Value::Bool(_) => "truth",
        Value::Number(_) => "number",
        Value::String(_) => "text",
        Value::Array(all) => {
            all.iter().for_each(|one| lines(&format!("{way}[]"), one, into));
            "list"
        }
        Value::Object(all) => {
            let last = way.rsplit('.').next().unwrap_or_default();
            if !FREE.contains(&last) {
                all.iter().for_each(|(key, one)| lines(&format!("{way}.{key}"), one, into));
            }
            "object"
        }
    };
    into.insert(format!("{way} {kind}"));
}

struct Seen(BTreeSet<String>);

impl Seen {
    fn note(&mut self, verb: &str, printed: &[u8]) {
        let value: Value = serde_json::from_slice(printed)
            .unwrap_or_else(|e| panic!("{verb}: {e}: {}", String::from_utf8_lossy(printed)));
        lines(verb, &value, &mut self.0);
    }
}

fn local(seen: &mut Seen, folder: &Path) {
    let manifest = manifest(folder, "local", "job").display().to_string();
    let data = folder.join("data").display().to_string();
    let mut ask = |verb: &str, line: &[&str]| {
        let mut command = Command::new(binary::conveyorctl().expect("a binary"));
        command.args(line).args(["-o", "json"]).env("CONVEYOR_CONTEXTS", folder.join("none.json"));
        seen.note(verb, &succeed(&mut command).expect("it is done").stdout);
    };
    ask("validate", &["validate", "-f", &manifest]);
    ask("plan (local)", &["plan", "-f", &manifest, "--data-dir", &data]);
    ask("run", &["run", "-q", "-f", &manifest, "--data-dir", &data]);
    ask("get (local)", &["get", "--data-dir", &data]);
    ask("dlq ls", &["dlq", "ls", "--data-dir", &data]);
    ask("dlq show", &["dlq", "show", "--data-dir", &data]);
    ask("dlq query", &["dlq", "query", "SELECT count(*) AS n FROM dead_letters", "--data-dir", &data]);
}

fn of_cluster(seen: &mut Seen, cluster: &Cluster, folder: &Path) {
    let manifest = manifest(folder, "remote", "streaming").display().to_string();
    let kept = folder.join("kept").display().to_string();
    let contexts = folder.join("contexts.json");
    let mut ask = |verb: &str, line: &[&str]| {
        let mut command = cluster.ctl(line).expect("a binary");
        command.args(["-o", "json"]).env("CONVEYOR_CONTEXTS", &contexts);
        seen.note(verb, &succeed(&mut command).expect("it is done").stdout);
    };
    ask("plan", &["plan", "-f", &manifest]);
    ask("apply", &["apply", "-f", &manifest]);
    cluster
        .wait("dead letters of a committed epoch", |c| {
            let letters = c.json(&["dlq", "ls"]).ok()?;
            let status = c.status("remote").ok()?;
            let edges = status["edges"].as_array().is_some_and(|all| !all.is_empty());
            (!letters.as_array()?.is_empty() && edges && status["epoch"].is_u64()).then_some(())
        })
        .expect("it runs");
    ask("get", &["get"]);
    ask("describe", &["describe", "remote"]);
    ask("history", &["history", "remote"]);
    ask("top", &["top", "--every", "100ms"]);
    ask("logs", &["logs", "remote"]);
    ask("cluster status", &["cluster", "status"]);
    ask("cluster add", &["cluster", "add", "9", "127.0.0.1:9", "--validate-only"]);
    ask("dlq ls", &["dlq", "ls"]);
    ask("dlq show", &["dlq", "show"]);
    ask("dlq query", &["dlq", "query", "SELECT count(*) AS n FROM dead_letters"]);
    ask("pause", &["pause", "remote"]);
    ask("backup create", &["backup", "create", "--at", &kept]);
    ask("backup list", &["backup", "list", "--at", &kept]);
    let mut set = cluster.ctl(&["context", "set", "here"]).expect("a binary");
    succeed(set.env("CONVEYOR_CONTEXTS", &contexts)).expect("a context");
    ask("context ls", &["context", "ls"]);
}

#[test]
fn what_scripts_read_keeps_its_keys_and_types() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut seen = Seen(BTreeSet::new());
    local(&mut seen, folder.path());
    let options = Options { routers: 1, sidecars: 1, ..Options::default() };
    let cluster = Cluster::start(&options, folder.path()).expect("a cluster");
    of_cluster(&mut seen, &cluster, folder.path());
    let list = root().join("tests").join("json-output.txt");
    let text = std::fs::read_to_string(&list).unwrap_or_default();
    let pinned: BTreeMap<&str, bool> =
        text.lines().map(|line| line.strip_suffix('?').map_or((line, true), |line| (line, false))).collect();
    let strange: Vec<&String> = seen.0.iter().filter(|line| !pinned.contains_key(line.as_str())).collect();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        let old = text.lines().map(str::to_owned);
        let all: BTreeSet<String> = old.chain(strange.into_iter().cloned()).collect();
        let text: String = all.into_iter().map(|line| line + "\n").collect();
        std::fs::write(&list, text).expect("the list");
        return;
    }
    assert!(strange.is_empty(), "not in json-output.txt: {strange:#?}");
    let needed = pinned.iter().filter(|(_, needed)| **needed);
    let gone: Vec<&&str> = needed.map(|(line, _)| line).filter(|line| !seen.0.contains(**line)).collect();
    assert!(gone.is_empty(), "no longer there: {gone:#?}");
}
