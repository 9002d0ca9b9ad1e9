//! Bad input of every kind: a clear error or a dead letter, never a panic, a hang or memory without bound.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use conveyor_tests::binary;
use conveyor_tests::bounded::{self, Outcome};
use flate2::Compression;
use flate2::write::GzEncoder;
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(60);
/// What a bad file may cost in memory beyond a good one.
const MARGIN_MIB: u64 = 64;

/// A folder with an input file and a pipeline that copies it to NDJSON.
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

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, bytes).expect("the input can be written");
        path
    }

    /// Runs a pipeline from `source` (settings of the file source) with these declared columns to `sink`.
    fn copy(&self, source: &str, schema: &str, sink: &str) -> Outcome {
        let manifest = format!(
            "apiVersion: etl.router/v1\nkind: Pipeline\nmetadata: {{name: bad}}\nspec:\n  mode: job\n  source:\n    \
             name: in\n    {source}\n    schema: {schema}\n  sink:\n    name: out\n    {sink}\n  \
             dlq: {{path: '{}', maxRatio: 1.0}}\n",
            self.path("dlq").display()
        );
        self.run(&self.write("pipeline.yaml", manifest.as_bytes()))
    }

    fn run(&self, manifest: &Path) -> Outcome {
        let mut command = binary::command().expect("conveyorctl builds");
        command.args(["run", "-o", "json", "-f"]).arg(manifest).arg("--data-dir").arg(self.path("data"));
        bounded::run(&mut command, PATIENCE).expect("conveyorctl ends by itself")
    }

    fn read(&self, name: &str, schema: &str) -> Outcome {
        let source = format!("file: {{path: '{}'}}", self.path(name).display());
        self.copy(&source, schema, &self.folder_sink())
    }

    fn folder_sink(&self) -> String {
        format!("file: {{path: '{}', format: ndjson}}", self.path("out").display())
    }
}

/// A run that ended with an error for a person: this exit code, this error code, no panic.
#[track_caller]
fn refused(outcome: &Outcome, exit: i32, code: &str) {
    assert_eq!(outcome.code, Some(exit), "{outcome:?}");
    assert!(outcome.stderr.contains(code), "no `{code}` in: {}", outcome.stderr);
    assert!(!outcome.stderr.contains("panicked"), "{}", outcome.stderr);
}

/// A run that went through, with so many dead letters of this code.
#[track_caller]
fn kept(outcome: &Outcome, code: &str, count: u64) {
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    let summary: serde_json::Value = serde_json::from_str(&outcome.stdout).expect("the summary is JSON");
    assert_eq!(summary[0]["deadLettersByCode"][code], count, "{}", outcome.stdout);
}

/// Bytes of a good file of this format, written by the file sink.
fn good_file(format: &str) -> Vec<u8> {
    let case = Case::new();
    let sink = format!("file: {{path: '{}', format: {format}}}", case.path("out").display());
    let manifest = format!(
        "apiVersion: etl.router/v1\nkind: Pipeline\nmetadata: {{name: good}}\nspec:\n  mode: job\n  parallelism: 1\n  \
         source: {{name: in, generator: {{rows: 20000, seed: 1}}}}\n  sink: {{name: out, {sink}}}\n"
    );
    let outcome = case.run(&case.write("pipeline.yaml", manifest.as_bytes()));
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    let mut parts: Vec<_> = std::fs::read_dir(case.path("out"))
        .expect("the output folder")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.is_file())
        .collect();
    parts.sort();
    std::fs::read(parts.first().expect("a part")).expect("the part can be read")
}

#[test]
fn truncated_and_corrupt_columnar_files_stop_with_their_name() {
    for (format, name) in [("parquet", "bad.parquet"), ("ipc", "bad.arrow"), ("avro", "bad.avro")] {
        let good = good_file(format);
        let mut flipped = good.clone();
        flipped[good.len() / 2..good.len() / 2 + 64].iter_mut().for_each(|b| *b ^= 0xff);
        for (what, bytes) in
            [("cut", &good[..good.len() * 2 / 3]), ("flipped", &flipped[..]), ("empty", &[][..])]
        {
            let case = Case::new();
            case.write(name, bytes);
            let outcome = case.read(name, "{}");
            assert_ne!(outcome.code, Some(0), "{format} {what}: {outcome:?}");
            assert!(outcome.code.is_some(), "{format} {what}: {outcome:?}");
            assert!(outcome.stderr.contains(name), "{format} {what} is not named: {}", outcome.stderr);
            assert!(!outcome.stderr.contains("panicked"), "{format} {what}: {}", outcome.stderr);
        }
    }
}

