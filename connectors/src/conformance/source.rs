//! What every source must do: each row once, at any parallelism and batch size, from any position on.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::compute::filter_record_batch;
use arrow::datatypes::FieldRef;
use conveyor_model::plan::Mode;
use conveyor_model::predicate::Predicate;
use conveyor_model::source::{
    DiscoverRequest, Discovered, Pushdown, Read, Source, SourceConnector, SourceContext,
};
use conveyor_model::{PipelineId, Positions, RowRef};
use serde_json::Value;

use super::{TestClock, show};
use crate::predicate::evaluate;

/// Longest time that one read may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longest time until an idle source says so.
const IDLE: Duration = Duration::from_secs(2);
/// Boundaries between reads at which a restart is tried.
const RESTARTS: usize = 16;

/// A source with data that does not change while the suite runs.
#[derive(Clone)]
pub struct SourceCase {
    connector: Arc<dyn SourceConnector>,
    config: Value,
    declared: Vec<FieldRef>,
    rows: Option<usize>,
    rejected: usize,
    predicates: Vec<Predicate>,
    streaming: bool,
    lay_out: Option<LayOut>,
}

/// Puts what there is to read from these positions on where the source will find it.
type LayOut = Arc<dyn Fn(&Positions) + Send + Sync>;

impl SourceCase {
    /// A source with its settings.
    pub fn new(connector: Arc<dyn SourceConnector>, config: Value) -> Self {
        Self {
            connector,
            config,
            declared: Vec::new(),
            rows: None,
            rejected: 0,
            predicates: Vec::new(),
            streaming: true,
            lay_out: None,
        }
    }

    /// Columns that the manifest declares.
    #[must_use]
    pub fn declare(mut self, fields: Vec<FieldRef>) -> Self {
        self.declared = fields;
        self
    }

    /// How many rows there are.
    #[must_use]
    pub fn expect_rows(mut self, rows: usize) -> Self {
        self.rows = Some(rows);
        self
    }

    /// How many records cannot become rows.
    #[must_use]
    pub fn expect_rejected(mut self, rejected: usize) -> Self {
        self.rejected = rejected;
        self
    }

    /// Predicates to push.
    #[must_use]
    pub fn predicates(mut self, predicates: Vec<Predicate>) -> Self {
        self.predicates = predicates;
        self
    }

    /// The source runs in job mode only.
    #[must_use]
    pub fn job_only(mut self) -> Self {
        self.streaming = false;
        self
    }
}

impl SourceCase {
    /// The source cannot go back by itself (a pipe). Before each opening `lay_out` is told the positions from which the
    /// source will go on, and sees to it that it finds what comes behind them.
    #[must_use]
    pub fn lay_out(mut self, lay_out: impl Fn(&Positions) + Send + Sync + 'static) -> Self {
        self.lay_out = Some(Arc::new(lay_out));
        self
    }
}

/// What was read: rows as text by their identity.
#[derive(Debug, Default, Clone, PartialEq)]
struct Seen {
    rows: BTreeMap<RowRef, String>,
    rejected: BTreeMap<RowRef, Vec<u8>>,
    pruned: u64,
}

impl Seen {
    fn take(&mut self, read: conveyor_model::source::SourceRows) {
        let batch = &read.batch;
        for (index, text) in show(batch.rows()).into_iter().enumerate() {
            let place = batch.origin().get(index);
            if let Some(before) = self.rows.insert(place.clone(), text) {
                panic!("the row at {place:?} was delivered twice: {before}");
            }
        }
        for bad in read.rejected {
            let place = bad.row.clone();
            assert!(self.rejected.insert(bad.row, bad.bytes).is_none(), "{place:?} was rejected twice");
        }
        self.pruned += read.pruned;
    }
}

struct Setting {
    mode: Mode,
    parallelism: u32,
    batch_rows: usize,
    projection: Vec<String>,
    predicate: Predicate,
    restore: Positions,
}

impl Setting {
    fn all(found: &Discovered, parallelism: u32, batch_rows: usize) -> Self {
        Self {
            mode: Mode::Job,
            parallelism,
            batch_rows,
            projection: found.schema.fields().iter().map(|f| f.name().clone()).collect(),
            predicate: Predicate::default(),
            restore: Positions::new(),
        }
    }
}

