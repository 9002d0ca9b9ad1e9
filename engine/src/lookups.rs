//! Lookup tables: loaded before a pipeline starts, refreshed in the background, read without waiting.
//!
//! A step asks once for an *index* over a table: a value that it builds itself from the table's rows (a hash map, say).
//! On a refresh every index is built anew off the hot path; then all of them change at once, and a step sees the new
//! version at its next batch. A refresh that fails keeps the old table.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use conveyor_model::connector::Registry;
use conveyor_model::lookup::{LookupConnector, LookupRequest};
use conveyor_model::plan::LookupPlan;
use conveyor_model::{Error, Result};
use parking_lot::{Mutex, RwLock};
use tokio_util::sync::CancellationToken;

/// One version of a table with what a step made of it.
#[derive(Debug)]
pub struct Indexed<I> {
    /// Grows with every refresh, from 1.
    pub version: u64,
    /// The whole table in one batch: the columns that are used.
    pub rows: RecordBatch,
    /// What the step built from `rows`.
    pub index: I,
}

/// Gives the newest version of an index.
#[derive(Debug)]
pub struct IndexHandle<I>(Arc<RwLock<Arc<Indexed<I>>>>);

impl<I> Clone for IndexHandle<I> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<I> IndexHandle<I> {
    /// The newest version; ask once a batch.
    pub fn current(&self) -> Arc<Indexed<I>> {
        self.0.read().clone()
    }
}

/// Builds an index of the next version and gives back the change to it, so that all indexes of a table change together.
trait Rebuild: Send + Sync {
    fn rebuild(&self, version: u64, rows: &RecordBatch) -> Result<Box<dyn FnOnce() + Send>>;
    fn as_any(&self) -> &dyn Any;
}

/// Makes an index of a table's rows.
type Build<I> = Box<dyn Fn(&RecordBatch) -> Result<I> + Send + Sync>;

struct Slot<I> {
    current: Arc<RwLock<Arc<Indexed<I>>>>,
    build: Build<I>,
}

impl<I: Send + Sync + 'static> Rebuild for Slot<I> {
    fn rebuild(&self, version: u64, rows: &RecordBatch) -> Result<Box<dyn FnOnce() + Send>> {
        let index = (self.build)(rows)?;
        let next = Arc::new(Indexed { version, rows: rows.clone(), index });
        let current = self.current.clone();
        Ok(Box::new(move || *current.write() = next))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

struct Table {
    state: Mutex<TableState>,
}

struct TableState {
    version: u64,
    rows: RecordBatch,
    indexes: BTreeMap<String, Arc<dyn Rebuild>>,
}

impl Table {
    fn new(rows: RecordBatch) -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(TableState { version: 1, rows, indexes: BTreeMap::new() }) })
    }

    /// Replaces the rows once every index over them is built. Blocks for as long as that takes.
    fn replace(&self, rows: RecordBatch) -> Result<u64> {
        let (version, indexes) = {
            let state = self.state.lock();
            (state.version + 1, state.indexes.values().cloned().collect::<Vec<_>>())
        };
        let changes = indexes.iter().map(|i| i.rebuild(version, &rows)).collect::<Result<Vec<_>>>()?;
        let mut state = self.state.lock();
        changes.into_iter().for_each(|change| change());
        state.version = version;
        state.rows = rows;
        Ok(version)
    }
}

/// All tables of a plan.
#[derive(Clone, Default)]
pub struct LookupTables {
    tables: BTreeMap<String, Arc<Table>>,
}

impl LookupTables {
    /// Tables that are in memory already and never refreshed.
    pub fn from_batches(tables: impl IntoIterator<Item = (String, RecordBatch)>) -> Self {
        Self { tables: tables.into_iter().map(|(name, rows)| (name, Table::new(rows))).collect() }
    }

    /// Loads tables.
    ///
    /// # Errors
    /// What the connector reports, with the table's name.
    pub async fn load(lookups: &BTreeMap<String, LookupPlan>, registry: &Registry) -> Result<Self> {
        let mut tables = BTreeMap::new();
        for (name, lookup) in lookups {
            let rows = load_table(registry, name, lookup).await?;
            tables.insert(name.clone(), Table::new(rows));
        }
        Ok(Self { tables })
    }

