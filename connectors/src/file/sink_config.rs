//! Settings of the file sink.

use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use conveyor_model::connector::{FieldKind, FieldSpec};
use conveyor_model::plan::Mode;
use conveyor_model::{Error, Result};
use serde::Deserialize;

use super::config::{Format, by_name, field, is_tsv, one_byte};
use super::decompress::Compression;
use super::store::StoreOptions;
use crate::format::{CsvOptions, TextFormat};

/// Compression of what a sink writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Codec {
    /// None.
    None,
    /// gzip, text only.
    Gzip,
    /// zstd.
    Zstd,
    /// Snappy, Parquet and Avro only.
    Snappy,
    /// LZ4, IPC only.
    Lz4,
}

/// What happens to a file that is there before the first run of a sink that makes one file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Existing {
    /// The pipeline does not start.
    #[default]
    Error,
    /// Rows are added behind its own.
    Append,
    /// It is replaced when the job finishes.
    Replace,
}

/// Settings as written.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SinkConfig {
    pub(crate) path: String,
    format: Option<Format>,
    compression: Option<Codec>,
    #[serde(default = "default_roll_size")]
    pub(crate) roll_size: u64,
    /// Milliseconds.
    pub(crate) roll_time: Option<u64>,
    #[serde(default)]
    pub(crate) partition_by: Vec<String>,
    #[serde(default = "default_row_group")]
    pub(crate) max_row_group_rows: usize,
    #[serde(default = "default_row_group_bytes")]
    pub(crate) max_row_group_bytes: u64,
    #[serde(default)]
    null_value: String,
    header: Option<bool>,
    delimiter: Option<String>,
    quote: Option<String>,
    pub(crate) bytes_per_second: Option<u64>,
    #[serde(default)]
    pub(crate) existing: Existing,
    /// Where the files go.
    #[serde(flatten)]
    pub(crate) store: StoreOptions,
}

fn default_roll_size() -> u64 {
    128 << 20
}

fn default_row_group() -> usize {
    1 << 20
}

fn default_row_group_bytes() -> u64 {
    16 << 20
}

/// How rows become bytes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Encoding {
    /// Lines of text, compressed as a whole.
    Text(TextFormat, Compression),
    /// Parquet with a codec inside.
    Parquet(Codec),
    /// Arrow IPC file with a codec inside.
    Ipc(Codec),
    /// Avro object container file with a codec inside.
    Avro(Codec),
}

/// Settings put together and checked.
#[derive(Debug, Clone)]
pub(crate) struct SinkPlan {
    /// As written.
    pub(crate) config: SinkConfig,
    /// How rows become bytes.
    pub(crate) encoding: Encoding,
    /// Folder to write to: path or URL.
    pub(crate) folder: String,
    /// The one file to make in it, in single-file mode.
    pub(crate) single: Option<String>,
    /// Extension of published files.
    pub(crate) extension: String,
    /// Columns in the files.
    pub(crate) file_schema: SchemaRef,
    /// Indices of the columns in the files.
    pub(crate) file_columns: Vec<usize>,
    /// Indices of the columns in folder names.
    pub(crate) partition_columns: Vec<usize>,
}

impl SinkPlan {
    /// Checks the settings against the rows' schema and the mode.
    ///
    /// # Errors
    /// `BadInput` with what to do.
    pub(crate) fn new(config: &serde_json::Value, schema: &SchemaRef, mode: Mode) -> Result<Self> {
        let config: SinkConfig = crate::settings::parse("file", config)?;
        if config.path.is_empty() {
            return Err(Error::bad_input("path-missing", "`path` does not say where to write"));
        }
        super::store::no_secret(&config.path)?;
        let (named, named_compression) = by_name(&config.path);
        let single = named.is_some() && !config.path.ends_with('/');
        let format = config.format.or(named).unwrap_or(Format::Ndjson);
        let encoding = encoding(&config, format, named_compression)?;
        let (folder, single) = match single {
            true => one_file(&config, mode)?,
            false => (config.path.clone(), None),
        };
        let (file_columns, partition_columns) = columns(&config, schema)?;
        let fields: Vec<_> = file_columns.iter().map(|&i| schema.fields()[i].clone()).collect();
        let suffix = match &encoding {
            Encoding::Text(_, Compression::Gzip) => ".gz",
            Encoding::Text(_, Compression::Zstd) => ".zst",
            _ => "",
        };
        let plan = Self {
            extension: format!("{}{suffix}", format.extension()),
            encoding,
            folder,
            single,
            file_schema: Arc::new(Schema::new(fields)),
            file_columns,
            partition_columns,
            config,
        };
        super::encode::encoder(&plan, true)?;
        Ok(plan)
    }
}

fn encoding(config: &SinkConfig, format: Format, named: Compression) -> Result<Encoding> {
    let not_possible = |allowed: &str| {
        Error::bad_input(
            "compression-not-possible",
            format!("{} files take only {allowed}", format.extension()),
        )
        .help("change `compression` or `format`")
    };
    let codec = config.compression;
    if format.is_text() {
        let compression = match codec {
            None => named,
            Some(Codec::None) => Compression::None,
            Some(Codec::Gzip) => Compression::Gzip,
            Some(Codec::Zstd) => Compression::Zstd,
            Some(_) => return Err(not_possible("none, gzip and zstd")),
        };
        let text = match format {
            Format::Csv => TextFormat::Csv(csv(config)?),
            Format::Lines => TextFormat::Lines,
            _ => TextFormat::Ndjson,
        };
        return Ok(Encoding::Text(text, compression));
    }
    match (format, codec.unwrap_or(if format == Format::Ipc { Codec::None } else { Codec::Zstd })) {
        (Format::Parquet, codec @ (Codec::Zstd | Codec::Snappy | Codec::None)) => {
            Ok(Encoding::Parquet(codec))
        }
        (Format::Parquet, _) => Err(not_possible("zstd, snappy and none")),
        (Format::Ipc, codec @ (Codec::Zstd | Codec::Lz4 | Codec::None)) => Ok(Encoding::Ipc(codec)),
        (Format::Ipc, _) => Err(not_possible("none, lz4 and zstd")),
        (_, codec @ (Codec::Zstd | Codec::Snappy | Codec::None)) => Ok(Encoding::Avro(codec)),
        _ => Err(not_possible("zstd, snappy and none")),
    }
}

