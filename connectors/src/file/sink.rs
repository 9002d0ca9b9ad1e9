//! One subtask of the file sink: rows go into staged objects that no reader looks at; the committer publishes them.

use std::collections::HashMap;

use arrow::array::RecordBatch;
use arrow::compute::take_record_batch;
use async_trait::async_trait;
use conveyor_model::manifest::StagedRef;
use conveyor_model::plan::Delivery;
use conveyor_model::secret::Secrets;
use conveyor_model::sink::{Refused, Sink, SinkContext};
use conveyor_model::{Batch, Epoch, Error, Kind, Result};

use super::layout::Layout;
use super::partition;
use super::sink_config::SinkPlan;
use super::store::locate;
use super::target::Target;
use super::writer::Writer;
use crate::format::Encoder;
use crate::plain::Pace;

/// Encoded bytes gathered before they are handed to the target.
const FLUSH: usize = 1 << 20;
/// Partitions open at once; the one not written to for the longest time is closed for the next.
const MAX_OPEN: usize = 64;

/// An object that takes rows.
struct Open {
    encoder: Box<dyn Encoder>,
    writer: Writer,
    buffer: Vec<u8>,
    staged: String,
    number: u64,
    rows: u64,
    /// Bytes handed to the writer.
    bytes: u64,
    opened_us: u64,
    used: u64,
}

/// An object that is complete.
struct Closed {
    staged: String,
    folder: String,
    number: u64,
    rows: u64,
    bytes: u64,
}

/// Writes files.
pub(crate) struct FileSink {
    context: SinkContext,
    plan: SinkPlan,
    layout: Layout,
    target: Target,
    open: HashMap<String, Open>,
    closed: Vec<Closed>,
    /// Number of the next object of this subtask and incarnation.
    next_number: u64,
    /// Counts writes, to find the object not used for the longest time.
    clock: u64,
    bytes: u64,
    pace: Pace,
    /// A write has failed: rows of this epoch may be gone, so that only a restart from the last commit helps.
    broken: Option<(Kind, String)>,
}

impl FileSink {
    /// Opens a subtask. Nothing is written before the first row.
    ///
    /// # Errors
    /// `BadInput` as [`SinkPlan::new`].
    pub(crate) fn open(context: SinkContext, secrets: &dyn Secrets) -> Result<Self> {
        let plan = SinkPlan::new(&context.config, &context.schema, context.mode)?;
        let target = Target::new(locate(&plan.folder, &plan.config.store, secrets)?)?;
        let layout = Layout::new(&context, &plan);
        let bytes_per_second = plan.config.bytes_per_second;
        Ok(Self {
            context,
            plan,
            layout,
            target,
            open: HashMap::new(),
            closed: Vec::new(),
            next_number: 0,
            clock: 0,
            bytes: 0,
            pace: Pace::new(bytes_per_second),
            broken: None,
        })
    }

    async fn start(&mut self) -> Result<Open> {
        let encoder = super::encode::encoder(&self.plan, self.plan.single.is_none())?;
        let number = self.next_number;
        self.next_number += 1;
        let staged = self.layout.staged(self.context.incarnation, self.context.subtask, number);
        let writer = self.target.create(&staged).await?;
        Ok(Open {
            encoder,
            writer,
            buffer: Vec::new(),
            staged,
            number,
            rows: 0,
            bytes: 0,
            opened_us: self.context.clock.monotonic_us(),
            used: 0,
        })
    }

    async fn write_to(&mut self, folder: &str, rows: &RecordBatch) -> Result<Refused> {
        if !self.open.contains_key(folder) {
            if self.open.len() >= MAX_OPEN {
                let oldest =
                    self.open.iter().min_by_key(|(_, open)| open.used).map(|(folder, _)| folder.clone());
                self.close(&oldest.unwrap_or_default()).await?;
            }
            let fresh = self.start().await?;
            self.open.insert(folder.to_owned(), fresh);
        }
        self.clock += 1;
        let Some(open) = self.open.get_mut(folder) else { return Err(unreachable_folder()) };
        open.used = self.clock;
        let refused = open.encoder.encode(rows, &mut open.buffer)?;
        open.rows += (rows.num_rows() - refused.len()) as u64;
        let mut written = 0;
        if open.buffer.len() >= FLUSH {
            written = open.buffer.len() as u64;
            open.writer.write(&mut open.buffer).await?;
            open.bytes += written;
        }
        let size = open.bytes + (open.buffer.len() + open.encoder.buffered()) as u64;
        let age_ms = (self.context.clock.monotonic_us() - open.opened_us) / 1000;
        self.bytes += written;
        if size >= self.plan.config.roll_size || self.plan.config.roll_time.is_some_and(|t| age_ms >= t) {
            self.close(folder).await?;
        }
        self.pace.spend(written).await;
        Ok(refused)
    }

