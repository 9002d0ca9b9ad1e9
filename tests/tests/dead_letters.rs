//! What dead letters hold, what a replay makes of them, and that nothing of killed runs stays among them.

use std::path::{Path, PathBuf};
use std::process::Output;

use conveyor_tests::{binary, failure::succeed};
use tempfile::TempDir;

/// A folder with NDJSON rows and a pipeline over them.
struct Case {
    folder: TempDir,
}

impl Case {
    fn new(rows: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(folder.path().join("in.ndjson"), rows).expect("the input can be written");
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The pipeline with these steps and these settings of the dead letters.
    fn manifest(&self, steps: &str, dlq: &str) -> PathBuf {
        let at = self.folder.path().display();
        let text = format!(
            "apiVersion: etl.router/v1\nkind: Pipeline\nmetadata: {{name: p}}\nspec:\n  mode: job\n  parallelism: 2\n  \
             source:\n    name: in\n    file: {{path: '{at}/in.ndjson'}}\n    \
             schema: {{id: int64, t: timestamp, v: string}}\n    eventTime: {{column: t, allowedLateness: 1h}}\n  \
             steps: {steps}\n  sink: {{name: out, file: {{path: '{at}/out.ndjson'}}}}\n  \
             dlq: {{path: '{at}/dlq', maxRatio: 1.0{dlq}}}\n"
        );
        let path = self.path("pipeline.yaml");
        std::fs::write(&path, text).expect("the manifest can be written");
        path
    }

    fn conveyorctl(&self, verb: &[&str], manifest: &Path, crash_at: Option<&str>) -> Output {
        let mut command = binary::command().expect("conveyorctl builds");
        command.args(verb).arg("-f").arg(manifest).arg("--data-dir").arg(self.path("data"));
        if let Some(point) = crash_at {
            command.env("CONVEYOR_CRASH_AT", point);
        }
        command.output().expect("conveyorctl starts")
    }

    #[track_caller]
    fn run(&self, verb: &[&str], manifest: &Path) {
        let done = self.conveyorctl(verb, manifest, None);
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }

    fn output(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.path("out.ndjson")).expect("the single file is there");
        let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    }

    /// What `dlq query` answers.
    fn query(&self, sql: &str) -> String {
        let mut command = binary::command().expect("conveyorctl builds");
        command.args(["dlq", "query", sql, "-o", "json", "--data-dir"]).arg(self.path("data"));
        let answer = succeed(&mut command).expect("the query runs");
        String::from_utf8_lossy(&answer.stdout).trim().to_owned()
    }

    fn staged(&self) -> usize {
        let folder = self.path("dlq/_conveyor/staging/default.p");
        std::fs::read_dir(folder).map_or(0, Iterator::count)
    }
}

const ROWS: &str = r#"{"id":1,"t":"2025-01-01T00:00:00Z","v":"bad"}
{"id":1,"t":"2025-01-01T00:00:01Z","v":"good"}
{"id":2,"t":"2025-01-01T00:00:02Z","v":"good"}
{"id":3,"t":"2025-01-01T00:00:03Z","v":"bad"}
"#;
const STRICT: &str = "{validate: {rules: {ok: v <> 'bad'}}}";
const REPAIRED: &str = "{validate: {rules: {ok: v <> 'worse'}}}";

#[test]
fn a_column_that_letters_lack_is_named_and_never_made_up() {
    let case = Case::new(ROWS);
    // The event time would keep `t` alive, `id` is what nothing needs here.
    case.run(&["run"], &case.manifest(&format!("[{STRICT}, {{select: [t, v]}}]"), ""));
    let before = case.output();
    let repaired = case.manifest(&format!("[{REPAIRED}, {{select: [id, t, v]}}]"), "");
    for verb in [&["dlq", "replay", "--dry-run"][..], &["dlq", "replay"]] {
        let refused = case.conveyorctl(verb, &repaired, None);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(2), "{said}");
        for word in ["replay-columns", "`validate", "`id`", "2 of its 2", "wholeRows"] {
            assert!(said.contains(word), "no {word} in: {said}");
        }
    }
    assert_eq!(case.output(), before);
    let same = case.manifest(&format!("[{REPAIRED}, {{select: [t, v]}}]"), "");
    case.run(&["dlq", "replay"], &same);
    assert_eq!(case.output().len(), 4, "the refusal has used nothing up");
}

#[test]
fn whole_rows_can_be_replayed_under_a_manifest_that_needs_more() {
    let case = Case::new(ROWS);
    let strict = case.manifest(&format!("[{STRICT}, {{select: [v]}}]"), ", wholeRows: true");
    case.run(&["run"], &strict);
    let held = case.query("SELECT row_json FROM dead_letters ORDER BY position");
    assert!(held.contains(r#"\"id\":1"#) && held.contains(r#"\"id\":3"#), "{held}");
    std::fs::remove_file(case.path("out.ndjson")).expect("the output is there");
    case.run(&["dlq", "replay"], &case.manifest(&format!("[{REPAIRED}, {{select: [id, t]}}]"), ""));
    let rows = case.output().join("\n");
    assert!(
        rows.contains(r#""id":1"#) && rows.contains("2025-01-01T00:00:03") && !rows.contains("null"),
        "{rows}"
    );
}

#[test]
fn a_replayed_row_is_a_duplicate_of_what_the_pipeline_has_let_through() {
    let case = Case::new(ROWS);
    let steps = |first: &str| format!("[{first}, {{dedupe: {{key: [id], within: 1h}}}}, {{select: [id]}}]");
    case.run(&["run"], &case.manifest(&steps(STRICT), ""));
    assert_eq!(case.output(), [r#"{"id":1}"#, r#"{"id":2}"#]);
    case.run(&["dlq", "replay"], &case.manifest(&steps(REPAIRED), ""));
    assert_eq!(case.output(), [r#"{"id":1}"#, r#"{"id":2}"#, r#"{"id":3}"#], "1 had a good row, 3 had none");
}

#[test]
fn nothing_of_killed_runs_stays_staged_and_nothing_committed_is_lost() {
    for point in [
        "engine-dead-letters-staged:1",
        "epoch-all-acked:1",
        "epoch-manifest-after:1",
        "epoch-committed-not-published:1",
        "engine-publish-dead-letters-after:1",
        "store-before-dlq-sweep:1",
        "store-after-dlq-sweep:1",
    ] {
        let case = Case::new(ROWS);
        let manifest = case.manifest(&format!("[{STRICT}]"), "");
        let died = case.conveyorctl(&["run"], &manifest, Some(point));
        assert!(died.status.code().is_none(), "{point} was passed without a crash");
        if point.starts_with("epoch-all-acked") {
            assert!(case.staged() > 0, "a run that dies before its commit leaves staged letters");
        }
        // A second death of the same kind: letters of two incarnations lie there.
        case.conveyorctl(&["run"], &manifest, Some(point));
        case.run(&["run"], &manifest);
        assert_eq!(case.query("SELECT count(*) AS n FROM dead_letters"), r#"[{"n":2}]"#, "{point}");
        assert_eq!(case.output().len(), 2, "{point}");
        assert_eq!(case.staged(), 0, "{point}");
    }
}