#[test]
fn a_truncated_gzip_stops_with_its_name() {
    let case = Case::new();
    let text: String = (0..50_000).map(|n| format!("{{\"a\":{n}}}\n")).collect();
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(text.as_bytes()).expect("memory takes it");
    let bytes = gzip.finish().expect("memory takes it");
    case.write("x.ndjson.gz", &bytes[..bytes.len() / 2]);
    refused(&case.read("x.ndjson.gz", "{a: int64}"), 2, "file-corrupt");
}

#[test]
fn a_decompression_bomb_stops_in_bounded_memory() {
    let case = Case::new();
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    let zeros = vec![0; 1 << 20];
    (0..400).for_each(|_| gzip.write_all(&zeros).expect("memory takes it"));
    case.write("bomb.ndjson.gz", &gzip.finish().expect("memory takes it"));
    let source = format!("file: {{path: '{}', maxRatio: 20}}", case.path("bomb.ndjson.gz").display());
    let outcome = case.copy(&source, "{a: int64}", &case.folder_sink());
    refused(&outcome, 2, "decompression-limit");
}

#[test]
fn bad_records_become_dead_letters() {
    let case = Case::new();
    let deep = format!("{}1{}", "[".repeat(5000), "]".repeat(5000));
    let mut text = Vec::new();
    for n in 0..100 {
        writeln!(text, "{{\"a\":{n},\"b\":\"x\"}}").expect("memory takes it");
    }
    text.extend(b"{\"a\":1,\"b\":\"\xff\xfe\"}\n");
    text.extend(b"{\"a\":1,\n");
    text.extend(b"{\"a\":\"one\",\"b\":\"x\"}\n");
    text.extend(format!("{{\"c\":{deep},\"a\":1,\"b\":\"x\"}}\n").into_bytes());
    case.write("x.ndjson", &text);
    let outcome = case.read("x.ndjson", "{a: int64, b: string}");
    for code in ["invalid-utf8", "json-syntax", "json-type", "json-depth"] {
        kept(&outcome, code, 1);
    }
}

#[test]
fn wrong_column_counts_become_dead_letters() {
    let case = Case::new();
    let mut text = String::from("a,b\n");
    (0..100).for_each(|n| text.push_str(&format!("{n},x\n")));
    text.push_str("1\n1,2,3\nnone,x\n");
    case.write("x.csv", text.as_bytes());
    let outcome = case.read("x.csv", "{a: int64, b: string}");
    kept(&outcome, "csv-columns", 2);
    kept(&outcome, "cast-failed", 1);
}

#[test]
fn a_line_of_100_megabytes_is_kept_in_part_and_in_bounded_memory() {
    let base = Case::new();
    base.write("x.ndjson", b"{\"a\":1}\n{\"a\":2}\n");
    let base = base.read("x.ndjson", "{a: int64}");
    assert_eq!(base.code, Some(0), "{base:?}");
    let case = Case::new();
    let mut text = b"{\"a\":1}\n{\"a\":\"".to_vec();
    text.resize(100_000_000, b'x');
    text.extend(b"\"}\n{\"a\":2}\n");
    case.write("x.ndjson", &text);
    let outcome = case.read("x.ndjson", "{a: int64}");
    kept(&outcome, "record-too-long", 1);
    assert!(
        outcome.peak_mib < base.peak_mib + MARGIN_MIB,
        "{} MiB, a good file {}",
        outcome.peak_mib,
        base.peak_mib
    );
}

#[test]
fn hostile_manifests_are_answered_with_a_place() {
    let bomb = "a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\n";
    let deep = format!("a: {}1{}", "[".repeat(2000), "]".repeat(2000));
    let twice =
        "apiVersion: etl.router/v1\nkind: Pipeline\nkind: Pipeline\nmetadata: {name: x}\nspec: {mode: job}\n";
    let unknown =
        "apiVersion: etl.router/v1\nkind: Pipeline\nmetadata: {name: x}\nspec: {mode: job, stepz: []}\n";
    let large = "# ".repeat(600_000);
    let cases = [
        (bomb, "alias"),
        (&deep, "deep"),
        (twice, "duplicate-key"),
        (unknown, "`steps`"),
        (&large, "too-large"),
    ];
    for (text, word) in cases {
        let case = Case::new();
        let outcome = case.run(&case.write("m.yaml", text.as_bytes()));
        refused(&outcome, 2, word);
        assert!(outcome.stderr.contains("m.yaml:"), "no place in: {}", outcome.stderr);
    }
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
