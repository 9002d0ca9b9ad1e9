//! Where puts come in: the sources that are open in this process, and what waits for each.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Weak};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use conveyor_model::credit::cost;
use conveyor_model::{Epoch, Error, Kind, PipelineId, Positions, Result};
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use super::columns::fit;
use super::ledger::{Ledger, Verdict, split_of};

/// The `flight` sources that run in this process. One a process, shared by its Arrow Flight service and the connector.
#[derive(Default)]
pub struct Intake {
    open: Mutex<BTreeMap<(PipelineId, String), Weak<Desk>>>,
}

/// A batch that a client puts.
#[derive(Debug, Clone)]
pub struct Offered {
    /// Name of the source in the manifest.
    pub source: String,
    /// Who puts it, where the client numbers its batches.
    pub producer: Option<String>,
    /// Its number among the producer's batches, from 1; none without a producer.
    pub sequence: Option<u64>,
    /// The rows, with the columns that the manifest declares.
    pub rows: RecordBatch,
}

/// A batch that was taken.
pub struct Accepted {
    /// Resolves once the rows are committed, with the epoch that they are part of; without one if they were committed when
    /// they were put again.
    pub committed: BoxFuture<'static, Result<Option<Epoch>>>,
}

impl Intake {
    /// Takes a batch. Waits while the source has no room. Cancel-safe: a batch is taken whole or not at all.
    ///
    /// # Errors
    /// `BadInput` if there is no such source here, or the rows are not those that it takes; `Unavailable` if it has ended or is about to.
    pub async fn put(&self, pipeline: &PipelineId, offered: Offered) -> Result<Accepted> {
        let key = (pipeline.clone(), offered.source.clone());
        let desk = self.open.lock().get(&key).and_then(Weak::upgrade);
        let desk = desk.ok_or_else(|| {
            let what = format!("the process has no `flight` source `{}` of {pipeline}", offered.source);
            Error::bad_input("source-unknown", what)
                .help("GetFlightInfo for the pipeline and the source says where it runs")
        })?;
        desk.put(offered).await.map_err(|e| e.in_pipeline(pipeline).at(&key.1))
    }

    /// Opens a source, in the place of an older one of that name.
    pub(super) fn open(&self, pipeline: &PipelineId, source: &str, desk: &Arc<Desk>) {
        let mut open = self.open.lock();
        open.retain(|_, desk| desk.strong_count() > 0);
        open.insert((pipeline.clone(), source.to_owned()), Arc::downgrade(desk));
    }
}

/// What waits for one source.
pub(super) struct Desk {
    schema: SchemaRef,
    /// Bytes that may wait.
    room: u64,
    inner: Mutex<Inner>,
    /// There is room, or never will be.
    emptied: Notify,
    /// There is something to read, or never will be.
    filled: Notify,
}

struct Inner {
    ledger: Ledger,
    queue: VecDeque<Waiting>,
    bytes: u64,
    /// Who is to be told of which batch's commit.
    listeners: Vec<Listener>,
    draining: bool,
    closed: bool,
}

/// A batch that waits to be read.
pub(super) struct Waiting {
    /// Its split.
    pub(super) split: Arc<str>,
    /// Position of its first row.
    pub(super) start: u64,
    /// All declared columns.
    pub(super) rows: RecordBatch,
    /// What it costs.
    pub(super) cost: u64,
}

struct Listener {
    split: Arc<str>,
    sequence: u64,
    tell: oneshot::Sender<Epoch>,
}

impl Desk {
    pub(super) fn new(schema: SchemaRef, room: u64, ledger: Ledger) -> Self {
        let inner = Inner {
            ledger,
            queue: VecDeque::new(),
            bytes: 0,
            listeners: Vec::new(),
            draining: false,
            closed: false,
        };
        Self { schema, room, inner: Mutex::new(inner), emptied: Notify::new(), filled: Notify::new() }
    }

    async fn put(&self, offered: Offered) -> Result<Accepted> {
        let rows = fit(&self.schema, &offered.rows)?;
        let split = split_of(offered.producer.as_deref())?;
        loop {
            let emptied = self.emptied.notified();
            tokio::pin!(emptied);
            // From now on no word is missed.
            emptied.as_mut().enable();
            if let Some(accepted) = self.try_put(&split, offered.sequence, &rows)? {
                return Ok(accepted);
            }
            emptied.await;
        }
    }

    /// Takes a batch if there is room.
    fn try_put(
        &self,
        split: &Arc<str>,
        sequence: Option<u64>,
        rows: &RecordBatch,
    ) -> Result<Option<Accepted>> {
        let mut inner = self.inner.lock();
        if inner.closed || inner.draining {
            return Err(ended());
        }
        let count = rows.num_rows() as u64;
        let number = match inner.ledger.judge(split, sequence)? {
            Verdict::Committed => {
                return Ok(Some(Accepted { committed: Box::pin(async { Ok(None) }) }));
            }
            Verdict::Pending => sequence.unwrap_or_default(),
            Verdict::Next { sequence, start } => {
                let cost = cost(rows);
                // A batch larger than all the room goes alone.
                if inner.bytes > 0 && inner.bytes + cost > self.room {
                    return Ok(None);
                }
                inner.bytes += cost;
                inner.ledger.take(split, count);
                inner.queue.push_back(Waiting { split: split.clone(), start, rows: rows.clone(), cost });
                self.filled.notify_one();
                sequence
            }
        };
        let (tell, told) = oneshot::channel();
        inner.listeners.push(Listener { split: split.clone(), sequence: number, tell });
        let committed = async move { told.await.map(Some).map_err(|_| ended()) };
        Ok(Some(Accepted { committed: Box::pin(committed) }))
    }

    /// The next batch; `None` at the end. Cancel-safe.
    pub(super) async fn next(&self) -> Option<Waiting> {
        loop {
            {
                let mut inner = self.inner.lock();
                if let Some(next) = inner.queue.pop_front() {
                    inner.bytes -= next.cost;
                    inner.ledger.read(&next.split, next.rows.num_rows() as u64);
                    self.emptied.notify_waiters();
                    return Some(next);
                }
                if inner.draining {
                    return None;
                }
            }
            self.filled.notified().await;
        }
    }

    /// Positions behind what was read.
    pub(super) fn positions(&self) -> Positions {
        self.inner.lock().ledger.positions()
    }

    /// Tells those who wait for it that an epoch is committed.
    pub(super) fn commit(&self, epoch: Epoch, positions: &Positions) {
        let done: Vec<Listener> = {
            let mut inner = self.inner.lock();
            inner.ledger.commit(positions);
            let Inner { ledger, listeners, .. } = &mut *inner;
            listeners.extract_if(.., |l| l.sequence <= ledger.committed(&l.split)).collect()
        };
        for listener in done {
            // Whoever went away puts the batch again, and is told then.
            listener.tell.send(epoch).ok();
        }
    }

    /// Takes nothing more; what was taken is still read.
    pub(super) fn drain(&self) {
        self.inner.lock().draining = true;
        self.emptied.notify_waiters();
        self.filled.notify_one();
    }

    /// The task is gone: what is not committed is forgotten, and those who wait are told so.
    pub(super) fn close(&self) {
        let listeners = {
            let mut inner = self.inner.lock();
            inner.closed = true;
            inner.queue.clear();
            std::mem::take(&mut inner.listeners)
        };
        drop(listeners);
        self.emptied.notify_waiters();
    }
}

fn ended() -> Error {
    Error::new(Kind::Unavailable, "source-ended", "the source takes nothing more here")
        .help("put what was not acknowledged again once the pipeline runs; GetFlightInfo says where")
}
