//! Edges that can be watched, and who watches them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use conveyor_model::credit::cost;
use conveyor_model::edge::Watchers;
use conveyor_model::{Error, Kind, PipelineId, Result};
use parking_lot::Mutex;
use tokio::sync::Notify;

/// Bytes that wait for one viewer at most.
const VIEWER_BYTES: u64 = 4 << 20;
/// Viewers of one edge at most.
const MOST_VIEWERS: usize = 16;

type Key = (PipelineId, String);

/// All edges of this process that can be watched.
#[derive(Default)]
pub struct Taps {
    edges: Mutex<BTreeMap<Key, Weak<EdgeTap>>>,
}

impl Taps {
    /// No edges yet.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// The edge `edge` of `pipeline`, whose rows have `schema`; it can be watched until the last handle is dropped.
    ///
    /// All subtasks that send on an edge share its handle. After a change of the schema a new one replaces the old.
    pub fn edge(&self, pipeline: &PipelineId, edge: &str, schema: &SchemaRef) -> Arc<EdgeTap> {
        let mut edges = self.edges.lock();
        edges.retain(|_, tap| tap.strong_count() > 0);
        let key = (pipeline.clone(), edge.to_owned());
        if let Some(tap) = edges.get(&key).and_then(Weak::upgrade).filter(|tap| tap.schema == *schema) {
            return tap;
        }
        let tap = Arc::new(EdgeTap {
            schema: schema.clone(),
            watched: AtomicUsize::new(0),
            viewers: Mutex::default(),
        });
        edges.insert(key, Arc::downgrade(&tap));
        tap
    }

    /// The edge of that name.
    ///
    /// # Errors
    /// `BadInput` if there is none here.
    pub(crate) fn find(&self, pipeline: &PipelineId, edge: &str) -> Result<Arc<EdgeTap>> {
        let key = (pipeline.clone(), edge.to_owned());
        self.edges.lock().get(&key).and_then(Weak::upgrade).ok_or_else(|| {
            Error::bad_input("edge-unknown", format!("no edge `{edge}` of {pipeline} starts here"))
                .help("GetFlightInfo says where it starts")
        })
    }
}

/// An edge, as those who send on it see it.
pub struct EdgeTap {
    pub(crate) schema: SchemaRef,
    watched: AtomicUsize,
    viewers: Mutex<Vec<Arc<Queue>>>,
}

impl Watchers for EdgeTap {
    fn are_there(&self) -> bool {
        self.watched.load(Ordering::Relaxed) > 0
    }

    fn show(&self, rows: &RecordBatch) {
        if !self.are_there() || rows.num_rows() == 0 {
            return;
        }
        let cost = cost(rows);
        for queue in self.viewers.lock().iter() {
            queue.offer(rows, cost);
        }
    }
}

impl EdgeTap {
    /// A new viewer.
    ///
    /// # Errors
    /// `Exhausted` if there are too many.
    pub(crate) fn watch(self: Arc<Self>) -> Result<Viewer> {
        let queue = Arc::new(Queue::default());
        let mut viewers = self.viewers.lock();
        if viewers.len() >= MOST_VIEWERS {
            let what = format!("{MOST_VIEWERS} viewers watch the edge already");
            return Err(Error::new(Kind::Exhausted, "too-many-viewers", what));
        }
        viewers.push(queue.clone());
        self.watched.store(viewers.len(), Ordering::Relaxed);
        drop(viewers);
        // The viewer does not keep the edge: when its senders are gone, so is the edge.
        Ok(Viewer { tap: Arc::downgrade(&self), queue })
    }

    fn unwatch(&self, queue: &Arc<Queue>) {
        let mut viewers = self.viewers.lock();
        viewers.retain(|q| !Arc::ptr_eq(q, queue));
        self.watched.store(viewers.len(), Ordering::Relaxed);
    }
}

impl Drop for EdgeTap {
    fn drop(&mut self) {
        self.viewers.get_mut().iter().for_each(|queue| queue.close());
    }
}

/// What waits for one viewer.
#[derive(Default)]
struct Queue {
    inner: Mutex<Waiting>,
    changed: Notify,
}

#[derive(Default)]
struct Waiting {
    batches: VecDeque<(RecordBatch, u64)>,
    bytes: u64,
    missed: u64,
    closed: bool,
}

impl Queue {
    fn offer(&self, rows: &RecordBatch, cost: u64) {
        {
            let mut inner = self.inner.lock();
            // A batch larger than the whole queue goes alone.
            if inner.bytes + cost > VIEWER_BYTES && inner.bytes > 0 {
                inner.missed += rows.num_rows() as u64;
                return;
            }
            inner.bytes += cost;
            inner.batches.push_back((rows.clone(), cost));
        }
        self.changed.notify_one();
    }

    fn close(&self) {
        self.inner.lock().closed = true;
        self.changed.notify_one();
    }
}

/// Watches an edge until it is dropped.
pub(crate) struct Viewer {
    tap: Weak<EdgeTap>,
    queue: Arc<Queue>,
}

impl Viewer {
    /// The next batch, and how many rows were missed so far; `None` when the edge is gone. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Option<(RecordBatch, u64)> {
        loop {
            let changed = self.queue.changed.notified();
            {
                let mut inner = self.queue.inner.lock();
                if let Some((rows, cost)) = inner.batches.pop_front() {
                    inner.bytes -= cost;
                    return Some((rows, inner.missed));
                }
                if inner.closed {
                    return None;
                }
            }
            changed.await;
        }
    }
}

impl Drop for Viewer {
    fn drop(&mut self) {
        if let Some(tap) = self.tap.upgrade() {
            tap.unwatch(&self.queue);
        }
    }
}
