//! Small files that would become large: in gzip, in zstd, and inside the blocks of columnar formats.

use std::io::Write as _;
use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryArray, Int64Array, RecordBatch};
use arrow::ipc::CompressionType;
use arrow::ipc::writer::{FileWriter, IpcWriteOptions};
use conveyor_tests::bounded::Outcome;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use crate::case::{Case, MARGIN_MIB, refused};

/// Peak memory of a run over a good file, in MiB.
fn usual_mib() -> u64 {
    let case = Case::new();
    case.write("x.ndjson", b"{\"a\":1}\n{\"a\":2}\n");
    let outcome = case.read("x.ndjson", "{a: int64}");
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    outcome.peak_mib
}

/// The run stopped because of the limit, named the file and what to do, and took little memory.
#[track_caller]
fn defused(outcome: &Outcome, name: &str, advice: &str, usual: u64) {
    refused(outcome, 2, "decompression-limit");
    for word in [name, advice] {
        assert!(outcome.stderr.contains(word), "no `{word}` in: {}", outcome.stderr);
    }
    // A block may become 64 MiB before it is too much, in a buffer that has grown to that by doubling.
    assert!(outcome.peak_mib < usual + 3 * MARGIN_MIB, "{} MiB, usually {usual}", outcome.peak_mib);
}

#[test]
fn text_that_grows_beyond_all_measure_stops() {
    let usual = usual_mib();
    let line = [&b"{\"a\":1}"[..], &vec![b' '; (1 << 20) - 8], b"\n"].concat();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut zstd = zstd::Encoder::new(Vec::new(), 1).expect("memory takes it");
    for _ in 0..200 {
        gzip.write_all(&line).expect("memory takes it");
        zstd.write_all(&line).expect("memory takes it");
    }
    let files = [
        ("bomb.ndjson.gz", gzip.finish().expect("memory takes it"), "maxRatio: 100, "),
        ("bomb.ndjson.zst", zstd.finish().expect("memory takes it"), ""),
    ];
    for (name, bytes, limit) in files {
        let case = Case::new();
        let path = case.write(name, &bytes);
        let source = format!("file: {{{limit}path: '{}'}}", path.display());
        let outcome = case.copy(&source, "{a: int64}", &case.folder_sink());
        defused(&outcome, name, "maxRatio", usual);
    }
}

#[test]
fn a_parquet_page_that_becomes_too_large_stops() {
    let zeros = vec![0_u8; 300 << 20];
    let values: ArrayRef = Arc::new(BinaryArray::from_vec(vec![&zeros]));
    let batch = RecordBatch::try_from_iter([("b", values)]).expect("one column");
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_dictionary_enabled(false)
        .build();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).expect("a writer");
    writer.write(&batch).expect("memory takes it");
    let bytes = writer.into_inner().expect("memory takes it");
    assert!(bytes.len() < 1 << 20, "{} bytes are no bomb", bytes.len());
    let case = Case::new();
    case.write("bomb.parquet", &bytes);
    defused(&case.read("bomb.parquet", "{}"), "bomb.parquet", "smaller pages", usual_mib());
}

#[test]
fn an_ipc_batch_that_claims_too_much_stops() {
    let numbers: ArrayRef = Arc::new(Int64Array::from(vec![7; 100_000]));
    let batch = RecordBatch::try_from_iter([("n", numbers)]).expect("one column");
    for codec in [CompressionType::ZSTD, CompressionType::LZ4_FRAME] {
        let options = IpcWriteOptions::default().try_with_compression(Some(codec)).expect("a known codec");
        let mut writer =
            FileWriter::try_new_with_options(Vec::new(), &batch.schema(), options).expect("a writer");
        writer.write(&batch).expect("memory takes it");
        let mut bytes = writer.into_inner().expect("memory takes it");
        let honest = 800_000_i64.to_le_bytes();
        let at = bytes.windows(8).position(|w| w == honest).expect("the buffer says how long it becomes");
        bytes[at..at + 8].copy_from_slice(&(1_i64 << 40).to_le_bytes());
        let case = Case::new();
        case.write("bomb.arrow", &bytes);
        defused(&case.read("bomb.arrow", "{}"), "bomb.arrow", "smaller batches", usual_mib());
    }
}

#[test]
fn an_avro_block_that_becomes_too_large_stops() {
    let mut deflate = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut zstd = zstd::Encoder::new(Vec::new(), 1).expect("memory takes it");
    for _ in 0..200 {
        deflate.write_all(&[0; 1 << 20]).expect("memory takes it");
        zstd.write_all(&[0; 1 << 20]).expect("memory takes it");
    }
    let packed = [
        ("deflate", deflate.finish().expect("memory takes it")),
        ("zstandard", zstd.finish().expect("memory takes it")),
        ("snappy", b"\xff\xff\xff\xff\x0f____".to_vec()),
    ];
    let usual = usual_mib();
    for (codec, block) in packed {
        let schema = br#"{"type":"record","name":"r","fields":[{"name":"n","type":"long"}]}"#;
        let mut bytes = b"Obj\x01\x04".to_vec();
        for part in [b"avro.schema", &schema[..], b"avro.codec", codec.as_bytes()] {
            length(&mut bytes, part.len());
            bytes.extend_from_slice(part);
        }
        bytes.push(0);
        bytes.extend_from_slice(b"sixteen bytes...");
        length(&mut bytes, 200 << 20);
        length(&mut bytes, block.len());
        bytes.extend_from_slice(&block);
        bytes.extend_from_slice(b"sixteen bytes...");
        let case = Case::new();
        case.write("bomb.avro", &bytes);
        defused(&case.read("bomb.avro", "{}"), "bomb.avro", "smaller blocks", usual);
    }
}

/// Avro's form of a length.
fn length(out: &mut Vec<u8>, value: usize) {
    let mut rest = (value as u64) << 1;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}
