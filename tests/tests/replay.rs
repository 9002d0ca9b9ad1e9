//! Dead letters under a repaired manifest: they end in the same sinks, each once, also when a replay is killed.

use std::path::Path;

use conveyor_tests::{binary, examples, failure::succeed};

/// Runs `conveyorctl dlq <verb>` on the data directory beside the manifest; standard output and standard error.
fn dlq(manifest: &Path, args: &[&str], crash_at: Option<&str>) -> (bool, String, String) {
    let data = manifest.parent().expect("a folder").join("data");
    let mut command = binary::command().expect("conveyorctl builds");
    command.arg("dlq").args(args).arg("--data-dir").arg(data);
    if let Some(point) = crash_at {
        command.env("CONVEYOR_CRASH_AT", point);
    }
    let output = command.output().expect("conveyorctl starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.success(), text(&output.stdout), text(&output.stderr))
}

fn lines(path: &Path) -> usize {
    std::fs::read_to_string(path).expect("the single file is there").lines().count()
}

/// The flights example has run, and its manifest now keeps flights to unknown airports.
fn repaired(out: &Path) -> std::path::PathBuf {
    let manifest = examples::moved("flights", out).expect("the manifest is moved");
    examples::run(&manifest).expect("the example runs");
    let text = std::fs::read_to_string(&manifest).expect("the manifest can be read");
    let kept = text.replace("dest_zone}, onMiss: dlq", "dest_zone}, onMiss: keep");
    assert_ne!(text, kept, "the example looks airports up with `onMiss: dlq`");
    std::fs::write(&manifest, kept).expect("the manifest can be written");
    manifest
}

const MISSES: &str = "code = 'lookup-miss'";

#[test]
fn repaired_rows_end_in_the_same_sinks_once() {
    let out = tempfile::tempdir().expect("a temporary folder");
    let manifest = repaired(out.path());
    let file = manifest.to_str().expect("a text path");
    let single = out.path().join("very-late.ndjson");
    let before = lines(&single);

    let (ok, _, said) = dlq(&manifest, &["replay", "-f", file, "--where", MISSES, "--dry-run"], None);
    assert!(ok && said.contains("97 dead letters would re-enter"), "{said}");
    assert_eq!(lines(&single), before, "a dry run changes nothing");

    let (ok, _, said) = dlq(&manifest, &["replay", "-f", file, "--where", MISSES], None);
    assert!(ok, "{said}");
    assert_eq!(lines(&single), before + 10, "the very late ones are added to the one file");

    let (ok, _, said) = dlq(&manifest, &["replay", "-f", file, "--where", MISSES], None);
    assert!(ok && said.contains("no dead letter to replay"), "{said}");
    assert_eq!(lines(&single), before + 10, "a second replay finds nothing");
}

#[test]
fn a_killed_replay_goes_on_without_loss_or_double() {
    for point in ["file-join-after:1", "file-ledger-before-write:1", "file-publish-after-rename:1"] {
        let out = tempfile::tempdir().expect("a temporary folder");
        let manifest = repaired(out.path());
        let file = manifest.to_str().expect("a text path");
        let single = out.path().join("very-late.ndjson");
        let before = lines(&single);
        let (ok, _, said) = dlq(&manifest, &["replay", "-f", file, "--where", MISSES], Some(point));
        assert!(!ok, "{point} was passed without a crash: {said}");
        let (ok, _, said) = dlq(&manifest, &["replay", "-f", file, "--where", MISSES], None);
        assert!(ok && said.contains("interrupted"), "{point}: {said}");
        assert_eq!(lines(&single), before + 10, "{point}");
    }
}

#[test]
fn purged_letters_are_gone_and_others_stay() {
    let out = tempfile::tempdir().expect("a temporary folder");
    let manifest = examples::moved("flights", out.path()).expect("the manifest is moved");
    examples::run(&manifest).expect("the example runs");
    let count = || {
        let sql = "SELECT code, count(*) AS n FROM dead_letters GROUP BY code ORDER BY code";
        let data = out.path().join("data");
        let mut command = binary::command().expect("conveyorctl builds");
        let output = succeed(command.args(["dlq", "query", sql, "-o", "json", "--data-dir"]).arg(data));
        String::from_utf8_lossy(&output.expect("the query runs").stdout).trim().to_owned()
    };
    assert_eq!(count(), r#"[{"code":"lookup-miss","n":97},{"code":"validate-failed","n":617}]"#);
    let (ok, _, said) = dlq(&manifest, &["purge", "--where", MISSES], None);
    assert!(!ok && said.contains("--yes"), "nobody can confirm: {said}");
    let (ok, _, said) = dlq(&manifest, &["purge", "--where", MISSES, "--yes"], None);
    assert!(ok && said.contains("97 dead letters purged"), "{said}");
    assert_eq!(count(), r#"[{"code":"validate-failed","n":617}]"#);
}
