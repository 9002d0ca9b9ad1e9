//! All outputs of a task: which rows take which edge, and which channel of it.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::SchemaRef;
use conveyor_expr::Expr;
use conveyor_model::edge::{Outlet, Watchers};
use conveyor_model::plan::{Edge, Partition};
use conveyor_model::{Batch, Error, Frame, Result, Watermark};

use super::local::cost;
use crate::compact::compact;
use crate::metrics::ChannelMetrics;
use crate::operator::{Failed, StepInfo};
use crate::partition::{KeyEncoder, subtask_of};

/// What became of the rows of one batch.
#[derive(Debug, Default)]
pub(crate) struct Sent {
    /// Rows that took at least one edge.
    pub(crate) rows: u64,
    /// Rows that no edge wanted.
    pub(crate) filtered: u64,
    /// Rows whose condition could not be evaluated; they took no edge.
    pub(crate) failed: Vec<(StepInfo, Failed)>,
}

/// The edges that leave one task.
#[derive(Default)]
pub(crate) struct FanOut {
    edges: Vec<OutEdge>,
    watermark: LastMark,
}

/// The last watermark sent, to be repeated when channels wake up from idleness.
#[derive(Debug)]
struct LastMark {
    last: Watermark,
    idle: bool,
}

impl Default for LastMark {
    fn default() -> Self {
        Self { last: Watermark::MIN, idle: false }
    }
}

/// One edge's channels from this task.
pub(crate) struct OutEdge {
    index: usize,
    info: StepInfo,
    when: Option<Expr>,
    projection: Option<Vec<usize>>,
    schema: SchemaRef,
    route: Route,
    channels: Vec<OutChannel>,
    max_cost: u64,
    sent_rows: u64,
    watchers: Option<Arc<dyn Watchers>>,
}

/// One channel of an edge.
pub(crate) struct OutChannel {
    /// Where frames go.
    pub(crate) outlet: Box<dyn Outlet>,
    /// What is counted.
    pub(crate) metrics: Arc<ChannelMetrics>,
}

enum Route {
    Turn(usize),
    Key(KeyEncoder),
}

impl OutEdge {
    /// Compiles an edge; `schema` is the sender's.
    ///
    /// # Errors
    /// `BadInput` if the condition, a column or a key does not fit the schema.
    pub(crate) fn new(
        index: usize,
        edge: &Edge,
        schema: &SchemaRef,
        channels: Vec<OutChannel>,
    ) -> Result<Self> {
        let when =
            edge.when.as_ref().map(|sql| compile(sql, schema)).transpose().map_err(|e| e.at(&edge.name))?;
        let projection = edge
            .projection
            .as_ref()
            .map(|columns| columns.iter().map(|(_, c)| schema.index_of(c)).collect::<Result<Vec<_>, _>>())
            .transpose()
            .map_err(|e| {
                Error::bad_input("edge-column", "an edge sends a column that does not exist")
                    .because(e)
                    .at(&edge.name)
            })?;
        let route = match &edge.partition {
            Partition::Hash(keys) if channels.len() > 1 => Route::Key(KeyEncoder::new(&edge.schema, keys)?),
            _ => Route::Turn(0),
        };
        let name: Arc<str> = edge.name.as_str().into();
        Ok(Self {
            index,
            info: StepInfo { id: name.clone(), name },
            when,
            projection,
            schema: edge.schema.clone(),
            route,
            channels,
            // A little under half a window, since what is kept beside the rows is paid for by every piece.
            max_cost: (edge.window_bytes / 16 * 7).max(1),
            sent_rows: 0,
            watchers: None,
        })
    }

    /// Shows what is sent to those who watch.
    pub(crate) fn watched_by(self, watchers: Option<Arc<dyn Watchers>>) -> Self {
        Self { watchers, ..self }
    }

    async fn control(&mut self, frame: &Frame) -> Result<()> {
        for channel in &mut self.channels {
            channel.outlet.send(frame.clone()).await?;
        }
        Ok(())
    }

