//! Files to start from: real ones of each format, in several codecs and with nested columns, so that a change of a few bytes
//! mostly damages what lies deep inside.

use std::io::Write as _;
use std::sync::Arc;

use anyhow::Result;
use arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Int64Array, ListArray, RecordBatch, StringArray,
    StringDictionaryBuilder, StructArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{Int32Type, Int64Type};
use arrow::ipc::CompressionType;
use arrow::ipc::writer::{FileWriter, IpcWriteOptions};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};

/// Lines of JSON.
pub(crate) fn ndjson() -> Vec<Vec<u8>> {
    let flat = br#"{"a":1,"b":0.5,"s":"x\u00e9"}
{"a":null,"s":"","n":{"d":[1,2,{"e":true}]}}
"#;
    let times = br#"{"t":"2025-01-01T00:00:00Z","a":-7,"b":1e300,"l":[[],[1.5,null]],"s":"\ud83d\ude00"}
{"t":"2025-01-01T00:00:00.123456+02:00","a":9223372036854775807,"s":"\\\"\/\b"}
{"t":null,"n":{"d":[],"o":{"deep":{"er":[{}]}}}}
"#;
    vec![flat.repeat(5), times.repeat(3)]
}

/// Separated values.
pub(crate) fn csv() -> Vec<Vec<u8>> {
    vec![
        b"a,b,s\n1,0.5,x\n2,,\"quoted, \"\"text\"\"\"\n,1e9,2025-01-01T00:00:00Z\n".to_vec(),
        b"id,when,flag,word\r\n1,2025-01-01,true,\xc3\xa9\r\n2,2025-02-30,FALSE,\"\"\r\n".repeat(4),
    ]
}

/// Compressed text, of one member and of several.
pub(crate) fn gzip() -> Result<Vec<Vec<u8>>> {
    let mut all = Vec::new();
    for text in ndjson() {
        for level in [0, 1, 9] {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(level));
            write_lines(&mut encoder, &text)?;
            let member = encoder.finish()?;
            all.push(member.repeat(1 + level as usize % 2));
        }
    }
    Ok(all)
}

/// A block for every two lines: damage in one leaves those before it.
fn write_lines(out: &mut impl std::io::Write, text: &[u8]) -> Result<()> {
    for lines in text.split_inclusive(|b| *b == b'\n').collect::<Vec<_>>().chunks(2) {
        out.write_all(&lines.concat())?;
        out.flush()?;
    }
    Ok(())
}

/// Compressed text with and without a checksum, of one frame and of several.
pub(crate) fn zstd() -> Result<Vec<Vec<u8>>> {
    let mut all = Vec::new();
    for text in ndjson() {
        for (level, checksum) in [(1, false), (3, true), (19, false)] {
            let mut encoder = zstd::Encoder::new(Vec::new(), level)?;
            encoder.include_checksum(checksum)?;
            write_lines(&mut encoder, &text)?;
            let frame = encoder.finish()?;
            all.push(frame.repeat(1 + usize::from(checksum)));
        }
    }
    Ok(all)
}

/// Rows with plain and nested columns.
fn sample(nested: bool) -> RecordBatch {
    let a: ArrayRef = Arc::new(Int64Array::from_iter((0..100).map(|n| (n % 7 != 0).then_some(n))));
    let b: ArrayRef = Arc::new(Float64Array::from_iter_values((0..100).map(f64::from)));
    let s: ArrayRef =
        Arc::new(StringArray::from_iter_values((0..100).map(|n| format!("text number {}", n % 9))));
    let mut columns = vec![("a", a, true), ("b", b, true), ("s", s, true)];
    if nested {
        let t =
            TimestampMicrosecondArray::from_iter_values((0..100).map(|n| n * 1_000_000)).with_timezone("UTC");
        let f: ArrayRef =
            Arc::new(BooleanArray::from_iter((0..100).map(|n| (n % 5 != 0).then_some(n % 2 == 0))));
        let mut d = StringDictionaryBuilder::<Int32Type>::new();
        (0..100).for_each(|n| d.append_value(["red", "green", "blue"][n % 3]));
        let l =
            (0..100).map(|n| (n % 4 != 0).then(|| (0..n % 3).map(move |i| Some(i + n)).collect::<Vec<_>>()));
        let l = ListArray::from_iter_primitive::<Int64Type, _, _>(l);
        let inner: ArrayRef =
            Arc::new(StringArray::from_iter((0..100).map(|n| (n % 3 != 0).then_some("in"))));
        let r = StructArray::try_from(vec![("x", inner), ("y", f.clone())]).expect("columns of one length");
        columns.extend([
            ("t", Arc::new(t) as ArrayRef, true),
            ("f", f, true),
            ("d", Arc::new(d.finish()), true),
            ("l", Arc::new(l), true),
            ("r", Arc::new(r), true),
        ]);
    }
    RecordBatch::try_from_iter_with_nullable(columns).expect("columns of one length")
}

