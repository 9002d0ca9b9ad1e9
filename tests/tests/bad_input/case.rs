//! A folder with an input and a pipeline over it, and what may come of it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use conveyor_tests::binary;
use conveyor_tests::bounded::{self, Outcome};
use tempfile::TempDir;

pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// What a bad file may cost in memory beyond a good one.
pub(crate) const MARGIN_MIB: u64 = 64;

/// A folder with an input file and a pipeline that copies it to NDJSON.
pub(crate) struct Case {
    folder: TempDir,
}

impl Case {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a temporary folder") }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, bytes).expect("the input can be written");
        path
    }

    /// Runs a pipeline from `source` (settings of the file source) with these declared columns to `sink`.
    pub(crate) fn copy(&self, source: &str, schema: &str, sink: &str) -> Outcome {
        let manifest = format!(
            "apiVersion: etl.router/v1\nkind: Pipeline\nmetadata: {{name: bad}}\nspec:\n  mode: job\n  source:\n    \
             name: in\n    {source}\n    schema: {schema}\n  sink:\n    name: out\n    {sink}\n  \
             dlq: {{path: '{}', maxRatio: 1.0}}\n",
            self.path("dlq").display()
        );
        self.run(&self.write("pipeline.yaml", manifest.as_bytes()))
    }

    pub(crate) fn run(&self, manifest: &Path) -> Outcome {
        let mut command = binary::command().expect("conveyorctl builds");
        command.args(["run", "-o", "json", "-f"]).arg(manifest).arg("--data-dir").arg(self.path("data"));
        bounded::run(&mut command, PATIENCE).expect("conveyorctl ends by itself")
    }

    pub(crate) fn read(&self, name: &str, schema: &str) -> Outcome {
        let source = format!("file: {{path: '{}'}}", self.path(name).display());
        self.copy(&source, schema, &self.folder_sink())
    }

    pub(crate) fn folder_sink(&self) -> String {
        format!("file: {{path: '{}', format: ndjson}}", self.path("out").display())
    }
}

/// A run that ended with an error for a person: this exit code, this error code, no panic.
#[track_caller]
pub(crate) fn refused(outcome: &Outcome, exit: i32, code: &str) {
    assert_eq!(outcome.code, Some(exit), "{outcome:?}");
    assert!(outcome.stderr.contains(code), "no `{code}` in: {}", outcome.stderr);
    assert!(!outcome.stderr.contains("panicked"), "{}", outcome.stderr);
}

/// A run that went through, with so many dead letters of this code.
#[track_caller]
pub(crate) fn kept(outcome: &Outcome, code: &str, count: u64) {
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    let summary: serde_json::Value = serde_json::from_str(&outcome.stdout).expect("the summary is JSON");
    assert_eq!(summary[0]["deadLettersByCode"][code], count, "{}", outcome.stdout);
}
