//! Running again: a finished job with new input, with an edited manifest, after a reset; and files that are added to.

use std::fs;
use std::path::Path;
use std::process::Output;

use conveyor_tests::binary;

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::create_dir(folder.path().join("in")).expect("an input folder");
        Self(folder)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn input(&self, name: &str, ids: std::ops::Range<u32>) {
        let text: String =
            ids.map(|id| format!("{{\"id\":{id},\"t\":\"2025-01-01T00:00:00Z\"}}\n")).collect();
        fs::write(self.path().join("in").join(name), text).expect("an input file");
    }

    /// Runs a job with these steps and sinks.
    fn run(&self, steps: &str, sinks: &str, flags: &[&str]) -> Output {
        let here = self.path().display();
        let manifest = format!(
            "apiVersion: etl.router/v1\nkind: Pipeline\nmetadata: {{name: again}}\nspec:\n  mode: job\n  sources:\n    \
             - name: events\n      file: {{path: '{here}/in/*.ndjson'}}\n      schema: {{id: int64, t: timestamp}}\n      \
             eventTime: {{column: t}}\n  steps: {steps}\n  sinks:\n{}",
            sinks.replace("OUT", &here.to_string()),
        );
        let file = self.path().join("p.yaml");
        fs::write(&file, manifest).expect("a manifest");
        let mut command = binary::command().expect("conveyorctl builds");
        command.arg("run").arg("-f").arg(file).arg("--data-dir").arg(self.path().join("data")).args(flags);
        command.output().expect("conveyorctl starts")
    }

    fn ok(&self, steps: &str, sinks: &str, flags: &[&str]) {
        let output = self.run(steps, sinks, flags);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn refused(&self, steps: &str, sinks: &str, flags: &[&str], code: &str) {
        let output = self.run(steps, sinks, flags);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(code), "{code} is not in: {said}");
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path().join(name)).expect("an output file")
    }

    /// Ids in all files of an output folder, sorted.
    fn ids(&self, folder: &str) -> Vec<u32> {
        let mut ids = Vec::new();
        for entry in fs::read_dir(self.path().join(folder)).expect("an output folder").flatten() {
            if entry.path().is_file() {
                ids.extend(ids_of(&fs::read_to_string(entry.path()).expect("an output file")));
            }
        }
        ids.sort_unstable();
        ids
    }
}

fn ids_of(text: &str) -> Vec<u32> {
    let number = |line: &str| {
        let digits: String =
            line.chars().skip_while(|c| !c.is_ascii_digit()).take_while(char::is_ascii_digit).collect();
        digits.parse().expect("an id")
    };
    text.lines().filter(|l| l.chars().any(|c| c.is_ascii_digit())).map(number).collect()
}

const BOTH: &str = "    - {name: one, file: {path: OUT/one.ndjson}}\n    - {name: all, file: {path: OUT/all, format: ndjson}}\n";
const KEEP: &str = "[{select: [id]}]";

#[test]
fn a_finished_job_reads_what_is_new_and_keeps_what_it_wrote() {
    let folder = Folder::new();
    folder.input("a.ndjson", 0..3);
    folder.ok(KEEP, BOTH, &[]);
    folder.ok(KEEP, BOTH, &[]);
    assert_eq!((ids_of(&folder.read("one.ndjson")), folder.ids("all")), (vec![0, 1, 2], vec![0, 1, 2]));
    folder.input("b.ndjson", 3..5);
    folder.ok(KEEP, BOTH, &[]);
    assert_eq!(ids_of(&folder.read("one.ndjson")), [0, 1, 2, 3, 4]);
    assert_eq!(folder.ids("all"), [0, 1, 2, 3, 4]);
    // An edit changes what is written from now on.
    let edited = "[{select: [id]}, {compute: {id: id * 10}}]";
    folder.ok(edited, BOTH, &[]);
    assert_eq!(ids_of(&folder.read("one.ndjson")), [0, 1, 2, 3, 4]);
    folder.input("c.ndjson", 5..6);
    folder.ok(edited, BOTH, &[]);
    assert_eq!(ids_of(&folder.read("one.ndjson")), [0, 1, 2, 3, 4, 50]);
}

#[test]
fn a_reset_runs_anew_and_touches_no_file_that_is_there() {
    let folder = Folder::new();
    folder.input("a.ndjson", 0..3);
    folder.ok(KEEP, BOTH, &[]);
    folder.refused(KEEP, BOTH, &["--reset"], "target-exists");
    assert_eq!(ids_of(&folder.read("one.ndjson")), [0, 1, 2]);
    fs::remove_file(folder.path().join("one.ndjson")).expect("the file is moved away");
    // The reset has happened: the next run starts from the start.
    folder.ok(KEEP, BOTH, &[]);
    assert_eq!(ids_of(&folder.read("one.ndjson")), [0, 1, 2]);
    assert_eq!(folder.ids("all"), [0, 0, 1, 1, 2, 2]);
    let replace = BOTH.replace("one.ndjson", "one.ndjson, existing: replace");
    folder.ok(KEEP, &replace, &["--reset"]);
    assert_eq!(ids_of(&folder.read("one.ndjson")), [0, 1, 2]);
    assert_eq!(folder.ids("all"), [0, 0, 0, 1, 1, 1, 2, 2, 2]);
}

#[test]
fn what_is_appended_to_keeps_its_rows() {
    let folder = Folder::new();
    folder.input("a.ndjson", 0..3);
    let csv = "    - {name: one, file: {path: OUT/one.csv, existing: append}}\n";
    fs::write(folder.path().join("one.csv"), "other,columns\n1,2").expect("a file");
    folder.refused(KEEP, csv, &[], "target-columns");
    fs::write(folder.path().join("one.csv"), "id\n7").expect("a file");
    folder.ok("[{filter: id > 1000}, {select: [id]}]", csv, &[]);
    assert_eq!(folder.read("one.csv"), "id\n7");
    folder.input("b.ndjson", 3..5);
    folder.ok(KEEP, csv, &[]);
    assert_eq!(folder.read("one.csv"), "id\n7\n3\n4\n");
}

#[test]
fn state_is_lost_only_when_told_and_then_really() {
    let folder = Folder::new();
    folder.input("a.ndjson", 0..3);
    let by_id = "[{name: once, dedupe: {key: [id], within: 1h}}, {select: [id]}]";
    let by_both = "[{name: once, dedupe: {key: [id, t], within: 1h}}, {select: [id]}]";
    folder.ok(by_id, BOTH, &[]);
    // The window outlives the end of a job.
    folder.input("b.ndjson", 2..4);
    folder.ok(by_id, BOTH, &[]);
    assert_eq!(folder.ids("all"), [0, 1, 2, 3]);
    folder.input("c.ndjson", 3..5);
    folder.refused(by_both, BOTH, &[], "state-would-be-lost");
    folder.ok(by_both, BOTH, &["--accept-state-loss"]);
    assert_eq!(folder.ids("all"), [0, 1, 2, 3, 3, 4]);
    folder.input("d.ndjson", 4..6);
    folder.ok(by_both, BOTH, &[]);
    assert_eq!(folder.ids("all"), [0, 1, 2, 3, 3, 4, 5]);
}
