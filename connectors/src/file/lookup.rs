//! Files as lookup tables: the same readers as the source's, and no tolerance for rows that do not parse.

use std::sync::{Arc, LazyLock};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use conveyor_model::connector::ConnectorSpec;
use conveyor_model::lookup::{LookupConnector, LookupRequest};
use conveyor_model::predicate::Predicate;
use conveyor_model::secret::Secrets;
use conveyor_model::{Error, Result};

use super::config::{SourceConfig, format_fields, store_fields};
use super::connector::{files, schema_of};
use super::listing::SourceFile;
use super::reader::{self, Next, Wanted};
use super::source::project;
use super::split::Split;
use crate::secret::EnvSecrets;

/// Rows of one batch of a table.
const BATCH_ROWS: usize = 8192;

static SPEC: LazyLock<ConnectorSpec> = LazyLock::new(|| ConnectorSpec {
    name: "file",
    doc: "A table in files: CSV, NDJSON, Parquet, Arrow IPC or Avro, local or in an object store.",
    fields: [format_fields(), store_fields()].into_iter().flatten().collect::<Vec<_>>().leak(),
});

/// Loads tables from files.
pub struct FileLookup {
    secrets: Arc<dyn Secrets>,
}

impl Default for FileLookup {
    fn default() -> Self {
        Self { secrets: Arc::new(EnvSecrets) }
    }
}

impl FileLookup {
    async fn table(
        &self,
        request: &LookupRequest,
    ) -> Result<(SourceConfig, Vec<Arc<SourceFile>>, SchemaRef)> {
        let config: SourceConfig = crate::settings::parse("file", &request.config)?;
        let files = files(&config, &*self.secrets).await?;
        let first = files.iter().find(|f| f.size > 0).or(files.first());
        let first = first.ok_or_else(|| {
            Error::bad_input("no-files", "no file matches the lookup's path").help("check `path`")
        })?;
        let (schema, _) = schema_of(first, &config, &request.declared).await?;
        Ok((config, files, schema))
    }

    async fn read(&self, request: &LookupRequest) -> Result<Vec<RecordBatch>> {
        let (config, files, full_schema) = self.table(request).await?;
        let projection = match request.projection.is_empty() {
            true => full_schema.fields().iter().map(|f| f.name().clone()).collect(),
            false => request.projection.clone(),
        };
        let schema = project(&full_schema, &projection)?;
        let wanted = Arc::new(Wanted {
            full_schema,
            projection,
            schema,
            predicate: Predicate::default(),
            batch_rows: BATCH_ROWS,
            grows: false,
        });
        let mut table = Vec::new();
        for file in &files {
            let mut reader = reader::open(&Split::whole(file), &config, &wanted, None).await?;
            while let Next::Rows(piece) = reader.next().await? {
                if let Some(bad) = piece.rejected.first() {
                    return Err(bad_row(&file.url, bad));
                }
                if piece.rows.num_rows() > 0 {
                    table.push(piece.rows);
                }
            }
        }
        Ok(table)
    }
}

fn bad_row(url: &str, bad: &reader::BadRecord) -> Error {
    let column = bad.error.column.as_ref().map_or_else(String::new, |c| format!(", column `{c}`"));
    Error::bad_input("lookup-row", "a row of the lookup table cannot be read")
        .because(format!("{} [{}]{column}", bad.error.message, bad.error.code))
        .in_split(url)
        .at_position(bad.at)
        .help("correct the row, or declare another type for its column: a table with holes would enrich wrongly")
}

#[async_trait]
impl LookupConnector for FileLookup {
    fn spec(&self) -> &'static ConnectorSpec {
        &SPEC
    }

    async fn discover(&self, request: &LookupRequest) -> Result<SchemaRef> {
        let table = self.table(request).await;
        table.map(|(_, _, schema)| schema).map_err(|e| e.at(&request.name))
    }

    async fn load(&self, request: &LookupRequest) -> Result<Vec<RecordBatch>> {
        self.read(request).await.map_err(|e| e.at(&request.name))
    }
}
