//! What can be looked at beside a running pipeline, and what must wait for its end.

use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use conveyor_tests::bounded::{self, Outcome};
use conveyor_tests::kill::{now, wait_until};
use conveyor_tests::{binary, failure::succeed};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(60);

/// A streaming pipeline that has committed rows and dead letters, and runs on.
struct Running {
    folder: TempDir,
    child: Child,
}

impl Running {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let place = folder.path().display().to_string();
        std::fs::create_dir(folder.path().join("in")).expect("a folder can be made");
        write(folder.path(), "in/1.ndjson", "{\"id\":1}\n{\"id\":\"x\"}\n{\"id\":-3}\n");
        let manifest = format!(
            "apiVersion: etl.router/v1\nkind: Pipeline\nmetadata: {{name: watched}}\nspec:\n  checkpoint: {{interval: 50ms}}\n  \
             parallelism: 1\n  source:\n    file: {{path: '{place}/in/*.ndjson', pollInterval: 50ms}}\n    schema: {{id: int64}}\n  \
             steps:\n    - validate: {{rules: {{positive: id > 0}}}}\n  sink:\n    file: {{path: '{place}/out', format: ndjson}}\n  \
             dlq: {{maxRatio: 1.0}}\n"
        );
        write(folder.path(), "pipeline.yaml", &manifest);
        let mut command = binary::command().expect("conveyorctl builds");
        command.arg("run").arg("-f").arg(folder.path().join("pipeline.yaml"));
        command.arg("--data-dir").arg(folder.path().join("data"));
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("conveyorctl starts");
        let mut running = Self { folder, child };
        running.wait_for(|r| r.dead_letters() == 2);
        running
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn wait_for(&mut self, done: impl Fn(&Self) -> bool) {
        let deadline = now() + PATIENCE;
        while !done(self) {
            let ended = wait_until(&mut self.child, now() + Duration::from_millis(20), || false);
            assert!(ended.expect("the run can be waited for").is_none(), "the run has ended");
            assert!(now() < deadline, "the run does not get there");
        }
    }

    fn ctl(&self, args: &[&str]) -> Outcome {
        let mut command = binary::command().expect("conveyorctl builds");
        command.args(args).arg("--data-dir").arg(self.path("data"));
        bounded::run(&mut command, PATIENCE).expect("conveyorctl ends by itself")
    }

    fn dead_letters(&self) -> usize {
        let done = self.ctl(&["dlq", "show", "-o", "ndjson"]);
        if done.code == Some(0) { done.stdout.lines().count() } else { 0 }
    }

    fn drain(&mut self) {
        succeed(std::process::Command::new("kill").arg("-TERM").arg(self.child.id().to_string()))
            .expect("a signal can be sent");
        let ended =
            wait_until(&mut self.child, now() + PATIENCE, || false).expect("the run can be waited for");
        assert!(ended.is_some_and(|status| status.success()), "{ended:?}");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn write(folder: &Path, name: &str, text: &str) {
    std::fs::write(folder.join(name), text).expect("a file can be written");
}

#[test]
fn a_running_pipeline_can_be_looked_at() {
    let mut running = Running::start();
    let manifest = running.path("pipeline.yaml").display().to_string();

    let got = running.ctl(&["get", "-o", "json"]);
    assert_eq!(got.code, Some(0), "{}", got.stderr);
    assert!(got.stdout.contains("\"watched\"") && got.stdout.contains("\"running\""), "{}", got.stdout);

    let planned = running.ctl(&["plan", "-f", &manifest, "--detailed-exitcode"]);
    assert_eq!(planned.code, Some(0), "{}{}", planned.stdout, planned.stderr);

    let listed = running.ctl(&["dlq", "ls"]);
    assert_eq!(listed.code, Some(0), "{}", listed.stderr);
    assert!(listed.stdout.contains("validate-failed"), "{}", listed.stdout);

    let counted = running.ctl(&["dlq", "query", "SELECT count(*) AS n FROM dead_letters", "-o", "json"]);
    assert_eq!(counted.code, Some(0), "{}", counted.stderr);
    assert_eq!(counted.stdout.trim(), r#"[{"n":2}]"#);

    let dry = running.ctl(&["dlq", "replay", "-f", &manifest, "--dry-run"]);
    assert_eq!(dry.code, Some(0), "{}", dry.stderr);
    assert!(dry.stderr.contains("would re-enter"), "{}", dry.stderr);

    // What was looked at goes on as before.
    write(running.folder.path(), "in/2.ndjson", "{\"id\":-4}\n");
    running.wait_for(|r| r.dead_letters() == 3);
}

#[test]
fn a_purge_works_beside_a_run_and_a_replay_says_what_to_do() {
    let mut running = Running::start();
    let manifest = running.path("pipeline.yaml").display().to_string();

    let refused = running.ctl(&["dlq", "replay", "-f", &manifest]);
    assert_eq!(refused.code, Some(1), "{}", refused.stderr);
    for told in ["data-dir-locked", "drain that run", "start it again"] {
        assert!(refused.stderr.contains(told), "{told} is not told: {}", refused.stderr);
    }
    let second = running.ctl(&["run", "-f", &manifest]);
    assert_eq!(second.code, Some(1), "{}", second.stderr);
    let pid = running.child.id().to_string();
    assert!(second.stderr.contains("data-dir-locked") && second.stderr.contains(&pid), "{}", second.stderr);

    let purged = running.ctl(&["dlq", "purge", "--where", "code = 'validate-failed'", "--yes"]);
    assert_eq!(purged.code, Some(0), "{}", purged.stderr);
    assert_eq!(running.dead_letters(), 1);
    write(running.folder.path(), "in/2.ndjson", "{\"id\":-4}\n");
    running.wait_for(|r| r.dead_letters() == 2);

    running.drain();
    let replayed = running.ctl(&["dlq", "replay", "-f", &manifest]);
    assert_eq!(replayed.code, Some(0), "{}", replayed.stderr);
}

#[test]
fn a_pipeline_without_anything_new_commits_nothing() {
    let mut running = Running::start();
    let looks = std::cell::RefCell::new(Vec::new());
    // An epoch is due every 50 ms, and a look takes about as long.
    running.wait_for(|r| {
        let mut looks = looks.borrow_mut();
        looks.push(r.ctl(&["get", "-o", "json"]).stdout);
        let last = looks.iter().rev().take(12);
        looks.len() >= 12 && last.clone().all(|look| Some(look) == looks.last())
    });
    let before = looks.borrow().last().cloned();
    write(running.folder.path(), "in/2.ndjson", "{\"id\":-4}\n");
    running.wait_for(|r| r.dead_letters() == 3);
    assert_ne!(Some(running.ctl(&["get", "-o", "json"]).stdout), before, "the next rows are committed");
}

#[test]
fn looking_creates_nothing() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let absent = folder.path().join("absent");
    for args in [&["get"][..], &["dlq", "ls", "--path", absent.to_str().expect("text")]] {
        let mut command = binary::command().expect("conveyorctl builds");
        command.args(args).arg("--data-dir").arg(folder.path().join("data"));
        let done = bounded::run(&mut command, PATIENCE).expect("conveyorctl ends by itself");
        assert_eq!(done.code, Some(0), "{args:?}: {}", done.stderr);
    }
    assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 0);
}
