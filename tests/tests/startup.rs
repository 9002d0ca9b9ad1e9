//! Folders that cannot be used, a data directory of a newer version, a damaged log: what, where, why and what next.

use std::path::{Path, PathBuf};
use std::time::Duration;

use conveyor_tests::binary;
use conveyor_tests::bounded::{self, Outcome};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(60);

struct Case {
    folder: TempDir,
}

impl Case {
    fn new() -> Self {
        let case = Self { folder: tempfile::tempdir().expect("a temporary folder") };
        std::fs::write(case.path("in.csv"), "a\n1\n2\n").expect("the input can be written");
        case
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A copy of `input` into the folder `output`.
    fn manifest(&self, input: &Path, output: &Path, dlq: &Path) -> PathBuf {
        let text = format!(
            "apiVersion: etl.router/v1\nkind: Pipeline\nmetadata: {{name: start}}\nspec:\n  mode: job\n  source:\n    \
             name: in\n    file: {{path: '{}', format: csv}}\n    schema: {{a: int64}}\n  sink:\n    name: out\n    \
             file: {{path: '{}', format: ndjson}}\n  dlq: {{path: '{}'}}\n",
            input.display(),
            output.display(),
            dlq.display()
        );
        let path = self.path("pipeline.yaml");
        std::fs::write(&path, text).expect("the manifest can be written");
        path
    }

    fn good(&self) -> PathBuf {
        self.manifest(&self.path("in.csv"), &self.path("out"), &self.path("dlq"))
    }

    fn ctl(&self, verb: &str, manifest: &Path, data: &Path) -> Outcome {
        let mut command = binary::command().expect("conveyorctl builds");
        command.arg(verb).arg("-f").arg(manifest);
        if verb != "validate" {
            command.arg("--data-dir").arg(data);
        }
        bounded::run(&mut command, PATIENCE).expect("conveyorctl ends by itself")
    }

    fn run(&self, manifest: &Path) -> Outcome {
        self.ctl("run", manifest, &self.path("data"))
    }
}

/// The exit code, and everything that must be said.
fn says(done: &Outcome, code: i32, all: &[&str]) {
    assert_eq!(done.code, Some(code), "{}", done.stderr);
    for told in all {
        assert!(done.stderr.contains(told), "`{told}` is not told: {}", done.stderr);
    }
    // What to do next stands behind a semicolon, or in the lines of a diagnostic.
    assert!(done.stderr.contains("]; ") || done.stderr.contains("= help: "), "no next step: {}", done.stderr);
}

#[test]
fn inputs_that_are_not_there() {
    let case = Case::new();
    for verb in ["run", "validate", "plan"] {
        let absent = case.path("no/such.csv");
        let manifest = case.manifest(&absent, &case.path("out"), &case.path("dlq"));
        let done = case.ctl(verb, &manifest, &case.path("data"));
        says(&done, 2, &["file-not-found", absent.to_str().expect("text"), "pipeline.yaml:8"]);
        let through_a_file = case.path("in.csv/x.csv");
        let manifest = case.manifest(&through_a_file, &case.path("out"), &case.path("dlq"));
        says(&case.ctl(verb, &manifest, &case.path("data")), 2, &["in.csv/x.csv", "pipeline.yaml:8"]);
        let empty = case.path("empty");
        std::fs::create_dir_all(&empty).expect("a folder can be made");
        let manifest = case.manifest(&empty, &case.path("out"), &case.path("dlq"));
        says(&case.ctl(verb, &manifest, &case.path("data")), 2, &["no-files", "empty"]);
    }
    assert!(!case.path("data").join("log").exists(), "a run that cannot start leaves no log");
}

#[test]
fn manifests_that_are_not_there() {
    let case = Case::new();
    let absent = case.path("no.yaml");
    says(&case.ctl("validate", &absent, &case.path("data")), 2, &["unreadable-manifest", "no.yaml"]);
    let empty = case.path("empty");
    std::fs::create_dir(&empty).expect("a folder can be made");
    says(&case.ctl("run", &empty, &case.path("data")), 2, &["no-manifests", "empty"]);
}

#[test]
fn folders_that_cannot_be_written() {
    let case = Case::new();
    let file = case.path("a-file");
    std::fs::write(&file, "in the way").expect("a file can be written");
    let sink = case.manifest(&case.path("in.csv"), &file.join("out"), &case.path("dlq"));
    says(&case.run(&sink), 2, &["a-file/out", "at out"]);
    let dlq = case.manifest(&case.path("in.csv"), &case.path("out"), &file.join("dlq"));
    says(&case.ctl("run", &dlq, &case.path("data-2")), 2, &["store-unwritable", "a-file/dlq"]);
    let data = case.ctl("run", &case.good(), &file.join("data"));
    says(&data, 2, &["unwritable-data-dir", "a-file/data", "--data-dir"]);
    // /proc takes no folders, from nobody: what a read-only mount is like, for tests that run as root.
    let read_only = case.ctl("run", &case.good(), Path::new("/proc/conveyor-data"));
    says(&read_only, 2, &["unwritable-data-dir", "/proc/conveyor-data", "--data-dir"]);
    let sink = case.manifest(&case.path("in.csv"), Path::new("/proc/conveyor-out"), &case.path("dlq"));
    let done = case.ctl("run", &sink, &case.path("data-3"));
    says(&done, 2, &["/proc/conveyor-out", "at out"]);
}

fn log_files(data: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(data.join("log")).expect("a log");
    let files = entries.map(|e| e.expect("an entry").path());
    files.filter(|p| p.extension().is_some_and(|e| e == "log" || e == "snap")).collect()
}

#[test]
fn a_log_of_a_newer_version_or_damaged() {
    let case = Case::new();
    let manifest = case.good();
    assert_eq!(case.run(&manifest).code, Some(0));
    let data = case.path("data");
    for file in log_files(&data) {
        let whole = std::fs::read(&file).expect("a log file");
        let name = file.file_name().expect("a name").to_str().expect("text");
        let mut newer = whole.clone();
        newer[7] = 9;
        std::fs::write(&file, newer).expect("the log can be changed");
        for verb in ["run", "plan"] {
            let done = case.ctl(verb, &manifest, &data);
            says(&done, 1, &["log-version", name, "version 9", "run that version or a later one"]);
        }
        let mut damaged = whole.clone();
        damaged[40] ^= 0xff;
        std::fs::write(&file, damaged).expect("the log can be changed");
        for verb in ["run", "plan"] {
            says(&case.ctl(verb, &manifest, &data), 1, &["log-corrupt", name, "byte ", "from a backup"]);
        }
        std::fs::write(&file, whole).expect("the log can be changed");
    }
    assert_eq!(case.run(&manifest).code, Some(0), "nothing was repaired or cut off");
}