async fn open(case: &SourceCase, found: &Discovered, setting: &Setting, subtask: u32) -> Box<dyn Source> {
    if let Some(lay_out) = &case.lay_out {
        lay_out(&setting.restore);
    }
    let context = SourceContext {
        pipeline: PipelineId::new("default", "case"),
        name: "case".into(),
        config: case.config.clone(),
        full_schema: found.schema.clone(),
        projection: setting.projection.clone(),
        predicate: setting.predicate.clone(),
        mode: setting.mode,
        ordered: false,
        subtask,
        parallelism: setting.parallelism,
        batch_rows: setting.batch_rows,
        restore: setting.restore.clone(),
        clock: Arc::new(TestClock::default()),
    };
    case.connector.open(context).await.unwrap_or_else(|e| panic!("the source does not open: {e}"))
}

async fn read(source: &mut dyn Source, limit: Duration) -> Read {
    let read = tokio::time::timeout(limit, source.read()).await.expect("a read must return in time");
    read.unwrap_or_else(|e| panic!("the source cannot be read: {e}"))
}

/// Reads all subtasks to their end.
async fn read_all(case: &SourceCase, found: &Discovered, setting: &Setting) -> Seen {
    let mut seen = Seen::default();
    for subtask in 0..setting.parallelism {
        let mut source = open(case, found, setting, subtask).await;
        assert_eq!(source.schema().fields().len(), setting.projection.len(), "the schema is the projection");
        loop {
            match read(&mut *source, PATIENCE).await {
                Read::Rows(rows) => {
                    assert_eq!(
                        rows.batch.schema(),
                        source.schema(),
                        "rows must have the schema that was promised"
                    );
                    seen.take(rows);
                }
                Read::Idle => {}
                Read::End => break,
            }
        }
        assert!(matches!(read(&mut *source, PATIENCE).await, Read::End), "the end is the end");
    }
    seen
}

/// Runs the suite.
///
/// # Panics
/// If the source breaks the contract.
pub async fn check_source(case: &SourceCase) {
    let request = DiscoverRequest {
        name: "case".into(),
        config: case.config.clone(),
        declared: case.declared.clone(),
        mode: Mode::Job,
    };
    let found = case.connector.discover(&request).await;
    let found = found.unwrap_or_else(|e| panic!("the source cannot be discovered: {e}"));
    let all = read_all(case, &found, &Setting::all(&found, 1, 8192)).await;
    if let Some(rows) = case.rows {
        assert_eq!(all.rows.len(), rows, "number of rows");
    }
    assert_eq!(all.rejected.len(), case.rejected, "number of rejected records: {:?}", all.rejected);
    let few = (all.rows.len() / 50).max(3);
    for parallelism in [1, 2, 3] {
        for batch_rows in [few, 8192] {
            let seen = read_all(case, &found, &Setting::all(&found, parallelism, batch_rows)).await;
            assert!(
                seen == all,
                "{parallelism} subtasks, batches of {batch_rows}: other rows than one subtask's"
            );
        }
    }
    check_restarts(case, &found, &all).await;
    check_projection(case, &found, &all).await;
    check_predicates(case, &found, &all).await;
    check_drain(case, &found).await;
}

/// From the positions at any boundary between reads, exactly the remaining rows come, at any parallelism.
async fn check_restarts(case: &SourceCase, found: &Discovered, all: &Seen) {
    let batch_rows = (all.rows.len() / RESTARTS).max(2);
    let setting = Setting::all(found, 1, batch_rows);
    let mut source = open(case, found, &setting, 0).await;
    let mut before = Seen::default();
    for boundary in 0.. {
        let restore = source.positions();
        for parallelism in [1, 3] {
            let restored =
                Setting { restore: restore.clone(), ..Setting::all(found, parallelism, batch_rows + 1) };
            let mut seen = read_all(case, found, &restored).await;
            for (place, row) in &before.rows {
                let twice = seen.rows.insert(place.clone(), row.clone()).is_some();
                assert!(!twice, "the row at {place:?} comes again after a restart at boundary {boundary}");
            }
            seen.rejected.extend(before.rejected.clone());
            assert!(
                seen.rows == all.rows,
                "a restart at boundary {boundary} with {parallelism} subtasks loses rows"
            );
            assert!(seen.rejected == all.rejected, "a restart at boundary {boundary} loses rejected records");
        }
        match read(&mut *source, PATIENCE).await {
            Read::Rows(rows) => before.take(rows),
            Read::Idle => {}
            Read::End => break,
        }
    }
    assert!(source.positions().values().all(|s| s.done), "at the end every split is done");
    // Positions gathered from several subtasks restore too: nothing is left.
    let mut positions = Positions::new();
    for subtask in 0..2 {
        let setting = Setting::all(found, 2, 8192);
        let mut source = open(case, found, &setting, subtask).await;
        while !matches!(read(&mut *source, PATIENCE).await, Read::End) {}
        positions.extend(source.positions());
    }
    let restored = Setting { restore: positions, ..Setting::all(found, 1, 8192) };
    assert!(read_all(case, found, &restored).await.rows.is_empty(), "a finished source has no rows left");
}

