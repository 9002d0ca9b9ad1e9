//! The `generator` source: made-up rows, each a function of the seed and its number alone, so that they are the same
//! whatever the parallelism, the batch size and the restarts.
//!
//! Rows are dealt in blocks to a fixed number of lanes, and the lanes to the subtasks: a lane is a split, and there are
//! never more positions to remember than lanes.

mod nexmark;
mod random;
mod records;

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Schema, SchemaRef};
use async_trait::async_trait;
use conveyor_model::connector::{ConnectorSpec, FieldKind, FieldSpec};
use conveyor_model::credit::cost;
use conveyor_model::origin::RowIds;
use conveyor_model::plan::Mode;
use conveyor_model::source::{
    DiscoverRequest, Discovered, Pushdown, Read, Source, SourceConnector, SourceContext, SourceRows,
};
use conveyor_model::{Batch, Error, Kind, Origin, Position, Positions, Result, SplitState};
use serde::Deserialize;

/// Rows of one lane that follow each other.
const BLOCK: u64 = 8192;
/// Number of lanes, and so the most subtasks that have something to do.
const LANES: u64 = 16;
/// Longest wait before [`Read::Idle`].
const IDLE_US: u64 = 100_000;

const KINDS: &[&str] = &["records", "nexmark", "nexmark-person", "nexmark-auction", "nexmark-bid"];

static SPEC: ConnectorSpec = ConnectorSpec {
    name: "generator",
    doc: "Made-up rows with a fixed seed: web-shop events, or the persons, auctions and bids of Nexmark.",
    fields: &[
        FieldSpec {
            name: "kind",
            kind: FieldKind::OneOf(KINDS),
            required: false,
            default: Some("records"),
            doc: "What the rows are.",
        },
        FieldSpec {
            name: "rows",
            kind: FieldKind::Integer { min: 0, max: i64::MAX },
            required: false,
            default: None,
            doc: "Number of rows; needed in job mode.",
        },
        FieldSpec {
            name: "seed",
            kind: FieldKind::Integer { min: 0, max: i64::MAX },
            required: false,
            default: Some("1"),
            doc: "Other seeds make other rows.",
        },
        FieldSpec {
            name: "rowsPerSecond",
            kind: FieldKind::Number,
            required: false,
            default: None,
            doc: "Pace of all subtasks together; by default as fast as possible.",
        },
    ],
};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Config {
    #[serde(default = "default_kind")]
    kind: String,
    rows: Option<u64>,
    #[serde(default = "default_seed")]
    seed: u64,
    rows_per_second: Option<f64>,
}

fn default_kind() -> String {
    KINDS[0].to_owned()
}

fn default_seed() -> u64 {
    1
}

impl Config {
    fn schema(&self) -> Result<SchemaRef> {
        match self.kind.as_str() {
            "records" => Ok(records::schema()),
            "nexmark" => Ok(nexmark::all_schema()),
            "nexmark-person" => Ok(nexmark::schema(nexmark::Kind::Person)),
            "nexmark-auction" => Ok(nexmark::schema(nexmark::Kind::Auction)),
            "nexmark-bid" => Ok(nexmark::schema(nexmark::Kind::Bid)),
            other => Err(Error::bad_input("generator-kind", format!("the generator knows no `{other}`"))
                .help(format!("use one of {}", KINDS.join(", ")))),
        }
    }

    /// One column of `len` rows from row `start` on.
    fn column(&self, name: &str, start: u64, len: usize) -> ArrayRef {
        let rows = start..start + len as u64;
        match self.kind.as_str() {
            "nexmark" => nexmark::all_column(self.seed, name, rows),
            "nexmark-person" => nexmark::column(self.seed, nexmark::Kind::Person, name, rows),
            "nexmark-auction" => nexmark::column(self.seed, nexmark::Kind::Auction, name, rows),
            "nexmark-bid" => nexmark::column(self.seed, nexmark::Kind::Bid, name, rows),
            _ => records::column(self.seed, name, rows),
        }
    }
}

