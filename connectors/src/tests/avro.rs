//! Avro files made by hand: what is good in every codec, and what is well framed and hostile inside.

use std::io::Write as _;
use std::time::Duration;

use conveyor_model::plan::Mode;
use conveyor_model::{Error, Positions};
use serde_json::json;

use super::{drain, open, text};

const MARKER: [u8; 16] = *b"sixteen bytes...";
/// An answer takes longer only if the reader hangs.
const PATIENCE: Duration = Duration::from_secs(20);

fn long(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

fn longs(values: &[i64]) -> Vec<u8> {
    let mut out = Vec::new();
    values.iter().for_each(|v| long(&mut out, *v));
    out
}

fn sized(out: &mut Vec<u8>, bytes: &[u8]) {
    long(out, bytes.len() as i64);
    out.extend_from_slice(bytes);
}

/// The header of a file of records with these fields.
fn header(fields: &str, codec: &str) -> Vec<u8> {
    let schema = format!(r#"{{"type":"record","name":"r","fields":[{fields}]}}"#);
    let mut out = b"Obj\x01".to_vec();
    long(&mut out, 2);
    for part in ["avro.schema", &schema, "avro.codec", codec] {
        sized(&mut out, part.as_bytes());
    }
    long(&mut out, 0);
    out.extend_from_slice(&MARKER);
    out
}

fn block(out: &mut Vec<u8>, count: i64, records: &[u8]) {
    long(out, count);
    sized(out, records);
    out.extend_from_slice(&MARKER);
}

/// A file of one block.
fn file(fields: &str, count: i64, records: &[u8]) -> Vec<u8> {
    let mut out = header(fields, "null");
    block(&mut out, count, records);
    out
}

/// Reads a file on a thread of its own, so that a reader that hangs fails the test.
fn read(bytes: &[u8]) -> (Vec<String>, Option<Error>) {
    read_with(bytes, json!({}))
}

fn read_with(bytes: &[u8], mut config: serde_json::Value) -> (Vec<String>, Option<Error>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.avro");
    std::fs::write(&path, bytes).unwrap();
    let (send, receive) = std::sync::mpsc::channel();
    config["path"] = text(&path).into();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let answer = runtime.block_on(async {
            match open(&config, Mode::Job, Positions::new()).await {
                Ok(mut source) => drain(&mut *source).await,
                Err(e) => (Vec::new(), Some(e)),
            }
        });
        // Nobody listens any more if the test has failed meanwhile.
        drop(send.send(answer));
    });
    receive.recv_timeout(PATIENCE).expect("the reader must not hang")
}

/// The error for a file, with the rows before it.
#[track_caller]
fn refused(bytes: &[u8], code: &str, words: &str, rows: usize) {
    let (seen, error) = read(bytes);
    let error = error.unwrap_or_else(|| panic!("read without an error: {seen:?}"));
    assert_eq!(error.code(), code, "{error}");
    assert!(error.to_string().contains(words), "no `{words}` in: {error}");
    assert!(error.to_string().contains("x.avro"), "the file is not named: {error}");
    assert_eq!(seen.len(), rows, "rows before the damage: {error}");
}

const ID: &str = r#"{"name":"id","type":"long"}"#;

#[test]
fn every_codec_is_read() {
    let fields = r#"{"name":"id","type":"long"},
        {"name":"kind","type":{"type":"enum","name":"Kind","namespace":"a.b","symbols":["x","y"]}},
        {"name":"again","type":["null","a.b.Kind"]},
        {"name":"list","type":{"type":"array","items":["null","int"]}},
        {"name":"map","type":{"type":"map","values":"string"}},
        {"name":"raw","type":{"type":"fixed","name":"Raw","size":2}},
        {"name":"inner","type":{"type":"record","name":"Inner","fields":[{"name":"s","type":["string","null"]}]}}"#;
    // id, kind, again; three items in a block with its length, then one without; one entry of the map.
    let mut record = longs(&[7, 1, 1, 0, -2, 3, 1, 5, 0, 1, 1, -6, 0, 1]);
    sized(&mut record, b"k");
    sized(&mut record, b"v");
    record.extend(longs(&[0]));
    record.extend_from_slice(b"\x01\x02\x00\x06abc");
    let records = record.repeat(30);
    let mut deflate = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
    deflate.write_all(&records).unwrap();
    let mut snappy = snap::raw::Encoder::new().compress_vec(&records).unwrap();
    let mut sum = flate2::Crc::new();
    sum.update(&records);
    snappy.extend_from_slice(&sum.sum().to_be_bytes());
    let codecs = [
        ("null", records.clone()),
        ("deflate", deflate.finish().unwrap()),
        ("zstandard", zstd::encode_all(&records[..], 1).unwrap()),
        ("snappy", snappy.clone()),
    ];
    for (codec, packed) in codecs {
        let mut bytes = header(fields, codec);
        block(&mut bytes, 30, &packed);
        block(&mut bytes, 0, &[]);
        block(&mut bytes, 30, &packed);
        let (rows, error) = read(&bytes);
        assert!(error.is_none(), "{codec}: {error:?}");
        assert_eq!(rows.len(), 60, "{codec}");
        let expected = "id=7|kind=y|again=x|list=[5, null, -6]|map={k: v}|raw=0102|inner={s: abc}";
        assert!(rows.iter().all(|row| row == expected), "{codec}: {}", rows[0]);
    }
    let last = snappy.len() - 1;
    snappy[last] ^= 1;
    let mut bytes = header(fields, "snappy");
    block(&mut bytes, 30, &snappy);
    refused(&bytes, "file-corrupt", "checksum", 0);
    refused(&header(ID, "bzip2"), "avro-codec", "bzip2", 0);
}

