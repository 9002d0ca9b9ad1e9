//! Encoders of a file sink: text with compression around it, Parquet, Arrow IPC and Avro.

use std::io::{self, Write};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use arrow_avro::compression::CompressionCodec;
use arrow_avro::writer::AvroWriter;
use arrow_avro::writer::format::AvroOcfFormat;
use arrow_ipc::writer::{FileWriter, IpcWriteOptions};
use conveyor_model::sink::Refused;
use conveyor_model::{Error, Result};
use parking::Shared;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression as ParquetCodec, ZstdLevel};
use parquet::file::properties::WriterProperties;

use super::decompress::Compression;
use super::sink_config::{Codec, Encoding, SinkConfig, SinkPlan};
use crate::format::{Encoder, TextFormat};

/// A Parquet column with more distinct values than fit into this is written plain. Every column of every open file first
/// tries, which costs several times this much memory until it is known.
const DICTIONARY_BYTES: usize = 512 << 10;
/// zstd level of text and Parquet: the fastest that still halves the size.
const ZSTD_LEVEL: i32 = 1;

/// The encoder of one file. `header` is false for the parts of one CSV file.
///
/// # Errors
/// `BadInput` if the format cannot hold a column's type.
pub(crate) fn encoder(plan: &SinkPlan, header: bool) -> Result<Box<dyn Encoder>> {
    let schema = &plan.file_schema;
    match &plan.encoding {
        Encoding::Text(format, compression) => text(format, *compression, header, schema),
        Encoding::Parquet(codec) => {
            let SinkConfig { max_row_group_rows, max_row_group_bytes, .. } = plan.config;
            Ok(Box::new(ParquetEncoder::new(schema, *codec, max_row_group_rows, max_row_group_bytes)?))
        }
        Encoding::Ipc(codec) => Ok(Box::new(IpcEncoder::new(schema, *codec)?)),
        Encoding::Avro(codec) => Ok(Box::new(AvroEncoder::new(schema, *codec)?)),
    }
}

fn text(
    format: &TextFormat,
    compression: Compression,
    header: bool,
    schema: &SchemaRef,
) -> Result<Box<dyn Encoder>> {
    let mut format = format.clone();
    if let TextFormat::Csv(csv) = &mut format {
        csv.header &= header;
    }
    let inner = format.encoder(schema)?;
    let sink = Shared::default();
    let stream = match compression {
        Compression::None => return Ok(inner),
        Compression::Gzip => {
            Stream::Gzip(flate2::write::GzEncoder::new(sink.clone(), flate2::Compression::fast()))
        }
        Compression::Zstd => {
            Stream::Zstd(zstd::Encoder::new(sink.clone(), ZSTD_LEVEL).map_err(|e| failed("zstd", e))?)
        }
    };
    Ok(Box::new(Compressed { inner, plain: Vec::new(), stream: Some(stream), sink }))
}

/// What every file of this encoding begins with when it is made of parts: a CSV header or nothing.
///
/// # Errors
/// As [`encoder`].
pub(crate) fn head(plan: &SinkPlan) -> Result<Vec<u8>> {
    let mut head = Vec::new();
    if let Encoding::Text(TextFormat::Csv(csv), _) = &plan.encoding
        && csv.header
    {
        let mut encoder = encoder(plan, true)?;
        encoder.encode(&RecordBatch::new_empty(plan.file_schema.clone()), &mut head)?;
        encoder.finish(&mut head)?;
    }
    Ok(head)
}

fn failed(format: &str, e: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::runtime("encode-failed", format!("rows could not be written as {format}")).because(e)
}

fn unfit(format: &str, e: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::bad_input("format-type", format!("{format} cannot hold a column of these rows"))
        .because(e)
        .help("cast the column to another type, or drop it")
}

mod parking {
    //! A byte buffer with two owners: the library that writes into it and the encoder that empties it.

    use std::sync::{Arc, Mutex, PoisonError};

    /// Largest empty buffer that is kept.
    const KEPT: usize = 4 << 20;