/// Makes rows up.
#[derive(Debug, Default)]
pub struct Generator;

#[async_trait]
impl SourceConnector for Generator {
    fn spec(&self) -> &'static ConnectorSpec {
        &SPEC
    }

    async fn discover(&self, request: &DiscoverRequest) -> Result<Discovered> {
        let config: Config = crate::settings::parse("generator", &request.config)?;
        let schema = config.schema().map_err(|e| e.at(&request.name))?;
        if request.mode == Mode::Job && config.rows.is_none() {
            return Err(Error::bad_input("rows-missing", "a generator without `rows` never ends")
                .at(&request.name)
                .help("set `rows`, or `mode: streaming`"));
        }
        for declared in &request.declared {
            let same =
                schema.field_with_name(declared.name()).is_ok_and(|f| f.data_type() == declared.data_type());
            if !same {
                return Err(Error::bad_input(
                    "column-type",
                    format!(
                        "the generator makes no column `{}` of type {}",
                        declared.name(),
                        declared.data_type()
                    ),
                )
                .at(&request.name)
                .help("remove it from `schema`, and add a cast step"));
            }
        }
        let notes = vec![format!("{} with seed {}", config.kind, config.seed)];
        Ok(Discovered { schema, projection: true, predicate: Pushdown::No, notes })
    }

    async fn open(&self, context: SourceContext) -> Result<Box<dyn Source>> {
        let config: Config = crate::settings::parse("generator", &context.config)?;
        let full = config.schema()?;
        let fields = context.projection.iter().map(|name| match full.field_with_name(name) {
            Ok(field) => Ok(Arc::new(field.clone())),
            Err(_) => {
                Err(Error::bad_input("column-unknown", format!("the generator makes no column `{name}`")))
            }
        });
        let schema = Arc::new(Schema::new(fields.collect::<Result<Vec<_>>>()?));
        let parallelism = u64::from(context.parallelism.max(1));
        let end = config.rows.unwrap_or(u64::MAX);
        let mut lanes = Vec::new();
        for lane in (0..LANES).filter(|l| l % parallelism == u64::from(context.subtask)) {
            let id: Arc<str> = format!("lane-{lane}").into();
            let next = match context.restore.get(&*id) {
                Some(state) => state.position.0.as_u64().ok_or_else(|| unreadable(&id))?,
                None => lane * BLOCK,
            };
            lanes.push(Lane { id, next });
        }
        let total: u64 = lanes.iter().map(|l| left(l.next, end)).sum();
        let started_us = context.clock.monotonic_us();
        let share = config.rows_per_second.map(|rate| rate / parallelism as f64);
        Ok(Box::new(GeneratorSource {
            context,
            config,
            schema,
            lanes,
            end,
            share,
            started_us,
            made: 0,
            total,
            draining: false,
        }))
    }
}

fn unreadable(id: &str) -> Error {
    Error::new(Kind::Corrupt, "position-unreadable", "a restored position cannot be read").in_split(id)
}

/// Rows of a lane from `next` on.
fn left(next: u64, end: u64) -> u64 {
    if next >= end {
        return 0;
    }
    let stride = BLOCK * LANES;
    let first = (BLOCK - next % BLOCK).min(end - next);
    let block = next / BLOCK * BLOCK;
    let whole = (end - block - 1) / stride;
    let last = (end - block) - whole * stride;
    match whole {
        0 => first,
        _ => first + (whole - 1) * BLOCK + last.min(BLOCK),
    }
}

struct Lane {
    id: Arc<str>,
    next: u64,
}

struct GeneratorSource {
    context: SourceContext,
    config: Config,
    schema: SchemaRef,
    lanes: Vec<Lane>,
    /// First row that is not made.
    end: u64,
    /// Rows per second of this subtask.
    share: Option<f64>,
    started_us: u64,
    made: u64,
    total: u64,
    draining: bool,
}