fn csv(config: &SinkConfig) -> Result<CsvOptions> {
    let mut csv = CsvOptions { null_text: config.null_value.clone(), ..CsvOptions::default() };
    if let Some(header) = config.header {
        csv.header = header;
    }
    if is_tsv(&config.path) {
        csv.delimiter = b'\t';
    }
    if let Some(delimiter) = &config.delimiter {
        csv.delimiter = one_byte("delimiter", delimiter)?;
    }
    if let Some(quote) = &config.quote {
        csv.quote = Some(one_byte("quote", quote)?);
    }
    Ok(csv)
}

fn one_file(config: &SinkConfig, mode: Mode) -> Result<(String, Option<String>)> {
    let (folder, name) = config.path.rsplit_once('/').unwrap_or((".", &config.path));
    let refuse = |code, why: &str| {
        Err(Error::bad_input(code, format!("`{}` names one file, but {why}", config.path)).help(format!(
            "name a folder: `path: {}/`",
            config.path.rsplit_once('.').map_or("out", |(stem, _)| stem)
        )))
    };
    if mode == Mode::Streaming {
        return refuse("single-file-streaming", "a streaming pipeline never finishes a file");
    }
    if !config.partition_by.is_empty() {
        return refuse("single-file-partitions", "`partitionBy` makes many");
    }
    let folder = if folder.is_empty() { "/" } else { folder };
    Ok((folder.to_owned(), Some(name.to_owned())))
}

fn columns(config: &SinkConfig, schema: &SchemaRef) -> Result<(Vec<usize>, Vec<usize>)> {
    let mut partition = Vec::new();
    for name in &config.partition_by {
        let index = schema.index_of(name).map_err(|_| {
            Error::bad_input("column-unknown", format!("`partitionBy` names the unknown column `{name}`"))
        })?;
        if schema.field(index).data_type().is_nested() {
            return Err(Error::bad_input(
                "partition-nested",
                format!("`partitionBy` cannot use the column `{name}`: it is not a single value"),
            ));
        }
        if partition.contains(&index) {
            return Err(Error::bad_input("partition-twice", format!("`partitionBy` names `{name}` twice")));
        }
        partition.push(index);
    }
    let file: Vec<usize> = (0..schema.fields().len()).filter(|i| !partition.contains(i)).collect();
    if file.is_empty() {
        return Err(Error::bad_input("no-columns", "no column is left to write into the files")
            .help("leave a column out of `partitionBy`"));
    }
    Ok((file, partition))
}

/// Settings for `schema` and the checks of the planner.
pub(crate) fn fields() -> Vec<FieldSpec> {
    let codecs = &["none", "gzip", "zstd", "snappy", "lz4"];
    let mut fields = vec![
        FieldSpec {
            required: true,
            ..field(
                "path",
                FieldKind::Path,
                None,
                "Folder or URL prefix; a file's name (out/x.parquet) makes one file, in job mode.",
            )
        },
        field(
            "format",
            FieldKind::OneOf(Format::WORDS),
            Some("ndjson"),
            "Format; by default told by the path's extension.",
        ),
        field(
            "compression",
            FieldKind::OneOf(codecs),
            None,
            "Text: none gzip zstd; Parquet and Avro: zstd (default) snappy none; IPC: none lz4 zstd.",
        ),
        field("rollSize", FieldKind::Size, Some("128MiB"), "A file that has grown to this size is closed."),
        field(
            "rollTime",
            FieldKind::Duration,
            None,
            "A file that has been open this long is closed; every checkpoint closes all files.",
        ),
        field(
            "partitionBy",
            FieldKind::List(&FieldKind::Text),
            None,
            "Columns that become folders, column=value.",
        ),
        field(
            "maxRowGroupRows",
            FieldKind::Integer { min: 1, max: 1 << 40 },
            Some("1048576"),
            "Most rows in a Parquet row group.",
        ),
        field(
            "maxRowGroupBytes",
            FieldKind::Size,
            Some("16MiB"),
            "Memory at which a Parquet row group is closed; every subtask and every open partition holds one.",
        ),
        field("nullValue", FieldKind::Text, Some("\"\""), "What stands for null in CSV."),
        field(
            "header",
            FieldKind::Bool,
            Some("true"),
            "Whether the first line of a CSV file names the columns.",
        ),
        field("delimiter", FieldKind::Text, Some(","), "Character between CSV fields."),
        field("quote", FieldKind::Text, Some("\""), "Character around CSV fields that need it."),
        field(
            "existing",
            FieldKind::OneOf(&["error", "append", "replace"]),
            Some("error"),
            "What to do with a file that another run has left where this sink is to make one file.",
        ),
        field("bytesPerSecond", FieldKind::Size, None, "Limit on what each subtask writes."),
    ];
    fields.extend(super::config::store_fields());
    fields
}