#[test]
fn blocks_that_do_not_keep_their_word_are_refused() {
    let twenty = longs(&(0..20).collect::<Vec<_>>());
    refused(&file(ID, 3, &twenty), "file-corrupt", "17 bytes behind its 3 records", 3);
    refused(&file(ID, 21, &twenty), "file-corrupt", "21 records in 20 bytes", 0);
    refused(&file(ID, i64::MAX, &[]), "file-corrupt", "records in 0 bytes", 0);
    refused(&file(ID, -1, &twenty), "file-corrupt", "negative number of records", 0);
    refused(&file("", 5, &[]), "file-corrupt", "5 records in 0 bytes", 0);

    // After a good block, of which the rows stay.
    let good = file(ID, 20, &twenty);
    let with = |tail: &[u8]| [&good, tail].concat();
    let mut other = longs(&[20, 20]);
    other.extend_from_slice(&twenty);
    other.extend_from_slice(b"another marker..");
    refused(&with(&other), "file-corrupt", "marker", 20);
    refused(&with(&other[..other.len() - 17]), "file-corrupt", "cut off", 20);
    refused(&with(&longs(&[20, -5])), "file-corrupt", "negative", 20);
    refused(&with(&longs(&[20, i64::MAX])), "file-corrupt", "says to be", 20);
    refused(&with(&[0xff; 30]), "file-corrupt", "too long", 20);
    refused(&with(&[0x80]), "file-corrupt", "cut off", 20);
    let mut endless = twenty.clone();
    endless.extend_from_slice(&[0xff; 11]);
    refused(&file(ID, 21, &endless), "file-corrupt", "a number is too long", 20);
}

#[test]
fn few_bytes_cannot_stand_for_many_values() {
    let nulls = r#"{"name":"n","type":{"type":"array","items":"null"}}"#;
    for count in [i64::from(i32::MAX), i64::MAX] {
        refused(&file(nulls, 1, &longs(&[count, 0])), "file-corrupt", "too much memory", 0);
    }
    // The negative count comes with a length.
    refused(&file(nulls, 1, &longs(&[i64::MIN, 0, 0])), "file-corrupt", "too much memory", 0);
    refused(&file(nulls, 1, &longs(&[-5, 3, 0])), "file-corrupt", "not as long as it says", 0);
    // Each small, endless together.
    refused(
        &file(nulls, 1, &longs(&[1 << 20, 1 << 20, 1 << 20, 1 << 20, 1 << 20, 0])),
        "file-corrupt",
        "too much",
        0,
    );

    let room = r#"{"name":"f","type":["null",{"type":"fixed","name":"F","size":2147483647}]}"#;
    refused(&file(room, 2, &longs(&[0, 0])), "file-corrupt", "too much memory", 0);
    refused(&file(room, 2, &longs(&[1, 0])), "file-corrupt", "ends behind its block", 0);

    let map = r#"{"name":"m","type":{"type":"map","values":"null"}}"#;
    refused(&file(map, 1, &longs(&[i64::MAX, 0])), "file-corrupt", "ends behind its block", 0);
}