/// Parquet in its codecs, page versions and encodings, with statistics and page indexes.
pub(crate) fn parquet() -> Result<Vec<Vec<u8>>> {
    let builder = || {
        WriterProperties::builder()
            .set_max_row_group_row_count(Some(40))
            .set_data_page_row_count_limit(16)
            .set_write_batch_size(8)
            .set_statistics_enabled(EnabledStatistics::Page)
    };
    let all = [
        (false, builder()),
        (true, builder().set_compression(Compression::SNAPPY)),
        (true, builder().set_compression(Compression::ZSTD(ZstdLevel::default()))),
        (
            false,
            builder().set_compression(Compression::LZ4_RAW).set_writer_version(WriterVersion::PARQUET_2_0),
        ),
        (true, builder().set_dictionary_enabled(false).set_writer_version(WriterVersion::PARQUET_2_0)),
        (
            false,
            builder()
                .set_dictionary_enabled(false)
                .set_column_encoding("a".into(), Encoding::DELTA_BINARY_PACKED)
                .set_column_encoding("b".into(), Encoding::BYTE_STREAM_SPLIT)
                .set_column_encoding("s".into(), Encoding::DELTA_BYTE_ARRAY),
        ),
        (
            false,
            builder().set_compression(Compression::GZIP(Default::default())).set_bloom_filter_enabled(true),
        ),
    ];
    let mut files = Vec::new();
    for (nested, properties) in all {
        let batch = sample(nested);
        let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties.build()))?;
        writer.write(&batch)?;
        files.push(writer.into_inner()?);
    }
    Ok(files)
}

/// Arrow IPC files in their codecs.
pub(crate) fn ipc() -> Result<Vec<Vec<u8>>> {
    let mut files = Vec::new();
    for nested in [false, true] {
        for codec in [None, Some(CompressionType::LZ4_FRAME), Some(CompressionType::ZSTD)] {
            let batch = sample(nested);
            let options = IpcWriteOptions::default().try_with_compression(codec)?;
            let mut writer = FileWriter::try_new_with_options(Vec::new(), &batch.schema(), options)?;
            writer.write(&batch.slice(0, 60))?;
            writer.write(&batch.slice(60, 40))?;
            files.push(writer.into_inner()?);
        }
    }
    Ok(files)
}

/// Avro object container files by hand, in their codecs, with every kind of type.
pub(crate) fn avro() -> Result<Vec<Vec<u8>>> {
    let flat = r#"{"type":"record","name":"r","fields":[{"name":"a","type":"long"},{"name":"s","type":["null","string"]}]}"#;
    let mut records = Vec::new();
    for n in 0..20 {
        long(&mut records, n * 1000);
        long(&mut records, 1);
        text(&mut records, b"hello");
    }
    let mut files = vec![container(flat, "null", 20, &records)];
    let all = r#"{"type":"record","name":"top","namespace":"x.y","fields":[
        {"name":"i","type":"int"},{"name":"b","type":"boolean"},{"name":"f","type":"double"},
        {"name":"e","type":{"type":"enum","name":"E","symbols":["A","B","C"]}},
        {"name":"x","type":["null",{"type":"fixed","name":"F","size":4}]},
        {"name":"d","type":{"type":"bytes","logicalType":"decimal","precision":9,"scale":2}},
        {"name":"l","type":{"type":"array","items":["null","long"]}},
        {"name":"m","type":{"type":"map","values":"string"}},
        {"name":"r","type":{"type":"record","name":"In","fields":[{"name":"again","type":"E"},{"name":"t","type":{"type":"long","logicalType":"timestamp-micros"}}]}},
        {"name":"s","type":["string","null"]}]}"#;
    let mut records = Vec::new();
    for n in 0..60 {
        long(&mut records, n);
        records.push(u8::from(n % 2 == 0));
        records.extend_from_slice(&(n as f64).to_le_bytes());
        long(&mut records, n % 3);
        long(&mut records, 1);
        records.extend_from_slice(b"four");
        text(&mut records, &[1, 2]);
        // Three items with the length of their block, then one without.
        for value in [-3, 6, 1, 5, 0, 1, -100, 1, 0, 0] {
            long(&mut records, value);
        }
        long(&mut records, 1);
        text(&mut records, b"key");
        text(&mut records, b"value");
        for value in [0, n % 3, 1_700_000_000_000_000] {
            long(&mut records, value);
        }
        long(&mut records, n % 2);
        if n % 2 == 0 {
            text(&mut records, "wörd".as_bytes());
        }
    }
    files.push(container(all, "null", 60, &records));
    let mut deflate = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
    deflate.write_all(&records)?;
    files.push(container(all, "deflate", 60, &deflate.finish()?));
    files.push(container(all, "zstandard", 60, &zstd::encode_all(&records[..], 1)?));
    let mut snappy = snap::raw::Encoder::new().compress_vec(&records)?;
    let mut sum = flate2::Crc::new();
    sum.update(&records);
    snappy.extend_from_slice(&sum.sum().to_be_bytes());
    files.push(container(all, "snappy", 60, &snappy));
    Ok(files)
}

/// A file of two equal blocks.
fn container(schema: &str, codec: &str, count: i64, block: &[u8]) -> Vec<u8> {
    let mut out = b"Obj\x01".to_vec();
    long(&mut out, 2);
    for part in ["avro.schema", schema, "avro.codec", codec] {
        text(&mut out, part.as_bytes());
    }
    long(&mut out, 0);
    let marker = *b"sixteen bytes...";
    out.extend_from_slice(&marker);
    for _ in 0..2 {
        long(&mut out, count);
        text(&mut out, block);
        out.extend_from_slice(&marker);
    }
    out
}

fn text(out: &mut Vec<u8>, bytes: &[u8]) {
    long(out, bytes.len() as i64);
    out.extend_from_slice(bytes);
}

/// Avro's zig-zag variable-length integer.
fn long(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}