    /// The buffer.
    #[derive(Clone, Default)]
    pub(super) struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Shared {
        /// Moves what is there to the end of `out`.
        pub(super) fn drain_into(&self, out: &mut Vec<u8>) {
            let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if held.is_empty() {
                return;
            }
            if out.is_empty() {
                std::mem::swap(&mut *held, out);
            } else {
                out.append(&mut held);
            }
            // Whoever writes much at once makes room for it again; until then it would lie idle.
            if held.capacity() > KEPT {
                *held = Vec::new();
            }
        }

        /// Makes room for `bytes` more.
        pub(super) fn reserve(&self, bytes: usize) {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).reserve(bytes);
        }
    }

    impl std::io::Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
}

enum Stream {
    Gzip(flate2::write::GzEncoder<Shared>),
    Zstd(zstd::Encoder<'static, Shared>),
}

impl Stream {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Stream::Gzip(gzip) => gzip.write_all(bytes),
            Stream::Zstd(zstd) => zstd.write_all(bytes),
        }
    }

    fn finish(self) -> io::Result<()> {
        match self {
            Stream::Gzip(gzip) => gzip.finish().map(drop),
            Stream::Zstd(zstd) => zstd.finish().map(drop),
        }
    }
}

struct Compressed {
    inner: Box<dyn Encoder>,
    plain: Vec<u8>,
    stream: Option<Stream>,
    sink: Shared,
}

impl Compressed {
    fn compress(&mut self, out: &mut Vec<u8>) -> Result<()> {
        if let Some(stream) = &mut self.stream {
            stream.write_all(&self.plain).map_err(|e| failed("compressed text", e))?;
        }
        self.plain.clear();
        self.sink.drain_into(out);
        Ok(())
    }
}

impl Encoder for Compressed {
    fn encode(&mut self, rows: &RecordBatch, out: &mut Vec<u8>) -> Result<Refused> {
        let refused = self.inner.encode(rows, &mut self.plain)?;
        self.compress(out)?;
        Ok(refused)
    }

    fn finish(&mut self, out: &mut Vec<u8>) -> Result<()> {
        self.inner.finish(&mut self.plain)?;
        self.compress(out)?;
        if let Some(stream) = self.stream.take() {
            stream.finish().map_err(|e| failed("compressed text", e))?;
        }
        self.sink.drain_into(out);
        Ok(())
    }

    fn buffered(&self) -> usize {
        self.plain.len() + self.inner.buffered()
    }
}

struct ParquetEncoder {
    writer: ArrowWriter<Shared>,
    sink: Shared,
    /// A row group is closed at this size in memory, however few rows it has.
    row_group_bytes: usize,
}

impl ParquetEncoder {
    fn new(schema: &SchemaRef, codec: Codec, rows: usize, bytes: u64) -> Result<Self> {
        let codec = match codec {
            Codec::Zstd => {
                ParquetCodec::ZSTD(ZstdLevel::try_new(ZSTD_LEVEL).map_err(|e| failed("Parquet", e))?)
            }
            Codec::Snappy => ParquetCodec::SNAPPY,
            _ => ParquetCodec::UNCOMPRESSED,
        };
        let properties = WriterProperties::builder()
            .set_compression(codec)
            .set_max_row_group_row_count(Some(rows.max(1)))
            .set_dictionary_page_size_limit(DICTIONARY_BYTES)
            .set_created_by("conveyor".to_owned())
            .build();
        let sink = Shared::default();
        let writer = ArrowWriter::try_new(sink.clone(), schema.clone(), Some(properties))
            .map_err(|e| unfit("Parquet", e))?;
        Ok(Self { writer, sink, row_group_bytes: usize::try_from(bytes).unwrap_or(usize::MAX) })
    }

    /// Makes room for the row group that is about to be written: a buffer that grows by doubling would be there twice, and
    /// half empty afterwards.
    fn make_room(&self) {
        self.sink.reserve(self.writer.in_progress_size());
    }
}

impl Encoder for ParquetEncoder {
    fn encode(&mut self, rows: &RecordBatch, out: &mut Vec<u8>) -> Result<Refused> {
        self.writer.write(rows).map_err(|e| failed("Parquet", e))?;
        if self.writer.memory_size() > self.row_group_bytes {
            self.make_room();
            self.writer.flush().map_err(|e| failed("Parquet", e))?;
        }
        self.sink.drain_into(out);
        Ok(Refused::new())
    }

