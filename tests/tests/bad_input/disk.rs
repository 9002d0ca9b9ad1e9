//! Disks that are full and targets that cannot be written.

use std::path::Path;
use std::process::Command;

use conveyor_tests::binary;
use conveyor_tests::bounded;

use crate::case::{Case, PATIENCE, refused};

/// Two runs of a pipeline with `mount` on a disk of its own of so many KiB, the first with a file in the way that leaves `free`
/// KiB, the second without it.
///
/// The disk is real: a file system in memory, in a mount namespace that ends with the script.
#[cfg(target_os = "linux")]
struct SmallDisk {
    /// Exit codes and words of both runs.
    runs: [(i32, String); 2],
    /// What lay on the disk after the first run.
    left: String,
}

#[cfg(target_os = "linux")]
impl SmallDisk {
    fn run(case: &Case, mount: &Path, manifest: &Path, size: u32, free: u32) -> Self {
        let script = r#"
            mkdir -p "$MOUNT" && mount -t tmpfs -o "size=${SIZE}k" tmpfs "$MOUNT" || exit 99
            head -c "$FILL" /dev/zero > "$MOUNT/fill" || exit 98
            "$BINARY" run -f "$MANIFEST" --data-dir "$DATA" > "$SAID/stdout1" 2> "$SAID/stderr1"
            echo $? > "$SAID/code1"
            find "$MOUNT" -type f > "$SAID/left"
            rm "$MOUNT/fill"
            mount -o "remount,size=64m" "$MOUNT" || exit 97
            "$BINARY" run -f "$MANIFEST" --data-dir "$DATA" > "$SAID/stdout2" 2> "$SAID/stderr2"
            echo $? > "$SAID/code2"
            cp -r "$MOUNT" "$SAID/kept"
        "#;
        let mut shell = Command::new("unshare");
        shell.args(["--map-root-user", "--mount", "sh", "-c", script]);
        shell
            .env("MOUNT", mount)
            .env("SIZE", size.to_string())
            .env("FILL", ((size - free) * 1024).to_string());
        shell.env("BINARY", binary::conveyorctl().expect("conveyorctl builds"));
        shell.env("MANIFEST", manifest).env("DATA", case.path("data"));
        std::fs::create_dir(case.path("said")).expect("the folder takes another");
        shell.env("SAID", case.path("said"));
        let outcome = bounded::run(&mut shell, 2 * PATIENCE).expect("both runs end by themselves");
        assert_eq!(outcome.code, Some(0), "a mount namespace is needed: {outcome:?}");
        let said = |name: &str| {
            std::fs::read_to_string(case.path("said").join(name)).expect("the script has written it")
        };
        let run = |n: u32| {
            let code = said(&format!("code{n}")).trim().parse().expect("a number");
            (code, said(&format!("stderr{n}")))
        };
        Self { runs: [run(1), run(2)], left: said("left") }
    }

    /// The first run stopped and named the cause and the place; the second one went through.
    #[track_caller]
    fn stopped_at(&self, place: &str) {
        let (code, said) = &self.runs[0];
        assert_eq!(*code, 1, "{said}");
        for word in ["No space left on device", place, "[disk-full]; "] {
            assert!(said.contains(word), "no `{word}` in: {said}");
        }
        assert!(!said.contains("panicked"), "{said}");
        let (code, said) = &self.runs[1];
        assert_eq!(*code, 0, "with room on the disk: {said}");
    }
}

/// A pipeline of 20,000 rows, every second of which breaks a rule.
#[cfg(target_os = "linux")]
fn pipeline(case: &Case, out: &Path, dlq: &Path) -> std::path::PathBuf {
    let mut text = String::new();
    for n in 0..20_000_u64 {
        // Text that does not compress well.
        let word = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        text.push_str(&format!(
            "{{\"a\":{n},\"b\":\"{word:x}{:x}\"}}\n",
            word.rotate_left(17).wrapping_mul(31)
        ));
    }
    let input = case.write("x.ndjson", text.as_bytes());
    let text = format!(
        "apiVersion: etl.router/v1\nkind: Pipeline\nmetadata: {{name: full}}\nspec:\n  mode: job\n  source: {{name: in, file: \
         {{path: '{}'}}}}\n  steps: [{{validate: {{rules: {{even: a % 2 = 0}}}}}}]\n  sink: {{name: out, file: {{path: '{}', \
         format: ndjson}}}}\n  dlq: {{path: '{}', maxRatio: 1.0}}\n",
        input.display(),
        out.display(),
        dlq.display()
    );
    case.write("pipeline.yaml", text.as_bytes())
}

