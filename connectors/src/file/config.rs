//! Settings of the file source and lookup, and what the name of a file tells about its format.

use conveyor_model::connector::{FieldKind, FieldSpec};
use conveyor_model::{Error, Result};
use serde::Deserialize;

use super::decompress::{Compression, Limits};
use super::store::StoreOptions;
use crate::format::{CsvOptions, TextFormat};
use crate::settings::OneOrMany;

/// A file's format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Format {
    /// Separated values.
    Csv,
    /// One JSON object a line.
    Ndjson,
    /// One text column.
    Lines,
    /// Apache Parquet.
    Parquet,
    /// Arrow IPC file.
    Ipc,
    /// Avro object container file.
    Avro,
}

impl Format {
    /// Words for `format` in a manifest.
    pub(crate) const WORDS: &'static [&'static str] = &["csv", "ndjson", "lines", "parquet", "ipc", "avro"];

    /// Whether it is read and written as lines of text.
    pub(crate) fn is_text(self) -> bool {
        matches!(self, Format::Csv | Format::Ndjson | Format::Lines)
    }

    /// Extension of files that a sink writes.
    pub(crate) fn extension(self) -> &'static str {
        match self {
            Format::Csv => "csv",
            Format::Ndjson => "ndjson",
            Format::Lines => "txt",
            Format::Parquet => "parquet",
            Format::Ipc => "arrow",
            Format::Avro => "avro",
        }
    }
}

/// Format and compression by the extensions of a name: `x.csv.gz`.
pub(crate) fn by_name(name: &str) -> (Option<Format>, Compression) {
    let lower = name.to_ascii_lowercase();
    let (stem, compression) = match lower.rsplit_once('.') {
        Some((stem, "gz" | "gzip")) => (stem, Compression::Gzip),
        Some((stem, "zst" | "zstd")) => (stem, Compression::Zstd),
        _ => (lower.as_str(), Compression::None),
    };
    let format = match stem.rsplit_once('.').map(|(_, extension)| extension) {
        Some("csv" | "tsv") => Some(Format::Csv),
        Some("ndjson" | "jsonl" | "json") => Some(Format::Ndjson),
        Some("txt" | "log") => Some(Format::Lines),
        Some("parquet" | "pq") => Some(Format::Parquet),
        Some("arrow" | "ipc" | "feather") => Some(Format::Ipc),
        Some("avro") => Some(Format::Avro),
        _ => None,
    };
    (format, compression)
}

/// Whether a name says tab-separated values.
pub(crate) fn is_tsv(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    lower.ends_with(".tsv") || lower.ends_with(".tsv.gz") || lower.ends_with(".tsv.zst")
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum CompressionSetting {
    #[default]
    Auto,
    None,
    Gzip,
    Zstd,
}

/// Settings of the file source; the lookup takes a part of them.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SourceConfig {
    path: Option<OneOrMany>,
    paths: Option<OneOrMany>,
    format: Option<Format>,
    #[serde(default)]
    compression: CompressionSetting,
    #[serde(default)]
    null_values: Option<Vec<String>>,
    header: Option<bool>,
    delimiter: Option<String>,
    quote: Option<String>,
    #[serde(default)]
    multiline: bool,
    #[serde(default = "default_record_bytes")]
    pub(crate) max_record_bytes: u64,
    #[serde(default = "default_range_bytes")]
    pub(crate) range_bytes: u64,
    /// Milliseconds.
    #[serde(default = "default_poll")]
    pub(crate) poll_interval: u64,
    #[serde(default)]
    pub(crate) follow: bool,
    #[serde(default = "default_limit")]
    decompressed_limit: u64,
    #[serde(default = "default_ratio")]
    max_ratio: u64,
    /// Where the files lie.
    #[serde(flatten)]
    pub(crate) store: StoreOptions,
}

fn default_record_bytes() -> u64 {
    8 << 20
}

fn default_range_bytes() -> u64 {
    16 << 20
}

fn default_poll() -> u64 {
    1000
}

fn default_limit() -> u64 {
    1 << 40
}

fn default_ratio() -> u64 {
    500
}

/// What a file is, once its name and the settings are put together.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum FileFormat {
    /// Lines of text.
    Text(TextFormat, Compression),
    /// Parquet.
    Parquet,
    /// Arrow IPC file.
    Ipc,
    /// Avro object container file.
    Avro,
}

impl SourceConfig {
    /// The patterns to list.
    ///
    /// # Errors
    /// `BadInput` if there are none.
    pub(crate) fn patterns(&self) -> Result<Vec<String>> {
        let all: Vec<String> =
            self.path.iter().chain(self.paths.iter()).flat_map(|p| p.clone().into_vec()).collect();
        if all.iter().all(String::is_empty) {
            return Err(Error::bad_input("path-missing", "neither `path` nor `paths` names a file")
                .help("set `path: data/*.csv`"));
        }
        Ok(all)
    }

    /// Limits on decompression.
    pub(crate) fn limits(&self) -> Limits {
        Limits { bytes: self.decompressed_limit, ratio: self.max_ratio }
    }

