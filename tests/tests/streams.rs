//! What goes to standard output and what to standard error, in which form, and with which exit code.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use conveyor_tests::binary;
use conveyor_tests::kill::{now, wait_until};
use serde_json::Value;
use tempfile::TempDir;

const HEAD: &str = "apiVersion: etl.router/v1\nkind: Pipeline\n";
const PATIENCE: Duration = Duration::from_secs(60);

struct Case {
    folder: TempDir,
}

impl Case {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a temporary folder") }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        std::fs::write(self.path(name), text).expect("a file can be written");
        self.path(name)
    }

    /// A pipeline from standard input to standard output.
    fn pipe(&self) -> PathBuf {
        self.write("pipe.yaml", PIPE)
    }

    /// Two pipelines of two namespaces; one row in ten of theirs fails.
    fn two(&self) -> PathBuf {
        let one = |name: &str, namespace: &str| {
            format!(
                "{HEAD}metadata: {{name: {name}, namespace: {namespace}}}\nspec:\n  mode: job\n  \
                 source: {{name: in, generator: {{rows: 100}}}}\n  steps: [{{validate: {{rules: {{ok: id % 10 > 0}}}}}}]\n  \
                 sink: {{name: out, blackhole: {{}}}}\n  dlq: {{path: '{}', maxRatio: 1.0}}\n",
                self.path("dlq").display()
            )
        };
        self.write("two.yaml", &format!("{}---\n{}", one("a", "default"), one("b", "other")))
    }

    fn command(&self, args: &[&str], manifest: Option<&Path>) -> Command {
        let mut command = binary::command().expect("conveyorctl builds");
        command.args(args);
        manifest.iter().for_each(|m| {
            command.arg("-f").arg(m);
        });
        command
    }

    fn run(&self, args: &[&str], manifest: Option<&Path>) -> Output {
        let mut command = self.command(args, manifest);
        command.arg("--data-dir").arg(self.path("data")).output().expect("conveyorctl starts")
    }

    /// Runs with this text on standard input, in a data directory of its own.
    fn fed(&self, args: &[&str], manifest: Option<&Path>, input: &str) -> Output {
        let data = tempfile::tempdir().expect("a temporary folder");
        self.fed_into(data.path(), args, manifest, input)
    }

    fn fed_into(&self, data: &Path, args: &[&str], manifest: Option<&Path>, input: &str) -> Output {
        let mut command = self.command(args, manifest);
        command.arg("--data-dir").arg(data);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("conveyorctl starts");
        let mut stdin = child.stdin.take().expect("a pipe");
        // A process that refuses to start may close its end before all is written.
        let _ = stdin.write_all(input.as_bytes());
        drop(stdin);
        child.wait_with_output().expect("conveyorctl ends")
    }
}

const PIPE: &str = "apiVersion: etl.router/v1\nkind: Pipeline\nmetadata: {name: pipe}\nspec:\n  mode: job\n  \
    source: {name: in, stdin: {format: csv}, schema: {a: int64, s: string}}\n  steps: [{filter: a > 1}]\n  \
    sink: {name: out, stdout: {format: ndjson}}\n";

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[track_caller]
fn document(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).expect("one JSON document")
}

/// The lines of an output, each a JSON object.
#[track_caller]
fn objects(output: &Output) -> Vec<Value> {
    let text = out(output);
    let all: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).expect("a line is JSON")).collect();
    assert!(all.iter().all(Value::is_object), "{text}");
    all
}

#[test]
fn rows_on_standard_output_stand_alone() {
    let case = Case::new();
    let pipe = case.pipe();
    let done = case.fed(&["run"], Some(&pipe), "a,s\n5,x\n1,y\n");
    assert!(done.status.success(), "{}", said(&done));
    assert_eq!(out(&done), "{\"a\":5,\"s\":\"x\"}\n");
    assert!(said(&done).contains("pipeline default/pipe finished"), "{}", said(&done));
    let quiet = case.fed(&["run", "-q"], Some(&pipe), "a,s\n5,x\n");
    assert_eq!((out(&quiet).as_str(), said(&quiet).as_str()), ("{\"a\":5,\"s\":\"x\"}\n", ""));
    let both = case.fed(&["run", "-o", "json"], Some(&pipe), "a,s\n5,x\n");
    assert_eq!((both.status.code(), out(&both).as_str()), (Some(2), ""));
    assert!(said(&both).contains("stdout-taken"), "{}", said(&both));
}

#[test]
fn each_run_reads_its_own_standard_input_with_its_own_header() {
    let case = Case::new();
    let (pipe, data) = (case.pipe(), case.path("data"));
    for (input, row) in [("a,s\n5,x\n", "{\"a\":5,\"s\":\"x\"}\n"), ("a,s\n6,y\n", "{\"a\":6,\"s\":\"y\"}\n")]
    {
        let done = case.fed_into(&data, &["run"], Some(&pipe), input);
        assert_eq!(out(&done), row, "{}", said(&done));
        assert!(said(&done).contains("dead letters 0"), "{}", said(&done));
    }
}