    /// Whether the table is here.
    pub fn has(&self, table: &str) -> bool {
        self.tables.contains_key(table)
    }

    /// The rows of a table as they are now.
    ///
    /// # Errors
    /// If the plan has no such table.
    pub fn rows(&self, table: &str) -> Result<RecordBatch> {
        Ok(self.table(table)?.state.lock().rows.clone())
    }

    /// An index over a table. Subtasks that ask with the same `key` (what the index is over, in words) and the same
    /// type share one.
    ///
    /// # Errors
    /// If the plan has no such table, or `build` fails on its rows.
    pub fn index<I: Send + Sync + 'static>(
        &self,
        table: &str,
        key: impl Into<String>,
        build: impl Fn(&RecordBatch) -> Result<I> + Send + Sync + 'static,
    ) -> Result<IndexHandle<I>> {
        let mut state = self.table(table)?.state.lock();
        let key = key.into();
        if let Some(slot) = state.indexes.get(&key).and_then(|s| s.as_any().downcast_ref::<Slot<I>>()) {
            return Ok(IndexHandle(slot.current.clone()));
        }
        let index = build(&state.rows).map_err(|e| e.at(format!("lookup {table}")))?;
        let first = Indexed { version: state.version, rows: state.rows.clone(), index };
        let current = Arc::new(RwLock::new(Arc::new(first)));
        state.indexes.insert(key, Arc::new(Slot { current: current.clone(), build: Box::new(build) }));
        Ok(IndexHandle(current))
    }

    /// Puts new rows in a table's place: what a refresh does.
    ///
    /// # Errors
    /// If the plan has no such table or an index cannot be built; the old rows stay then.
    pub fn replace(&self, table: &str, rows: RecordBatch) -> Result<u64> {
        self.table(table)?.replace(rows)
    }

    /// Refreshes one table at its interval until `stop`. A failing refresh keeps the old rows and is logged.
    pub(crate) async fn keep_fresh(
        self,
        name: String,
        lookup: LookupPlan,
        every: Duration,
        registry: Registry,
        stop: CancellationToken,
    ) {
        loop {
            let due = tokio::time::sleep(every);
            if stop.run_until_cancelled(due).await.is_none() {
                return;
            }
            let refreshed = match load_table(&registry, &name, &lookup).await {
                Ok(rows) => self.replace_off_thread(&name, rows).await,
                Err(error) => Err(error),
            };
            match refreshed {
                Ok(version) => tracing::debug!(lookup = %name, version, "lookup table refreshed"),
                Err(error) => {
                    tracing::warn!(lookup = %name, %error, "lookup refresh failed; the old table stays")
                }
            }
        }
    }

    async fn replace_off_thread(&self, name: &str, rows: RecordBatch) -> Result<u64> {
        let table = self.table(name)?.clone();
        tokio::task::spawn_blocking(move || table.replace(rows)).await.map_err(|e| {
            Error::runtime("lookup-refresh", "building the index of a refreshed table failed").because(e)
        })?
    }

    fn table(&self, name: &str) -> Result<&Arc<Table>> {
        self.tables.get(name).ok_or_else(|| {
            Error::bad_input("lookup-missing", format!("the plan has no lookup table {name}"))
                .help("name a Lookup object of the manifest")
        })
    }
}

async fn load_table(registry: &Registry, name: &str, lookup: &LookupPlan) -> Result<RecordBatch> {
    let connector: &Arc<dyn LookupConnector> =
        registry.lookups.get(lookup.connector.as_str()).ok_or_else(|| {
            Error::bad_input(
                "connector-missing",
                format!("there is no lookup connector {}", lookup.connector),
            )
            .at(format!("lookup {name}"))
        })?;
    let request = LookupRequest {
        name: name.into(),
        config: lookup.config.clone(),
        declared: lookup.declared.clone(),
        projection: lookup.projection.clone(),
    };
    let place = |e: Error| e.at(format!("lookup {name}"));
    let batches = connector.load(&request).await.map_err(place)?;
    let schema = match batches.first() {
        Some(first) => first.schema(),
        None => projected(lookup)?,
    };
    concat_batches(&schema, &batches).map_err(|e| {
        place(Error::runtime("lookup-schema", "the parts of the table differ in their columns").because(e))
    })
}