#[cfg(target_os = "linux")]
fn lines(folder: &Path) -> usize {
    let files = std::fs::read_dir(folder).expect("the output folder").flatten().map(|e| e.path());
    let files = files.filter(|p| p.extension().is_some_and(|e| e == "ndjson"));
    files.map(|p| std::fs::read_to_string(p).expect("the output").lines().count()).sum()
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_under_the_sink_stops_the_run_which_goes_on_when_there_is_room() {
    let case = Case::new();
    let disk = case.path("disk");
    let manifest = pipeline(&case, &disk.join("out"), &case.path("dlq"));
    let disk = SmallDisk::run(&case, &disk, &manifest, 1024, 300);
    disk.stopped_at("disk/out");
    assert!(
        !disk.left.lines().any(|f| f.ends_with(".ndjson") && !f.contains('_')),
        "published: {}",
        disk.left
    );
    assert_eq!(lines(&case.path("said/kept/out")), 10_000);
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_under_the_data_directory_stops_the_run_which_goes_on_when_there_is_room() {
    let case = Case::new();
    let manifest = pipeline(&case, &case.path("out"), &case.path("dlq"));
    let disk = SmallDisk::run(&case, &case.path("data"), &manifest, 512, 8);
    disk.stopped_at("data");
    assert_eq!(lines(&case.path("out")), 10_000);
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_under_the_dead_letters_stops_the_run_which_goes_on_when_there_is_room() {
    let case = Case::new();
    let disk = case.path("disk");
    let manifest = pipeline(&case, &case.path("out"), &disk.join("dlq"));
    let disk = SmallDisk::run(&case, &disk, &manifest, 512, 64);
    disk.stopped_at("disk/dlq");
    assert_eq!(lines(&case.path("out")), 10_000);
}

#[test]
fn a_target_that_cannot_be_written_is_named() {
    let case = Case::new();
    case.write("x.ndjson", b"{\"a\":1}\n");
    let blocked = case.write("blocked", b"a file where a folder should be");
    let source = format!("file: {{path: '{}'}}", case.path("x.ndjson").display());
    let sink = format!("file: {{path: '{}/out', format: ndjson}}", blocked.display());
    let outcome = case.copy(&source, "{a: int64}", &sink);
    assert!(matches!(outcome.code, Some(1..=3)), "{outcome:?}");
    refused(&outcome, outcome.code.expect("checked above"), "blocked");
}

#[test]
fn a_full_disk_stops_the_run_and_publishes_nothing_half() {
    let case = Case::new();
    case.write("x.ndjson", "{\"a\":1,\"b\":\"0123456789\"}\n".repeat(100_000).as_bytes());
    let source = format!("file: {{path: '{}'}}", case.path("x.ndjson").display());
    let text = format!(
        "apiVersion: etl.router/v1\nkind: Pipeline\nmetadata: {{name: full}}\nspec:\n  mode: job\n  source: {{name: in, {source}}}\n  \
         sink: {{name: out, {}}}\n",
        case.folder_sink()
    );
    let manifest = case.write("pipeline.yaml", text.as_bytes());
    // A limit on the size of a file stands in for a full disk: writes fail in the same way.
    let line = "trap '' XFSZ; ulimit -f 1000; exec \"$0\" run -f \"$1\" --data-dir \"$2\"";
    let binary = binary::conveyorctl().expect("conveyorctl builds");
    let mut shell = std::process::Command::new("sh");
    shell.arg("-c").arg(line).arg(binary).arg(&manifest).arg(case.path("data"));
    let outcome = bounded::run(&mut shell, PATIENCE).expect("conveyorctl ends by itself");
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    refused(&outcome, 1, "out");
    let published = std::fs::read_dir(case.path("out")).map_or(0, |all| {
        all.filter(|e| e.as_ref().is_ok_and(|e| e.path().extension().is_some_and(|x| x == "ndjson"))).count()
    });
    assert_eq!(published, 0, "half an epoch was published");
}
