//! Text sources.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use conveyor_model::plan::Mode;
use conveyor_model::source::{Read, Source};
use conveyor_model::{Kind, Positions};
use serde_json::json;

use super::{drain, open, predicates, text};
use crate::conformance::{SourceCase, check_source};
use crate::file::FileSourceConnector;
use crate::generator::Generator;
use crate::stdio::Stdin;

fn ndjson(from: i64, to: i64) -> String {
    (from..to)
        .map(|i| {
            let amount = if i % 5 == 0 { "null".to_owned() } else { format!("{i}.5") };
            format!("{{\"id\":{i},\"name\":\"name {}\",\"amount\":{amount}}}\n", i % 7)
        })
        .collect()
}

fn csv(from: i64, to: i64) -> String {
    let rows = (from..to).map(|i| {
        let amount = if i % 5 == 0 { String::new() } else { format!("{i}.5") };
        format!("{i},name {},{amount}\n", i % 7)
    });
    std::iter::once("id,name,amount\n".to_owned()).chain(rows).collect()
}

fn case(config: serde_json::Value) -> SourceCase {
    SourceCase::new(Arc::new(FileSourceConnector::default()), config)
}

#[tokio::test]
async fn ndjson_in_ranges_conforms() {
    let dir = tempfile::tempdir().unwrap();
    let mut bad = ndjson(0, 60);
    bad.push_str("{\"id\": 1, \"name\": \n\n");
    bad.push_str(&ndjson(60, 100));
    std::fs::write(dir.path().join("a.ndjson"), bad).unwrap();
    // Without a line end at its end.
    std::fs::write(dir.path().join("b.ndjson"), ndjson(100, 130).trim_end()).unwrap();
    std::fs::write(dir.path().join("empty.ndjson"), "").unwrap();
    let path = format!("{}/*.ndjson", text(dir.path()));
    for range in [64, 1000, 1 << 20] {
        let case = case(json!({"path": path, "rangeBytes": range, "pollInterval": 10}));
        check_source(&case.expect_rows(130).expect_rejected(1).predicates(predicates())).await;
    }
}

#[tokio::test]
async fn csv_in_ranges_and_compressed_conforms() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a.csv"), csv(0, 80)).unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(csv(80, 100).as_bytes()).unwrap();
    std::fs::write(dir.path().join("b.csv.gz"), gzip.finish().unwrap()).unwrap();
    let zstd = zstd::encode_all(csv(100, 120).as_bytes(), 1).unwrap();
    std::fs::write(dir.path().join("c.csv.zst"), zstd).unwrap();
    let case = case(json!({"path": text(dir.path()), "rangeBytes": 100, "pollInterval": 10}));
    check_source(&case.expect_rows(120).predicates(predicates())).await;
}

#[tokio::test]
async fn lines_conform() {
    let dir = tempfile::tempdir().unwrap();
    let lines: String = (0..50).map(|i| format!("line {i}\n")).collect();
    std::fs::write(dir.path().join("x.log"), lines).unwrap();
    let path = text(&dir.path().join("x.log"));
    check_source(&case(json!({"path": path, "rangeBytes": 50, "pollInterval": 10})).expect_rows(50)).await;
}

/// Standard input that holds what comes behind the positions from which it is read.
fn piped(text: String, config: serde_json::Value) -> SourceCase {
    let from = Arc::new(AtomicUsize::new(0));
    let (start, whole) = (from.clone(), Arc::new(text));
    let stream = move || -> Box<dyn std::io::Read + Send> {
        // A pipe gives what it has, not what was asked for.
        let rest = whole.as_bytes()[start.load(Ordering::SeqCst)..].to_vec();
        Box::new(Short(std::io::Cursor::new(rest)))
    };
    SourceCase::new(Arc::new(Stdin::of(Arc::new(stream))), config).lay_out(move |positions| {
        let at = positions.get("stdin").map_or(0, |state| state.position.0.as_u64().unwrap());
        from.store(at as usize, Ordering::SeqCst);
    })
}

struct Short(std::io::Cursor<Vec<u8>>);

impl std::io::Read for Short {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let most = out.len().min(37);
        self.0.read(&mut out[..most])
    }
}