fn projected(lookup: &LookupPlan) -> Result<arrow::datatypes::SchemaRef> {
    if lookup.projection.is_empty() {
        return Ok(lookup.schema.clone());
    }
    let indices = lookup.projection.iter().map(|c| lookup.schema.index_of(c)).collect::<Result<Vec<_>, _>>();
    indices.and_then(|i| lookup.schema.project(&i)).map(Arc::new).map_err(|e| {
        Error::bad_input("lookup-column-missing", "the table lacks a column that is used").because(e)
    })
}

#[cfg(test)]
mod tests {
    use arrow::array::{AsArray, Int64Array};
    use arrow::datatypes::{DataType, Field, Int64Type, Schema};

    use super::*;

    fn rows(ids: Vec<i64>) -> RecordBatch {
        let schema = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, false)]));
        RecordBatch::try_new(schema, vec![Arc::new(Int64Array::from(ids))]).unwrap()
    }

    fn sum(rows: &RecordBatch) -> Result<i64> {
        let ids = rows.column(0).as_primitive::<Int64Type>();
        if ids.values().contains(&-1) {
            return Err(Error::bad_input("bad-row", "minus one"));
        }
        Ok(ids.values().iter().sum())
    }

    #[test]
    fn an_index_follows_its_table_and_survives_a_bad_refresh() {
        let tables = LookupTables::from_batches([("t".to_owned(), rows(vec![1, 2]))]);
        let index = tables.index("t", "sum", sum).unwrap();
        let shared = tables.index("t", "sum", sum).unwrap();
        assert_eq!((index.current().version, index.current().index), (1, 3));
        assert_eq!(tables.replace("t", rows(vec![5])).unwrap(), 2);
        assert_eq!((shared.current().version, shared.current().index), (2, 5));
        assert_eq!(tables.replace("t", rows(vec![-1])).unwrap_err().code(), "bad-row");
        assert_eq!((index.current().version, index.current().index), (2, 5));
        assert_eq!(tables.rows("t").unwrap().num_rows(), 1);
    }

    /// A table that has one more row at every load, and breaks at the third.
    #[derive(Default)]
    struct Growing(std::sync::atomic::AtomicI64);

    #[async_trait::async_trait]
    impl LookupConnector for Growing {
        fn spec(&self) -> &'static conveyor_model::connector::ConnectorSpec {
            &conveyor_model::connector::ConnectorSpec { name: "growing", doc: "For tests.", fields: &[] }
        }

        async fn discover(&self, _request: &LookupRequest) -> Result<arrow::datatypes::SchemaRef> {
            Ok(rows(Vec::new()).schema())
        }

        async fn load(&self, _request: &LookupRequest) -> Result<Vec<RecordBatch>> {
            match self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
                2 => Err(Error::bad_input("broken", "the table is broken")),
                n => Ok(vec![rows((0..=n).collect()), rows(Vec::new())]),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_table_is_refreshed_in_the_background_and_a_failure_keeps_it() {
        let mut registry = Registry::default();
        registry.lookups.insert("growing", Arc::new(Growing::default()));
        let lookup = LookupPlan {
            connector: "growing".into(),
            config: serde_json::Value::Null,
            declared: Vec::new(),
            projection: Vec::new(),
            schema: rows(Vec::new()).schema(),
            refresh_ms: Some(1000),
        };
        let mut plan = crate::testing::plans::plan(conveyor_model::plan::Mode::Job).0;
        plan.lookups.insert("t".into(), lookup.clone());
        let tables = LookupTables::load(&plan.lookups, &registry).await.unwrap();
        let index = tables.index("t", "sum", sum).unwrap();
        assert_eq!(index.current().index, 0);
        let stop = CancellationToken::new();
        let every = Duration::from_secs(1);
        let fresh = tables.clone().keep_fresh("t".into(), lookup, every, registry, stop.clone());
        let refreshing = tokio::spawn(fresh);
        while index.current().version < 3 {
            tokio::time::sleep(every).await;
        }
        assert_eq!(index.current().index, 1 + 2 + 3, "the load that failed left the second version in place");
        stop.cancel();
        refreshing.await.unwrap();
    }

    #[test]
    fn an_unknown_table_is_named() {
        let error = LookupTables::default().index("t", "sum", sum).unwrap_err();
        assert_eq!(error.code(), "lookup-missing");
    }
}