#[test]
fn values_outside_of_their_type_are_refused_at_their_row() {
    let union = r#"{"name":"u","type":["null","long"]}"#;
    refused(&file(union, 3, &longs(&[0, 1, 9, 2])), "file-corrupt", "position row 2", 2);
    let letter = r#"{"name":"e","type":{"type":"enum","name":"E","symbols":["A"]}}"#;
    refused(&file(letter, 2, &longs(&[0, 1])), "file-corrupt", "its schema does not have", 1);
    let flag = r#"{"name":"b","type":"boolean"}"#;
    refused(&file(flag, 2, &[1, 2]), "file-corrupt", "neither true nor false", 1);
    let words = r#"{"name":"s","type":"string"}"#;
    refused(&file(words, 1, &longs(&[-1])), "file-corrupt", "negative", 0);
    refused(&file(words, 1, b"\x04\xff\xfe"), "file-corrupt", "cannot be read on", 0);
    refused(&file(r#"{"name":"i","type":"int"}"#, 1, &longs(&[1 << 40])), "file-corrupt", "too large", 0);
}

#[test]
fn blocks_that_would_fill_the_memory_are_refused() {
    let zeros = vec![0; 1 << 20];
    let mut deflate = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut zstd = zstd::Encoder::new(Vec::new(), 1).unwrap();
    for _ in 0..65 {
        deflate.write_all(&zeros).unwrap();
        zstd.write_all(&zeros).unwrap();
    }
    // A claim of 4 GiB, and nothing else.
    let snappy = b"\xff\xff\xff\xff\x0f____".to_vec();
    let packed =
        [("deflate", deflate.finish().unwrap()), ("zstandard", zstd.finish().unwrap()), ("snappy", snappy)];
    for (codec, packed) in packed {
        let mut bytes = header(ID, codec);
        block(&mut bytes, 1, &packed);
        refused(&bytes, "decompression-limit", "most that one may hold", 0);
    }
}

#[test]
fn blocks_that_are_small_each_and_large_together_are_refused() {
    let mut record = Vec::new();
    sized(&mut record, &vec![b' '; 30 << 20]);
    let mut deflate = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
    deflate.write_all(&record).unwrap();
    let packed = deflate.finish().unwrap();
    let mut bytes = header(r#"{"name":"s","type":"string"}"#, "deflate");
    (0..4).for_each(|_| block(&mut bytes, 1, &packed));
    // The fourth block is one too many.
    let (rows, error) = read_with(&bytes, json!({"maxRatio": 100}));
    let error = error.unwrap();
    assert_eq!((error.code(), rows.len()), ("decompression-limit", 3), "{error}");
    let (rows, error) = read_with(&bytes, json!({"maxRatio": 2000}));
    assert!(error.is_none(), "{error:?}");
    assert_eq!(rows.len(), 4);
}

#[test]
fn schemas_that_cannot_be_used_are_refused() {
    // Twenty types, each made of two of the one before.
    let mut bomb =
        r#"{"name":"t0","type":{"type":"record","name":"T0","fields":[{"name":"x","type":"long"}]}}"#
            .to_owned();
    for n in 1..20 {
        bomb.push_str(&format!(
            r#",{{"name":"t{n}","type":{{"type":"record","name":"T{n}","fields":[{{"name":"a","type":"T{0}"}},{{"name":"b","type":"T{0}"}}]}}}}"#,
            n - 1
        ));
    }
    refused(&header(&bomb, "null"), "file-corrupt", "more than 16384 types", 0);
    let deep = format!(
        r#"{{"name":"d","type":{}"long"{}}}"#,
        r#"{"type":"array","items":"#.repeat(80),
        "}".repeat(80)
    );
    refused(&header(&deep, "null"), "file-corrupt", "levels deep", 0);
    let list =
        r#"{"name":"l","type":{"type":"record","name":"L","fields":[{"name":"next","type":["null","L"]}]}}"#;
    refused(&header(list, "null"), "file-corrupt", "`L` is not known at its place", 0);
    refused(
        &header(r#"{"name":"q","type":7}"#, "null"),
        "file-corrupt",
        "neither a name nor a definition",
        0,
    );
    refused(&header("nonsense", "null"), "file-corrupt", "not JSON", 0);
    let mut none = b"Obj\x01\x00".to_vec();
    none.extend_from_slice(&MARKER);
    refused(&none, "file-corrupt", "no schema", 0);
    let mut long_header = b"Obj\x01".to_vec();
    long_header.extend(longs(&[i64::MAX, i64::MAX]));
    refused(&long_header, "file-corrupt", "says to be", 0);
}