#[tokio::test]
async fn standard_input_conforms() {
    let fields = super::rows(0, 1).schema().fields().iter().cloned().collect::<Vec<_>>();
    let mut bad = ndjson(0, 60);
    bad.push_str("{\"id\": 1, \"name\": \n\n");
    bad.push_str(ndjson(60, 100).trim_end());
    let case = piped(bad, json!({"format": "ndjson"})).declare(fields.clone());
    check_source(&case.expect_rows(100).expect_rejected(1).predicates(predicates())).await;

    let rows: String = csv(0, 50).lines().skip(1).map(|line| format!("{line}\n")).collect();
    let case = piped(rows, json!({"format": "csv", "header": false, "nullValues": [""]})).declare(fields);
    check_source(&case.expect_rows(50).predicates(predicates())).await;

    let lines: String = (0..50).map(|i| format!("line {i}\n")).collect();
    check_source(&piped(lines, json!({"format": "lines"})).expect_rows(50)).await;
}

#[tokio::test]
async fn generated_rows_conform() {
    for kind in ["records", "nexmark", "nexmark-bid"] {
        // More than one lane.
        let config = json!({"kind": kind, "rows": 9_000});
        let case = SourceCase::new(Arc::new(Generator), config);
        check_source(&case.expect_rows(9_000)).await;
    }
}

#[tokio::test]
async fn a_followed_file_is_read_on_and_a_half_line_waits() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.ndjson");
    std::fs::write(&path, "{\"id\":1}\n{\"id\":").unwrap();
    let config = json!({"path": text(&path), "follow": true, "pollInterval": 1});
    let mut source = open(&config, Mode::Streaming, Positions::new()).await.unwrap();
    let mut seen = Vec::new();
    let mut appended = false;
    while seen.len() < 3 {
        match source.read().await.unwrap() {
            Read::Rows(rows) => seen.extend(crate::conformance::show(rows.batch.rows())),
            Read::Idle if !appended => {
                assert_eq!(seen, ["id=1"]);
                let mut file = std::fs::File::options().append(true).open(&path).unwrap();
                file.write_all(b"2}\n{\"id\":3}\n").unwrap();
                appended = true;
            }
            Read::Idle => {}
            Read::End => panic!("a followed file has no end"),
        }
    }
    assert_eq!(seen, ["id=1", "id=2", "id=3"]);
}

/// Reads until `count` rows are there, and then until the source finds nothing more.
async fn read_all(source: &mut Box<dyn Source>, seen: &mut Vec<String>, count: usize) {
    let mut idle = 0;
    while seen.len() < count || idle < 3 {
        match source.read().await.unwrap() {
            Read::Rows(rows) => seen.extend(crate::conformance::show(rows.batch.rows())),
            Read::Idle => idle += 1,
            Read::End => panic!("a followed file has no end"),
        }
    }
}

fn shown(ids: std::ops::Range<usize>) -> Vec<String> {
    ids.map(|id| format!("id={id}")).collect()
}

fn lines_of(ids: std::ops::Range<usize>) -> String {
    ids.map(|id| format!("{{\"id\":{id}}}\n")).collect()
}

/// What happens to a log that somebody rotates.
#[derive(Debug, Clone, Copy)]
enum Rotation {
    /// Renamed, with a last line that was not read yet; a new file takes its name.
    Rename,
    /// Copied and cut; the new text grows longer than the old one.
    CopyTruncate,
    /// Deleted; a new file appears later.
    Delete,
}

fn rotate(path: &std::path::Path, rotation: Rotation) {
    let old = path.with_extension("old");
    match rotation {
        Rotation::Rename => {
            std::fs::File::options()
                .append(true)
                .open(path)
                .unwrap()
                .write_all(lines_of(3..4).as_bytes())
                .unwrap();
            std::fs::rename(path, old).unwrap();
        }
        Rotation::CopyTruncate => drop(std::fs::copy(path, old).unwrap()),
        Rotation::Delete => std::fs::remove_file(path).unwrap(),
    }
}

#[tokio::test]
async fn a_followed_file_may_be_rotated() {
    for rotation in [Rotation::Rename, Rotation::CopyTruncate, Rotation::Delete] {
        for restart in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("a.ndjson");
            std::fs::write(&path, lines_of(0..3)).unwrap();
            let config =
                json!({"path": format!("{}/*.ndjson", text(dir.path())), "follow": true, "pollInterval": 1});
            let mut source = open(&config, Mode::Streaming, Positions::new()).await.unwrap();
            let mut seen = Vec::new();
            read_all(&mut source, &mut seen, 3).await;
            rotate(&path, rotation);
            if matches!(rotation, Rotation::Delete) && !restart {
                read_all(&mut source, &mut seen, 3).await;
            }
            std::fs::write(&path, lines_of(100..120)).unwrap();
            if restart {
                source = open(&config, Mode::Streaming, source.positions()).await.unwrap();
            }
            let left = if matches!(rotation, Rotation::Rename) { 4 } else { 3 };
            read_all(&mut source, &mut seen, left + 20).await;
            seen.sort();
            let mut expected = [shown(0..left), shown(100..120)].concat();
            expected.sort();
            assert_eq!(seen, expected, "{rotation:?}, restarted: {restart}");
            // And it is followed on.
            std::fs::File::options()
                .append(true)
                .open(&path)
                .unwrap()
                .write_all(lines_of(120..122).as_bytes())
                .unwrap();
            let mut more = Vec::new();
            read_all(&mut source, &mut more, 2).await;
            assert_eq!(more, shown(120..122), "{rotation:?}, restarted: {restart}");
        }
    }
}