async fn check_projection(case: &SourceCase, found: &Discovered, all: &Seen) {
    let mut columns = Setting::all(found, 1, 8192).projection;
    columns.reverse();
    columns.truncate(columns.len().div_ceil(2));
    let setting = Setting { projection: columns.clone(), ..Setting::all(found, 1, 8192) };
    let seen = read_all(case, found, &setting).await;
    let wanted = |row: &String| {
        let values: BTreeMap<&str, &str> = row.split('|').filter_map(|v| v.split_once('=')).collect();
        columns.iter().map(|c| format!("{c}={}", values[c.as_str()])).collect::<Vec<_>>().join("|")
    };
    // A record that is only bad in a column that nobody wants is a row now: those of before must all be there.
    for (place, row) in all.rows.iter().filter(|(_, row)| !row.contains(['\n', '\\'])) {
        if row.matches('|').count() + 1 == found.schema.fields().len() {
            assert_eq!(seen.rows.get(place), Some(&wanted(row)), "the projection at {place:?}");
        }
    }
    assert!(seen.rows.len() >= all.rows.len(), "a projection must not lose rows");
}

async fn check_predicates(case: &SourceCase, found: &Discovered, all: &Seen) {
    for predicate in &case.predicates {
        let mut expected = Seen::default();
        let plain = Setting::all(found, 1, 8192);
        let mut source = open(case, found, &plain, 0).await;
        loop {
            match read(&mut *source, PATIENCE).await {
                Read::Rows(mut rows) => {
                    let keep = evaluate(predicate, rows.batch.rows()).expect("the predicate fits the rows");
                    rows.batch = rows.batch.filter(&keep).expect("a mask of the batch's length");
                    filter_record_batch(rows.batch.rows(), &vec![true; rows.batch.num_rows()].into())
                        .expect("rows stay whole");
                    expected.take(rows);
                }
                Read::Idle => {}
                Read::End => break,
            }
        }
        for parallelism in [1, 2] {
            let setting = Setting { predicate: predicate.clone(), ..Setting::all(found, parallelism, 100) };
            let seen = read_all(case, found, &setting).await;
            match found.predicate {
                Pushdown::Exact => {
                    assert!(seen.rows == expected.rows, "`{predicate}` does not leave the right rows")
                }
                Pushdown::Prune => assert!(
                    expected.rows.iter().all(|(place, row)| seen.rows.get(place) == Some(row)),
                    "`{predicate}` leaves out rows for which it is true"
                ),
                Pushdown::No => assert!(seen.rows == all.rows, "a source without pushdown delivers all rows"),
            }
            let counted = seen.rows.len() + seen.rejected.len() + seen.pruned as usize;
            assert_eq!(
                counted,
                all.rows.len() + all.rejected.len(),
                "every row is delivered, rejected or pruned"
            );
        }
    }
}

async fn check_drain(case: &SourceCase, found: &Discovered) {
    if !case.streaming {
        return;
    }
    let setting = Setting { mode: Mode::Streaming, ..Setting::all(found, 1, 8192) };
    let mut source = open(case, found, &setting, 0).await;
    loop {
        match read(&mut *source, PATIENCE).await {
            Read::Rows(_) => {}
            Read::Idle => break,
            // What is read has an end of its own, in streaming mode too.
            Read::End => return,
        }
    }
    assert!(matches!(read(&mut *source, IDLE).await, Read::Idle), "an idle source stays idle");
    source.drain();
    for _ in 0..100 {
        if let Read::End = read(&mut *source, PATIENCE).await {
            return;
        }
    }
    panic!("a drained source must end");
}