    /// Completes the object of a folder and makes it durable.
    async fn close(&mut self, folder: &str) -> Result<()> {
        let Some(mut open) = self.open.remove(folder) else { return Ok(()) };
        open.encoder.finish(&mut open.buffer)?;
        let left = open.buffer.len() as u64;
        if left > 0 {
            open.writer.write(&mut open.buffer).await?;
            open.bytes += left;
            self.bytes += left;
        }
        open.writer.finish().await?;
        self.closed.push(Closed {
            staged: open.staged,
            folder: folder.to_owned(),
            number: open.number,
            rows: open.rows,
            bytes: open.bytes,
        });
        self.pace.spend(left).await;
        Ok(())
    }
}

fn unreachable_folder() -> Error {
    Error::runtime("sink-lost-file", "a file sink lost track of an open file")
}

#[async_trait]
impl Sink for FileSink {
    async fn write(&mut self, batch: Batch) -> Result<Refused> {
        self.check_broken()?;
        let written = self.write_batch(batch.rows()).await;
        self.broken = written.as_ref().err().map(|e| (e.kind(), e.to_string()));
        written.map_err(|e| e.at(&self.context.name))
    }

    async fn prepare(&mut self, epoch: Epoch) -> Result<Vec<StagedRef>> {
        self.check_broken()?;
        let staged = self.stage(epoch).await;
        self.broken = staged.as_ref().err().map(|e| (e.kind(), e.to_string()));
        staged.map_err(|e| e.at(&self.context.name))
    }

    fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl FileSink {
    fn check_broken(&self) -> Result<()> {
        let Some((kind, why)) = &self.broken else { return Ok(()) };
        let e = Error::new(
            *kind,
            "sink-broken",
            "an earlier write has failed, so rows of this epoch may be missing",
        );
        let e = e.because(why.clone());
        Err(e
            .at(&self.context.name)
            .help("the pipeline has to go on from its last committed epoch: start it again"))
    }

    async fn write_batch(&mut self, rows: &RecordBatch) -> Result<Refused> {
        if rows.num_rows() == 0 {
            return Ok(Refused::new());
        }
        let failed = |e| Error::runtime("project-failed", "columns could not be taken").because(e);
        let in_file = rows.project(&self.plan.file_columns).map_err(failed)?;
        if self.plan.partition_columns.is_empty() {
            return self.write_to("", &in_file).await;
        }
        let schema = self.context.schema.clone();
        let names: Vec<&str> =
            self.plan.partition_columns.iter().map(|&i| schema.field(i).name().as_str()).collect();
        let columns: Vec<_> = self.plan.partition_columns.iter().map(|&i| rows.column(i).clone()).collect();
        let mut refused = Refused::new();
        for (folder, indices) in partition::group(&names, &columns)? {
            let part = take_record_batch(&in_file, &indices).map_err(failed)?;
            let of_part = self.write_to(&folder, &part).await?;
            refused.extend(of_part.into_iter().map(|(row, error)| (indices.value(row) as usize, error)));
        }
        refused.sort_by_key(|r| r.0);
        Ok(refused)
    }

    async fn stage(&mut self, epoch: Epoch) -> Result<Vec<StagedRef>> {
        let mut folders: Vec<String> = self.open.keys().cloned().collect();
        folders.sort_unstable();
        for folder in folders {
            self.close(&folder).await?;
        }
        if self.closed.is_empty() {
            return Ok(Vec::new());
        }
        self.target.sync(super::layout::STAGING).await?;
        fail::fail_point!("file-stage-after-folder-sync");
        let mut refs = Vec::with_capacity(self.closed.len());
        for closed in std::mem::take(&mut self.closed) {
            let publish = self.layout.publish(
                &closed.folder,
                epoch,
                self.context.incarnation,
                self.context.subtask,
                closed.number,
            );
            refs.push(StagedRef { staged: closed.staged, publish, rows: closed.rows, bytes: closed.bytes });
        }
        // One file is made of all parts at the end, whatever the delivery.
        if self.context.delivery == Delivery::AtLeastOnce && self.plan.single.is_none() {
            super::commit::publish(&self.target, &refs).await?;
            return Ok(Vec::new());
        }
        Ok(refs)
    }
}