#[tokio::test]
async fn a_folder_is_watched() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a.ndjson"), ndjson(0, 5)).unwrap();
    let config = json!({"path": format!("{}/*.ndjson", text(dir.path())), "pollInterval": 1});
    let mut source = open(&config, Mode::Streaming, Positions::new()).await.unwrap();
    let mut seen = 0;
    while seen < 12 {
        match source.read().await.unwrap() {
            Read::Rows(rows) => seen += rows.batch.num_rows(),
            _ if seen == 5 => std::fs::write(dir.path().join("b.ndjson"), ndjson(5, 12)).unwrap(),
            _ => {}
        }
    }
    assert_eq!(seen, 12);
    // A finished file that changes is an error, not a silent difference.
    std::fs::write(dir.path().join("a.ndjson"), ndjson(0, 6)).unwrap();
    let error = loop {
        match source.read().await {
            Ok(Read::Rows(_)) => panic!("a changed file must not be read"),
            Ok(_) => {}
            Err(e) => break e,
        }
    };
    assert_eq!(error.code(), "file-changed");
    assert!(error.to_string().contains("a.ndjson"));
}

#[tokio::test]
async fn a_file_that_changes_or_goes_while_it_is_read_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.ndjson");
    let config = json!({"path": text(&path)});
    std::fs::write(&path, ndjson(0, 100)).unwrap();
    let mut source = open(&config, Mode::Job, Positions::new()).await.unwrap();
    assert!(matches!(source.read().await.unwrap(), Read::Rows(_)));
    let positions = source.positions();
    std::fs::write(&path, ndjson(0, 90)).unwrap();
    let (_, error) = drain(&mut *source).await;
    assert_eq!(error.unwrap().code(), "file-changed");
    let error = open(&config, Mode::Job, positions.clone()).await.err().unwrap();
    assert_eq!(error.code(), "file-changed");

    std::fs::write(dir.path().join("b.ndjson"), ndjson(0, 1)).unwrap();
    std::fs::remove_file(&path).unwrap();
    let config = json!({"path": format!("{}/*.ndjson", text(dir.path()))});
    let error = open(&config, Mode::Job, positions).await.err().unwrap();
    assert_eq!(error.code(), "file-vanished");
    assert!(error.to_string().contains("a.ndjson"), "{error}");
}

#[tokio::test]
async fn a_cut_gzip_delivers_what_is_whole_and_then_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.ndjson.gz");
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(ndjson(0, 20_000).as_bytes()).unwrap();
    let whole = gzip.finish().unwrap();
    std::fs::write(&path, &whole[..whole.len() - 100]).unwrap();
    let mut source = open(&json!({"path": text(&path)}), Mode::Job, Positions::new()).await.unwrap();
    let (rows, error) = drain(&mut *source).await;
    let error = error.unwrap();
    assert_eq!((error.code(), error.kind()), ("file-corrupt", Kind::BadInput));
    assert!(rows.len() > 10_000 && rows.len() < 20_000, "{}", rows.len());
    assert!(error.place().position.is_some());
}

#[tokio::test]
async fn a_decompression_bomb_is_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.ndjson.zst");
    let mut bomb = zstd::Encoder::new(Vec::new(), 1).unwrap();
    bomb.write_all(b"{\"id\":1}\n").unwrap();
    let filler = vec![b'x'; 1 << 20];
    for _ in 0..80 {
        bomb.write_all(&filler).unwrap();
    }
    std::fs::write(&path, bomb.finish().unwrap()).unwrap();
    let config = json!({"path": text(&path), "maxRecordBytes": 1 << 20});
    let mut source = open(&config, Mode::Job, Positions::new()).await.unwrap();
    let mut reads = 0;
    let error = loop {
        match source.read().await {
            Ok(Read::End) => panic!("the bomb was not noticed"),
            Ok(_) => reads += 1,
            Err(e) => break e,
        }
    };
    assert!(reads > 0);
    assert_eq!((error.code(), error.kind()), ("decompression-limit", Kind::BadInput));
}