    async fn send(&mut self, batch: Batch) -> Result<()> {
        self.sent_rows += batch.num_rows() as u64;
        let batch = self.project(batch)?;
        let parts = match &mut self.route {
            Route::Turn(next) => {
                let to = *next % self.channels.len();
                *next = to + 1;
                vec![(to, batch)]
            }
            Route::Key(encoder) => by_key(encoder, batch, self.channels.len())?,
        };
        for (to, part) in parts {
            let (rows, origin) = part.into_parts();
            let rows = compact(rows);
            if let Some(watchers) = self.watchers.as_ref().filter(|w| w.are_there()) {
                watchers.show(&rows);
            }
            self.send_part(to, Batch::new(rows, origin)).await?;
        }
        Ok(())
    }

    /// Sends rows to one channel, in pieces of at most half its window.
    async fn send_part(&mut self, to: usize, batch: Batch) -> Result<()> {
        let channel = &mut self.channels[to];
        let rows = batch.num_rows();
        let pieces =
            usize::try_from(cost(&batch).div_ceil(self.max_cost)).unwrap_or(rows).clamp(1, rows.max(1));
        let step = rows.div_ceil(pieces).max(1);
        for at in (0..rows).step_by(step) {
            let piece = if pieces == 1 { batch.clone() } else { batch.slice(at, step.min(rows - at)) };
            let cost = cost(&piece);
            channel.metrics.sent(piece.num_rows() as u64, cost);
            channel.outlet.send(Frame::Data { batch: piece, cost }).await?;
        }
        Ok(())
    }

    fn project(&self, batch: Batch) -> Result<Batch> {
        let (rows, origin) = batch.into_parts();
        let columns: Vec<ArrayRef> = match &self.projection {
            Some(indices) => indices.iter().map(|&i| rows.column(i).clone()).collect(),
            None => rows.columns().to_vec(),
        };
        let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
        let rows =
            RecordBatch::try_new_with_options(self.schema.clone(), columns, &options).map_err(|e| {
                Error::runtime("edge-schema", "rows do not have the columns that the edge declares")
                    .because(e)
                    .at(&self.info.name)
            })?;
        Ok(Batch::new(rows, origin))
    }
}

fn compile(sql: &str, schema: &SchemaRef) -> Result<Expr> {
    Expr::compile_boolean(sql, schema).map_err(|e| {
        Error::bad_input("edge-condition", format!("the condition `{sql}` cannot be used: {}", e.message))
            .help(e.help.unwrap_or_default())
    })
}

/// The rows for each channel, in order within a channel.
fn by_key(encoder: &KeyEncoder, batch: Batch, channels: usize) -> Result<Vec<(usize, Batch)>> {
    let mut indices: Vec<Vec<u32>> = vec![Vec::new(); channels];
    for (row, hash) in encoder.hash(batch.rows())?.into_iter().enumerate() {
        indices[subtask_of(hash, channels as u32) as usize].push(row as u32);
    }
    let mut parts = Vec::with_capacity(channels);
    for (to, rows) in indices.into_iter().enumerate() {
        if rows.len() == batch.num_rows() {
            return Ok(vec![(to, batch)]);
        }
        if !rows.is_empty() {
            let part = batch
                .take(&UInt32Array::from(rows))
                .map_err(|e| Error::runtime("partition", "rows cannot be spread by key").because(e))?;
            parts.push((to, part));
        }
    }
    Ok(parts)
}

impl FanOut {
    /// Joins the edges of a task.
    pub(crate) fn new(edges: Vec<OutEdge>) -> Self {
        Self { edges, watermark: LastMark::default() }
    }

