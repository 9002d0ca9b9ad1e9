//! Inputs that change or go away under a run that reads them.

use std::path::Path;
use std::process::Stdio;

use conveyor_tests::binary;
use conveyor_tests::kill::{now, wait_until};

use crate::case::{Case, PATIENCE};

/// Reads a large file into a slow sink, does something to it once the first rows are out, and gives what the run said.
fn disturbed(disturb: impl Fn(&Path)) -> (Option<i32>, String) {
    let case = Case::new();
    // Far more than all queues hold together, so that most of it is still unread.
    let input = case.write(
        "x.ndjson",
        "{\"a\":1,\"b\":\"0123456789012345678901234567890123456789\"}\n".repeat(1_000_000).as_bytes(),
    );
    let text = format!(
        "apiVersion: etl.router/v1\nkind: Pipeline\nmetadata: {{name: change}}\nspec:\n  mode: job\n  parallelism: 1\n  \
         checkpoint: {{interval: 100ms}}\n  source: {{name: in, file: {{path: '{}'}}}}\n  \
         sink: {{name: out, file: {{path: '{}', format: ndjson, bytesPerSecond: 4MB}}}}\n",
        input.display(),
        case.path("out").display()
    );
    let manifest = case.write("pipeline.yaml", text.as_bytes());
    let mut command = binary::command().expect("conveyorctl builds");
    command.args(["run", "-f"]).arg(&manifest).arg("--data-dir").arg(case.path("data"));
    let said = std::fs::File::create(case.path("stderr")).expect("the folder takes a file");
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(said).spawn().expect("conveyorctl starts");
    let published = || {
        let names = std::fs::read_dir(case.path("out")).into_iter().flatten().flatten();
        names.map(|e| e.path()).any(|p| p.extension().is_some_and(|e| e == "ndjson"))
    };
    let early = wait_until(&mut child, now() + PATIENCE, published).expect("the process can be waited for");
    assert!(early.is_none() && published(), "the run ended before the first rows were out: {early:?}");
    disturb(&input);
    let status = wait_until(&mut child, now() + PATIENCE, || false).expect("the process can be waited for");
    if status.is_none() {
        child.kill().expect("a process of ours can be killed");
        child.wait().expect("a killed process ends");
    }
    let said = std::fs::read_to_string(case.path("stderr")).expect("the run's words");
    (status.expect("the run ends by itself").code(), said)
}

#[track_caller]
fn told(outcome: &(Option<i32>, String), code: &str) {
    let (exit, said) = outcome;
    assert_eq!(*exit, Some(2), "{said}");
    for word in [code, "x.ndjson", "]; "] {
        // The last is where the next step begins.
        assert!(said.contains(word), "no `{word}` in: {said}");
    }
    assert!(!said.contains("panicked"), "{said}");
}

#[test]
fn a_file_that_is_written_anew_while_it_is_read_stops_the_run() {
    let anew =
        |path: &Path| std::fs::write(path, "{\"a\":2}\n".repeat(7_000_000)).expect("the file can be written");
    told(&disturbed(anew), "file-changed");
}

#[test]
fn a_file_that_is_cut_while_it_is_read_stops_the_run() {
    let cut = |path: &Path| {
        let file = std::fs::File::options().write(true).open(path).expect("the file is there");
        file.set_len(1000).expect("the file can be cut");
    };
    told(&disturbed(cut), "file-changed");
}

#[test]
fn a_file_that_is_removed_while_it_is_read_stops_the_run() {
    told(&disturbed(|path| std::fs::remove_file(path).expect("the file is there")), "file-vanished");
}
