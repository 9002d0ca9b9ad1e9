//! The task's side of a `flight` source: reads what was put, batch by batch.

use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::{Schema, SchemaRef};
use async_trait::async_trait;
use conveyor_model::origin::RowIds;
use conveyor_model::source::{Read, Source, SourceContext, SourceRows};
use conveyor_model::{Batch, Epoch, Error, Origin, Positions, Result};
use tokio::time::timeout;

use super::columns::pick;
use super::intake::{Desk, Intake};
use super::ledger::Ledger;

/// Longest wait before [`Read::Idle`].
const IDLE: Duration = Duration::from_millis(100);

/// Opens a subtask. All clients come to the first one, so that a producer's batches have one order; the others have nothing to do.
pub(super) fn open(intake: &Intake, context: SourceContext, room: u64) -> Result<Box<dyn Source>> {
    let full = &context.full_schema;
    let fields = context.projection.iter().map(|name| {
        full.field_with_name(name).cloned().map_err(|e| {
            Error::bad_input("column-unknown", format!("the source has no column `{name}`")).because(e)
        })
    });
    let schema = Arc::new(Schema::new(fields.collect::<Result<Vec<_>>>()?));
    let first = context.subtask == 0;
    let ledger = if first { Ledger::restore(&context.restore)? } else { Ledger::default() };
    let desk = Arc::new(Desk::new(full.clone(), room, ledger));
    if first {
        intake.open(&context.pipeline, &context.name, &desk);
    }
    Ok(Box::new(Reader { name: context.name, schema, desk }))
}

struct Reader {
    name: Arc<str>,
    schema: SchemaRef,
    desk: Arc<Desk>,
}

#[async_trait]
impl Source for Reader {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    async fn read(&mut self) -> Result<Read> {
        let next = match timeout(IDLE, self.desk.next()).await {
            Err(_) => return Ok(Read::Idle),
            Ok(None) => return Ok(Read::End),
            Ok(Some(next)) => next,
        };
        // A batch goes on whole: one that is put again is in the epoch that has it, or not at all.
        let rows = pick(&next.rows, &self.schema)?;
        let ids = RowIds::Range { start: next.start, len: rows.num_rows() };
        Ok(Read::Rows(SourceRows {
            batch: Batch::new(rows, Origin::new(self.name.clone(), next.split.clone(), ids)),
            split: next.split,
            rejected: Vec::new(),
            pruned: 0,
            bytes: next.cost,
        }))
    }

    fn positions(&self) -> Positions {
        self.desk.positions()
    }

    async fn committed(&mut self, epoch: Epoch, positions: &Positions) -> Result<()> {
        self.desk.commit(epoch, positions);
        Ok(())
    }

    fn drain(&mut self) {
        self.desk.drain();
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.desk.close();
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, RecordBatch};
    use arrow::datatypes::{DataType, Field};
    use conveyor_model::PipelineId;
    use conveyor_model::plan::Mode;
    use conveyor_model::predicate::Predicate;
    use futures::FutureExt;

    use super::super::{Accepted, Offered};
    use super::*;
    use crate::conformance::TestClock;

    fn context(restore: Positions, subtask: u32) -> SourceContext {
        let full = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true)]));
        SourceContext {
            pipeline: id(),
            name: "in".into(),
            config: serde_json::Value::Null,
            full_schema: full,
            projection: vec!["n".into()],
            predicate: Predicate::default(),
            mode: Mode::Streaming,
            ordered: false,
            subtask,
            parallelism: 2,
            batch_rows: 10,
            restore,
            clock: Arc::new(TestClock::default()),
        }
    }

    fn id() -> PipelineId {
        PipelineId::new("default", "p")
    }

    async fn put(intake: &Intake, sequence: u64, rows: usize) -> Result<Accepted> {
        let numbers = Int64Array::from_iter_values(0..rows as i64);
        let rows = RecordBatch::try_from_iter([("n", Arc::new(numbers) as _)]).unwrap();
        let (producer, sequence) = (Some("a".to_owned()), Some(sequence));
        intake.put(&id(), Offered { source: "in".into(), producer, sequence, rows }).await
    }

    async fn rows(source: &mut dyn Source) -> usize {
        match source.read().await.unwrap() {
            Read::Rows(rows) => rows.batch.num_rows(),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_put_is_answered_once_its_epoch_is_committed_and_not_before() {
        let intake = Intake::default();
        let mut source = open(&intake, context(Positions::new(), 0), 1 << 20).unwrap();
        let mut idle = open(&intake, context(Positions::new(), 1), 1 << 20).unwrap();
        assert!(matches!(idle.read().await.unwrap(), Read::Idle));
        assert!(idle.positions().is_empty());
        let mut first = put(&intake, 1, 3).await.unwrap().committed;
        let mut again = put(&intake, 1, 3).await.unwrap().committed;
        assert_eq!(rows(&mut *source).await, 3);
        let positions = source.positions();
        let mut second = put(&intake, 2, 2).await.unwrap().committed;
        assert_eq!(rows(&mut *source).await, 2);
        assert!((&mut first).now_or_never().is_none() && (&mut again).now_or_never().is_none());
        source.committed(Epoch(7), &positions).await.unwrap();
        assert_eq!((first.await.unwrap(), again.await.unwrap()), (Some(Epoch(7)), Some(Epoch(7))));
        assert!((&mut second).now_or_never().is_none());
        assert_eq!(put(&intake, 1, 3).await.unwrap().committed.await.unwrap(), None);
        // The task ends; what it had not committed is for its successor, which takes the same batch again.
        drop(source);
        assert_eq!(second.await.unwrap_err().code(), "source-ended");
        assert_eq!(put(&intake, 2, 2).await.err().unwrap().code(), "source-unknown");
        let mut source = open(&intake, context(positions, 0), 1 << 20).unwrap();
        put(&intake, 2, 2).await.unwrap();
        assert_eq!(rows(&mut *source).await, 2);
    }

    #[tokio::test]
    async fn a_put_waits_for_room_and_a_drain_ends_the_waiting() {
        let intake = Intake::default();
        let mut source = open(&intake, context(Positions::new(), 0), 100).unwrap();
        let taken = put(&intake, 1, 20).await.unwrap();
        let mut waits = Box::pin(put(&intake, 2, 20));
        assert!((&mut waits).now_or_never().is_none());
        assert_eq!(rows(&mut *source).await, 20);
        let second = waits.await.unwrap();
        let mut waits = Box::pin(put(&intake, 3, 20));
        assert!((&mut waits).now_or_never().is_none());
        source.drain();
        assert_eq!(waits.await.err().unwrap().code(), "source-ended");
        // What was taken is still read, committed and acknowledged.
        assert_eq!(rows(&mut *source).await, 20);
        assert!(matches!(source.read().await.unwrap(), Read::End));
        source.committed(Epoch(1), &source.positions()).await.unwrap();
        assert_eq!(taken.committed.await.unwrap(), Some(Epoch(1)));
        assert_eq!(second.committed.await.unwrap(), Some(Epoch(1)));
    }
}