    /// Sends a barrier, a watermark, idleness or the end on every channel. Never waits for credit.
    ///
    /// # Errors
    /// If a receiver is gone.
    pub(crate) async fn control(&mut self, frame: Frame) -> Result<()> {
        match frame {
            Frame::Watermark(watermark) => {
                self.watermark.last = watermark;
                self.watermark.idle = false;
            }
            Frame::Idle => self.watermark.idle = true,
            _ => {}
        }
        for edge in &mut self.edges {
            edge.control(&frame).await?;
        }
        Ok(())
    }

    /// Sends every row on each edge whose condition is true for it.
    ///
    /// # Errors
    /// If a receiver is gone.
    pub(crate) async fn send(&mut self, batch: Batch) -> Result<Sent> {
        if self.watermark.idle {
            // Every channel of this task counts again, not only the one that gets these rows.
            self.control(Frame::Watermark(self.watermark.last)).await?;
        }
        let mut sent = Sent::default();
        let Some((batch, masks)) = self.conditions(batch, &mut sent)? else { return Ok(sent) };
        let total = batch.num_rows() as u64;
        let wanted = wanted(&masks, batch.num_rows());
        sent.rows = wanted;
        sent.filtered = total - wanted;
        for (edge, mask) in self.edges.iter_mut().zip(masks) {
            let part = match mask {
                None => batch.clone(),
                Some(mask) if mask.true_count() == batch.num_rows() => batch.clone(),
                Some(mask) if mask.true_count() == 0 => continue,
                Some(mask) => batch.filter(&mask).map_err(|e| {
                    Error::runtime("edge-filter", "rows cannot be picked for an edge").because(e)
                })?,
            };
            edge.send(part).await?;
        }
        Ok(sent)
    }

    /// The conditions of all edges on the rows for which none of them fails; `None` when no row is left.
    fn conditions(
        &self,
        batch: Batch,
        sent: &mut Sent,
    ) -> Result<Option<(Batch, Vec<Option<BooleanArray>>)>> {
        if batch.is_empty() {
            return Ok(None);
        }
        for edge in &self.edges {
            let Some(when) = &edge.when else { continue };
            let failures = when.evaluate(batch.rows()).failures;
            if failures.is_empty() {
                continue;
            }
            // A failing row is one dead letter however many edges it might have taken, so the good rows start over.
            let (rows, errors): (Vec<u32>, Vec<_>) = failures.into_iter().map(|(r, e)| (r as u32, e)).unzip();
            let picked = |e| Error::runtime("edge-filter", "rows cannot be picked for an edge").because(e);
            let mut bad = vec![true; batch.num_rows()];
            rows.iter().for_each(|&r| bad[r as usize] = false);
            let good = batch.filter(&BooleanArray::from(bad)).map_err(picked)?;
            let failed = batch.take(&UInt32Array::from(rows)).map_err(picked)?;
            sent.failed.push((edge.info.clone(), Failed { rows: failed, errors }));
            return self.conditions(good, sent);
        }
        let masks = self
            .edges
            .iter()
            .map(|e| e.when.as_ref().map(|when| when.evaluate(batch.rows()).values.as_boolean().clone()))
            .map(|mask| mask.map(only_true))
            .collect();
        Ok(Some((batch, masks)))
    }

    /// Rows sent on each edge since the last call, by the edge's index in the plan.
    pub(crate) fn take_sent(&mut self) -> Vec<(usize, u64)> {
        self.edges.iter_mut().map(|e| (e.index, std::mem::take(&mut e.sent_rows))).collect()
    }
}

fn only_true(mask: BooleanArray) -> BooleanArray {
    match mask.nulls() {
        Some(nulls) => BooleanArray::new(mask.values() & nulls.inner(), None),
        None => mask,
    }
}

fn wanted(masks: &[Option<BooleanArray>], rows: usize) -> u64 {
    if masks.iter().any(Option::is_none) {
        return rows as u64;
    }
    let mut any = BooleanBuffer::new_unset(rows);
    for mask in masks.iter().flatten() {
        any = &any | mask.values();
    }
    any.count_set_bits() as u64
}