    fn finish(&mut self, out: &mut Vec<u8>) -> Result<()> {
        self.make_room();
        self.writer.finish().map_err(|e| failed("Parquet", e))?;
        self.sink.drain_into(out);
        Ok(())
    }

    fn buffered(&self) -> usize {
        self.writer.in_progress_size()
    }
}

struct IpcEncoder {
    writer: FileWriter<Shared>,
    sink: Shared,
}

impl IpcEncoder {
    fn new(schema: &SchemaRef, codec: Codec) -> Result<Self> {
        let codec = match codec {
            Codec::Lz4 => Some(arrow_ipc::CompressionType::LZ4_FRAME),
            Codec::Zstd => Some(arrow_ipc::CompressionType::ZSTD),
            _ => None,
        };
        let options =
            IpcWriteOptions::default().try_with_compression(codec).map_err(|e| failed("Arrow IPC", e))?;
        let sink = Shared::default();
        let writer = FileWriter::try_new_with_options(sink.clone(), schema, options)
            .map_err(|e| unfit("Arrow IPC", e))?;
        Ok(Self { writer, sink })
    }
}

impl Encoder for IpcEncoder {
    fn encode(&mut self, rows: &RecordBatch, out: &mut Vec<u8>) -> Result<Refused> {
        if rows.num_rows() > 0 {
            self.writer.write(rows).map_err(|e| failed("Arrow IPC", e))?;
        }
        self.sink.drain_into(out);
        Ok(Refused::new())
    }

    fn finish(&mut self, out: &mut Vec<u8>) -> Result<()> {
        self.writer.finish().map_err(|e| failed("Arrow IPC", e))?;
        self.sink.drain_into(out);
        Ok(())
    }

    fn buffered(&self) -> usize {
        0
    }
}

struct AvroEncoder {
    writer: AvroWriter<Shared>,
    /// The rows' schema in types that Avro's writer knows.
    schema: SchemaRef,
    sink: Shared,
}

/// Avro has no views: text goes out as plain strings.
fn avro_type(kind: &DataType) -> DataType {
    let field = |f: &FieldRef| Arc::new(f.as_ref().clone().with_data_type(avro_type(f.data_type())));
    match kind {
        DataType::Utf8View => DataType::Utf8,
        DataType::BinaryView => DataType::Binary,
        DataType::List(f) => DataType::List(field(f)),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(field).collect::<Fields>()),
        other => other.clone(),
    }
}

impl AvroEncoder {
    fn new(schema: &SchemaRef, codec: Codec) -> Result<Self> {
        let codec = match codec {
            Codec::Zstd => Some(CompressionCodec::ZStandard),
            Codec::Snappy => Some(CompressionCodec::Snappy),
            _ => None,
        };
        let fields = schema.fields().iter();
        let fields: Vec<Field> =
            fields.map(|f| f.as_ref().clone().with_data_type(avro_type(f.data_type()))).collect();
        let schema = Arc::new(Schema::new(fields));
        let sink = Shared::default();
        let writer = arrow_avro::writer::WriterBuilder::new(schema.as_ref().clone())
            .with_compression(codec)
            .build::<_, AvroOcfFormat>(sink.clone())
            .map_err(|e| unfit("Avro", e))?;
        Ok(Self { writer, schema, sink })
    }
}

impl Encoder for AvroEncoder {
    fn encode(&mut self, rows: &RecordBatch, out: &mut Vec<u8>) -> Result<Refused> {
        if rows.num_rows() > 0 {
            let columns = rows.columns().iter().zip(self.schema.fields());
            let columns = columns.map(|(column, field)| arrow::compute::cast(column, field.data_type()));
            let columns = columns.collect::<Result<Vec<_>, _>>().map_err(|e| failed("Avro", e))?;
            let rows = RecordBatch::try_new(self.schema.clone(), columns).map_err(|e| failed("Avro", e))?;
            self.writer.write(&rows).map_err(|e| failed("Avro", e))?;
        }
        self.sink.drain_into(out);
        Ok(Refused::new())
    }

    fn finish(&mut self, out: &mut Vec<u8>) -> Result<()> {
        self.writer.finish().map_err(|e| failed("Avro", e))?;
        self.sink.drain_into(out);
        Ok(())
    }

    fn buffered(&self) -> usize {
        0
    }
}
