//! The file source as a connector: its settings, and the schema of the files that they name.

use std::sync::{Arc, LazyLock};

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use conveyor_model::connector::ConnectorSpec;
use conveyor_model::plan::Mode;
use conveyor_model::secret::Secrets;
use conveyor_model::source::{DiscoverRequest, Discovered, Pushdown, Source, SourceConnector, SourceContext};
use conveyor_model::{Error, Result};

use super::config::{FileFormat, SourceConfig, format_fields, read_fields, store_fields};
use super::decompress::{Compression, decompress};
use super::listing::{self, SourceFile};
use super::source::FileSource;
use super::store::locate;
use super::{avro, chunks, columnar, ipc, parquet};
use crate::secret::EnvSecrets;

/// Bytes of the first file that text inference looks at.
const SAMPLE: u64 = 2 << 20;

static SPEC: LazyLock<ConnectorSpec> = LazyLock::new(|| {
    let fields = [format_fields(), read_fields(), store_fields()];
    ConnectorSpec {
        name: "file",
        doc: "Files: CSV, NDJSON, Parquet, Arrow IPC, Avro and plain lines, local or in an object store.",
        fields: fields.into_iter().flatten().collect::<Vec<_>>().leak(),
    }
});

/// Reads files.
pub struct FileSourceConnector {
    secrets: Arc<dyn Secrets>,
}

impl Default for FileSourceConnector {
    fn default() -> Self {
        Self { secrets: Arc::new(EnvSecrets) }
    }
}

#[async_trait]
impl SourceConnector for FileSourceConnector {
    fn spec(&self) -> &'static ConnectorSpec {
        &SPEC
    }

    async fn discover(&self, request: &DiscoverRequest) -> Result<Discovered> {
        let config: SourceConfig = crate::settings::parse("file", &request.config)?;
        let found = discover(&config, &*self.secrets, &request.declared, request.mode).await;
        found.map_err(|e| e.at(&request.name))
    }

    async fn open(&self, context: SourceContext) -> Result<Box<dyn Source>> {
        let name = context.name.clone();
        match FileSource::open(context, &*self.secrets).await {
            Ok(source) => Ok(Box::new(source)),
            Err(e) => Err(e.at(name)),
        }
    }
}

/// All files that the settings name, each once.
///
/// # Errors
/// As [`listing::list`].
pub(crate) async fn files(config: &SourceConfig, secrets: &dyn Secrets) -> Result<Vec<Arc<SourceFile>>> {
    let mut files: Vec<SourceFile> = Vec::new();
    for pattern in config.patterns()? {
        files.extend(listing::list(&locate(&pattern, &config.store, secrets)?).await?);
    }
    files.sort_by(|a, b| a.url.cmp(&b.url));
    files.dedup_by(|a, b| a.url == b.url);
    Ok(files.into_iter().map(Arc::new).collect())
}

async fn discover(
    config: &SourceConfig,
    secrets: &dyn Secrets,
    declared: &[arrow::datatypes::FieldRef],
    mode: Mode,
) -> Result<Discovered> {
    let files = match files(config, secrets).await {
        Err(e) if e.code() == "file-not-found" && mode == Mode::Streaming => Vec::new(),
        other => other?,
    };
    let Some(first) = files.iter().find(|f| f.size > 0).or(files.first()) else {
        return nothing_yet(config, declared, mode);
    };
    let (schema, mut notes) = schema_of(first, config, declared).await?;
    notes.insert(
        0,
        match files.len() {
            1 => format!("1 file, {} bytes", first.size),
            n => format!(
                "{n} files, {} bytes; schema of {}",
                files.iter().map(|f| f.size).sum::<u64>(),
                first.url
            ),
        },
    );
    Ok(Discovered { schema, projection: true, predicate: Pushdown::Exact, notes })
}

fn nothing_yet(
    config: &SourceConfig,
    declared: &[arrow::datatypes::FieldRef],
    mode: Mode,
) -> Result<Discovered> {
    let patterns = config.patterns()?.join(", ");
    if mode == Mode::Streaming && !declared.is_empty() {
        let schema = Arc::new(arrow::datatypes::Schema::new(declared.to_vec()));
        let notes = vec![format!("no file matches {patterns} yet; the declared columns are all columns")];
        return Ok(Discovered { schema, projection: true, predicate: Pushdown::Exact, notes });
    }
    Err(Error::bad_input("no-files", format!("no file matches {patterns}"))
        .help("check `path`; a streaming source may start without files if `schema` declares its columns"))
}

/// The schema of one file, declared types applied.
///
/// # Errors
/// `BadInput` if the file is not of its format or the declared columns do not fit it.
pub(crate) async fn schema_of(
    file: &Arc<SourceFile>,
    config: &SourceConfig,
    declared: &[arrow::datatypes::FieldRef],
) -> Result<(SchemaRef, Vec<String>)> {
    let found = match config.format_of(&file.url)? {
        FileFormat::Text(format, compression) => {
            let (sample, complete) = sample(file, config, compression).await?;
            let inferred = format.infer(&sample, complete, declared).map_err(|e| e.in_split(&file.url))?;
            return Ok((inferred.schema, inferred.notes));
        }
        FileFormat::Parquet => parquet::schema(file).await?,
        FileFormat::Ipc => ipc::schema(file).await?,
        FileFormat::Avro => avro::schema(file, config.limits()).await?,
    };
    let schema = columnar::declare(&found, declared).map_err(|e| e.in_split(&file.url))?;
    Ok((schema, vec!["schema as the file says".to_owned()]))
}

async fn sample(
    file: &Arc<SourceFile>,
    config: &SourceConfig,
    compression: Compression,
) -> Result<(Vec<u8>, bool)> {
    if compression == Compression::None {
        let bytes = chunks::get(file, 0..file.size.min(SAMPLE), true).await?;
        return Ok((bytes.to_vec(), file.size <= SAMPLE));
    }
    let mut stream = decompress(file, compression, config.limits());
    let mut sample = Vec::new();
    while let Some(piece) = stream.next().await {
        match piece {
            Ok(piece) => sample.extend_from_slice(&piece),
            // What came before the damage is a sample too; reading the file will tell of the damage.
            Err(_) if !sample.is_empty() => return Ok((sample, false)),
            Err(e) => return Err(e),
        }
        if sample.len() as u64 >= SAMPLE {
            return Ok((sample, false));
        }
    }
    Ok((sample, true))
}