    /// What the file of this name is.
    ///
    /// # Errors
    /// `BadInput` if neither the settings nor the name tell its format, or they cannot go together.
    pub(crate) fn format_of(&self, name: &str) -> Result<FileFormat> {
        let (by_name, named) = by_name(name);
        let format = self.format.or(by_name).ok_or_else(|| {
            Error::bad_input("format-unknown", "the file's name does not tell its format")
                .in_split(name)
                .help(format!("set `format` to one of {}", Format::WORDS.join(", ")))
        })?;
        let compression = match self.compression {
            CompressionSetting::Auto => named,
            CompressionSetting::None => Compression::None,
            CompressionSetting::Gzip => Compression::Gzip,
            CompressionSetting::Zstd => Compression::Zstd,
        };
        let text = match format {
            Format::Csv => TextFormat::Csv(self.csv(name)?),
            Format::Ndjson => TextFormat::Ndjson,
            Format::Lines => TextFormat::Lines,
            _ if compression != Compression::None => {
                return Err(Error::bad_input(
                    "compression-not-possible",
                    "files of columnar formats are compressed inside, not as a whole",
                )
                .in_split(name));
            }
            Format::Parquet => return Ok(FileFormat::Parquet),
            Format::Ipc => return Ok(FileFormat::Ipc),
            Format::Avro => return Ok(FileFormat::Avro),
        };
        Ok(FileFormat::Text(text, compression))
    }

    fn csv(&self, name: &str) -> Result<CsvOptions> {
        let mut csv = CsvOptions { multiline: self.multiline, ..CsvOptions::default() };
        if let Some(header) = self.header {
            csv.header = header;
        }
        if is_tsv(name) {
            csv.delimiter = b'\t';
        }
        if let Some(delimiter) = &self.delimiter {
            csv.delimiter = one_byte("delimiter", delimiter)?;
        }
        if let Some(quote) = &self.quote {
            csv.quote = if quote.is_empty() { None } else { Some(one_byte("quote", quote)?) };
        }
        if let Some(null_values) = &self.null_values {
            csv.null_values.clone_from(null_values);
        }
        Ok(csv)
    }
}

/// A setting that is one ASCII character.
///
/// # Errors
/// `BadInput` otherwise.
pub(crate) fn one_byte(setting: &str, text: &str) -> Result<u8> {
    match text.as_bytes() {
        b"\\t" => Ok(b'\t'),
        [byte] if byte.is_ascii() => Ok(*byte),
        _ => Err(Error::bad_input(
            "settings-invalid",
            format!("`{setting}` must be one ASCII character, not {text:?}"),
        )),
    }
}

/// A setting that may be absent.
pub(crate) fn field(
    name: &'static str,
    kind: FieldKind,
    default: Option<&'static str>,
    doc: &'static str,
) -> FieldSpec {
    FieldSpec { name, kind, required: false, default, doc }
}

/// Settings that say how a store is reached.
pub(crate) fn store_fields() -> Vec<FieldSpec> {
    vec![
        field(
            "endpoint",
            FieldKind::Text,
            None,
            "Endpoint of the object store, where it is not the provider's own.",
        ),
        field("region", FieldKind::Text, None, "Region of the bucket."),
        field("accessKeyId", FieldKind::Secret, None, "Key id (S3) or account (Azure)."),
        field(
            "secretAccessKey",
            FieldKind::Secret,
            None,
            "Secret key (S3, Azure) or service account JSON (GCS).",
        ),
        field("anonymous", FieldKind::Bool, Some("false"), "Sends requests without credentials."),
        field(
            "allowHttp",
            FieldKind::Bool,
            Some("false"),
            "Allows endpoints without encryption on other machines than this one.",
        ),
        field("caCert", FieldKind::Path, None, "PEM file of certificates to trust beside the system's."),
        field(
            "retryTimeout",
            FieldKind::Duration,
            Some("1m"),
            "How long a request is repeated while the server cannot be reached or answers 5xx.",
        ),
    ]
}

/// Settings that say what a file is.
pub(crate) fn format_fields() -> Vec<FieldSpec> {
    vec![
        field(
            "path",
            FieldKind::Path,
            None,
            "Local path or URL (file, s3, gs, az, https); `*`, `?`, `[..]` and `**` match; a folder means all files below.",
        ),
        field("paths", FieldKind::List(&FieldKind::Path), None, "Several paths, in addition to `path`."),
        field(
            "format",
            FieldKind::OneOf(Format::WORDS),
            None,
            "Format; by default told by the file's extension.",
        ),
        field(
            "compression",
            FieldKind::OneOf(&["auto", "none", "gzip", "zstd"]),
            Some("auto"),
            "Compression of text files; `auto` goes by .gz and .zst.",
        ),
        field("nullValues", FieldKind::List(&FieldKind::Text), None, "CSV fields that mean null."),
        field(
            "header",
            FieldKind::Bool,
            Some("true"),
            "Whether the first line of a CSV file names the columns.",
        ),
        field("delimiter", FieldKind::Text, Some(","), "Character between CSV fields; a tab for .tsv files."),
        field("quote", FieldKind::Text, Some("\""), "Character around CSV fields."),
        field(
            "multiline",
            FieldKind::Bool,
            Some("false"),
            "CSV fields may hold line ends; such a file is read in one piece.",
        ),
        field(
            "decompressedLimit",
            FieldKind::Size,
            Some("1TiB"),
            "Most bytes that may come out of one compressed file.",
        ),
        field(
            "maxRatio",
            FieldKind::Integer { min: 1, max: i64::MAX },
            Some("500"),
            "Most bytes that may come out for each compressed one, beyond the first 64 MiB.",
        ),
    ]
}

/// Settings that say how a file is read.
pub(crate) fn read_fields() -> Vec<FieldSpec> {
    vec![
        field(
            "maxRecordBytes",
            FieldKind::Size,
            Some("8MiB"),
            "Longest text record; a longer one is a dead letter with its first 64 KiB.",
        ),
        field(
            "rangeBytes",
            FieldKind::Size,
            Some("16MiB"),
            "Size of the pieces in which large files are read by several subtasks.",
        ),
        field(
            "pollInterval",
            FieldKind::Duration,
            Some("1s"),
            "Streaming: how often to look for new files or text.",
        ),
        field(
            "follow",
            FieldKind::Bool,
            Some("false"),
            "Streaming: files grow, and what is appended is read.",
        ),
    ]
}