impl GeneratorSource {
    /// Rows that the pace allows now, and how long to wait for the next.
    fn allowed(&self) -> (u64, Duration) {
        let Some(share) = self.share else { return (u64::MAX, Duration::ZERO) };
        let elapsed_us = self.context.clock.monotonic_us() - self.started_us;
        let due = (elapsed_us as f64 / 1e6 * share) as u64;
        if due > self.made {
            return (due - self.made, Duration::ZERO);
        }
        let next_us = ((self.made + 1) as f64 / share.max(1e-9) * 1e6) as u64;
        (0, Duration::from_micros(next_us.saturating_sub(elapsed_us).clamp(1000, IDLE_US)))
    }

    fn make(&mut self, lane: usize, rows: usize) -> Result<Read> {
        let start = self.lanes[lane].next;
        let columns =
            self.schema.fields().iter().map(|f| self.config.column(f.name(), start, rows)).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch =
            RecordBatch::try_new_with_options(self.schema.clone(), columns, &options).map_err(|e| {
                Error::runtime("generator-failed", "the made-up columns do not fit together").because(e)
            })?;
        let behind = start + rows as u64;
        let lane = &mut self.lanes[lane];
        // The lane's next block lies behind those of all other lanes.
        lane.next =
            if behind.is_multiple_of(BLOCK) { behind.saturating_add(BLOCK * (LANES - 1)) } else { behind };
        self.made += rows as u64;
        let source = self.context.name.clone();
        let origin = Origin::new(source, "generator".into(), RowIds::Range { start, len: rows });
        // The rows' own bytes: buffers are made with room to spare.
        let bytes = cost(&batch);
        let split = lane.id.clone();
        Ok(Read::Rows(SourceRows {
            batch: Batch::new(batch, origin),
            split,
            rejected: Vec::new(),
            pruned: 0,
            bytes,
        }))
    }
}

#[async_trait]
impl Source for GeneratorSource {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    async fn read(&mut self) -> Result<Read> {
        if self.draining {
            return Ok(Read::End);
        }
        // The lane that is furthest behind: one subtask alone makes the rows in order.
        let lane = (0..self.lanes.len()).min_by_key(|&l| self.lanes[l].next);
        let Some(lane) = lane.filter(|&l| self.lanes[l].next < self.end) else {
            if self.context.mode == Mode::Job {
                return Ok(Read::End);
            }
            tokio::time::sleep(Duration::from_micros(IDLE_US)).await;
            return Ok(Read::Idle);
        };
        let (allowed, wait) = self.allowed();
        if allowed == 0 {
            tokio::time::sleep(wait).await;
            return Ok(Read::Idle);
        }
        let next = self.lanes[lane].next;
        let rows = (BLOCK - next % BLOCK)
            .min(self.end - next)
            .min(allowed)
            .min(self.context.batch_rows.max(1) as u64);
        self.make(lane, usize::try_from(rows).unwrap_or(1))
    }

    fn positions(&self) -> Positions {
        let state = |lane: &Lane| SplitState {
            position: Position(lane.next.into()),
            done: lane.next >= self.end,
            event_time_max_us: None,
        };
        self.lanes.iter().map(|lane| (lane.id.to_string(), state(lane))).collect()
    }

    fn progress(&self) -> Option<(u64, u64)> {
        // In rows, as a share of all: sizes of rows that are not made yet are not known.
        self.config.rows.map(|_| (self.total, self.made))
    }

    fn drain(&mut self) {
        self.draining = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_hold_all_rows_between_them() {
        for end in [0, 1, BLOCK - 1, BLOCK, BLOCK * LANES, BLOCK * LANES + 1, BLOCK * (LANES + 3) + 17] {
            let total: u64 = (0..LANES).map(|lane| left(lane * BLOCK, end)).sum();
            assert_eq!(total, end);
        }
        assert_eq!(left(5, BLOCK), BLOCK - 5);
        assert_eq!(left(5, BLOCK * LANES + 7), BLOCK - 5 + 7);
    }
}