#[test]
fn standard_input_is_either_the_manifest_or_the_rows() {
    let case = Case::new();
    let refused = case.fed(&["run"], Some(Path::new("-")), PIPE);
    assert_eq!((refused.status.code(), out(&refused).as_str()), (Some(2), ""));
    assert!(said(&refused).contains("stdin-taken"), "{}", said(&refused));
    let checked = case.command(&["validate"], Some(&case.pipe())).output().expect("conveyorctl starts");
    assert!(checked.status.success(), "{}", said(&checked));
}

#[test]
fn json_is_one_document_and_ndjson_one_object_a_line() {
    let case = Case::new();
    let two = case.two();
    let ran = case.run(&["run", "-o", "ndjson"], Some(&two));
    assert_eq!(objects(&ran).len(), 2, "{}", said(&ran));
    assert_eq!(document(&case.run(&["run", "-o", "json"], Some(&two))).as_array().map(Vec::len), Some(2));
    for (verb, lines) in [(&["get"][..], 2), (&["dlq", "ls"], 2), (&["dlq", "show", "--limit", "13"], 13)] {
        let with = |form| case.run(&[verb, &["-o", form]].concat(), None);
        assert_eq!(objects(&with("ndjson")).len(), lines, "{verb:?}");
        assert_eq!(document(&with("json")).as_array().map(Vec::len), Some(lines), "{verb:?}");
    }
    let none = |form| case.run(&["dlq", "show", "--where", "code = 'none'", "-o", form], None);
    assert_eq!((out(&none("ndjson")).as_str(), document(&none("json"))), ("", Value::Array(Vec::new())));
    let plan = |form| case.run(&["plan", "-o", form], Some(&two));
    assert_eq!(objects(&plan("ndjson")).len(), 2);
    assert_eq!(document(&plan("json")).as_array().map(Vec::len), Some(2));
    let wrong =
        case.write("wrong.yaml", &format!("{HEAD}metadata: {{name: x}}\nspec: {{mode: job, a: 1, b: 2}}\n"));
    let validate = |form| case.command(&["validate", "-o", form], Some(&wrong)).output().expect("it starts");
    let all = document(&validate("json"));
    assert_eq!(Some(&objects(&validate("ndjson"))), all["diagnostics"].as_array());
    assert_eq!(all["ok"], false);
}

#[test]
fn a_namespace_without_a_pipeline_means_all_of_it() {
    let case = Case::new();
    let two = case.two();
    let ran = case.run(&["run", "-n", "other", "-o", "ndjson"], Some(&two));
    let names: Vec<_> = objects(&ran).iter().map(|o| o["pipeline"].clone()).collect();
    assert_eq!(names, ["other/b"]);
    let unknown = case.run(&["run", "-n", "third"], Some(&two));
    assert_eq!(unknown.status.code(), Some(2));
    assert!(said(&unknown).contains("they hold: default/a, other/b"), "{}", said(&unknown));
    case.run(&["run"], Some(&two));
    let path = case.path("dlq").display().to_string();
    for place in [&[][..], &["--path", &path]] {
        let letters = case.run(&[&["dlq", "ls", "-n", "other", "-o", "ndjson"], place].concat(), None);
        let names: Vec<_> = objects(&letters).iter().map(|o| o["pipeline"].clone()).collect();
        assert_eq!(names, ["b"], "{place:?} {}", said(&letters));
    }
}

#[test]
fn a_run_that_is_stopped_at_once_says_so() {
    let case = Case::new();
    let manifest = case.write(
        "slow.yaml",
        &format!(
            "{HEAD}metadata: {{name: slow}}\nspec:\n  source: {{name: in, generator: {{rowsPerSecond: 1000}}}}\n  \
             sink: {{name: out, blackhole: {{bytesPerSecond: 1}}}}\n"
        ),
    );
    let data = case.path("data");
    let mut command = case.command(&["run"], Some(&manifest));
    command.arg("--data-dir").arg(&data).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("conveyorctl starts");
    let id = child.id().to_string();
    let interrupt = || {
        assert!(Command::new("kill").args(["-INT", &id]).status().expect("kill starts").success());
    };
    interrupt_when_ready(&data, &interrupt);
    let mut stderr = BufReader::new(child.stderr.take().expect("a pipe"));
    let mut line = String::new();
    stderr.read_line(&mut line).expect("it says something");
    assert!(line.contains("draining"), "{line}");
    interrupt();
    let ended = wait_until(&mut child, now() + PATIENCE, || false).expect("it can be waited for");
    let mut rest = String::new();
    stderr.read_to_string(&mut rest).expect("it says something");
    assert_eq!(ended.expect("it ends").code(), Some(1), "{rest}");
    assert!(rest.contains("slow stopped in") && rest.contains("last committed epoch"), "{rest}");
}

/// Interrupts as soon as the process has its data directory: by then it listens to signals.
fn interrupt_when_ready(data: &Path, interrupt: &impl Fn()) {
    let deadline = now() + PATIENCE;
    while !data.join("log").exists() {
        assert!(now() < deadline, "no data directory was made");
        std::thread::yield_now();
    }
    interrupt();
}
