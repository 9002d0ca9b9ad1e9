//! What a running pipeline tells of itself: counters that tasks raise and anyone may read at any time.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};

use conveyor_epoch::{EpochMetrics, EpochSnapshot};
use conveyor_model::edge::Meter;
use conveyor_model::plan::{NodeInput, NodeOutput, Partition, Plan};
use conveyor_model::{NodeId, RowCounters, TaskId, Watermark};
use parking_lot::Mutex;
use std::sync::Arc;

use crate::task::shares::add_codes;

/// Marks a number that is not known.
const UNKNOWN: u64 = u64::MAX;

/// Counters of one pipeline since its start in this process.
#[derive(Debug)]
pub struct Metrics {
    nodes: Vec<Arc<NodeMetrics>>,
    edges: Vec<EdgeMetrics>,
    epoch: Arc<EpochMetrics>,
    now_us: AtomicU64,
}

impl Metrics {
    /// Counters for the nodes and edges of a plan, all zero.
    pub fn new(plan: &Plan) -> Self {
        let nodes = plan.nodes.iter().map(|n| {
            let kind = match (&n.input, &n.output) {
                (NodeInput::Source(_), _) => "source",
                (_, NodeOutput::Sink(_)) => "sink",
                _ => "stage",
            };
            Arc::new(NodeMetrics::new(n.name.clone(), kind, n.parallelism))
        });
        let edges = plan.edges.iter().map(|e| {
            let (from, to) = (plan.node(e.from).parallelism, plan.node(e.to).parallelism);
            let channels = if e.partition == Partition::Forward { from } else { from * to };
            EdgeMetrics { name: e.name.clone(), channels: (0..channels).map(|_| Arc::default()).collect() }
        });
        Self {
            nodes: nodes.collect(),
            edges: edges.collect(),
            epoch: Arc::default(),
            now_us: AtomicU64::new(0),
        }
    }

    /// Everything as it is now.
    pub fn snapshot(&self) -> Snapshot {
        let now_us = self.now_us.load(Relaxed);
        let nodes: Vec<NodeSnapshot> = self.nodes.iter().map(|n| n.snapshot()).collect();
        Snapshot {
            discarded_intentional: nodes.iter().map(|n| n.counters.filtered).sum(),
            discarded_unintentional: nodes.iter().map(|n| n.counters.dead_letters).sum(),
            edges: self.edges.iter().map(|e| e.snapshot(now_us)).collect(),
            epoch: self.epoch.snapshot(now_us),
            nodes,
        }
    }

    /// Brings ages up to date, in microseconds of the monotonic clock: nothing here reads one.
    pub fn set_now(&self, now_us: u64) {
        self.now_us.store(now_us, Relaxed);
    }

    pub(crate) fn node(&self, id: NodeId) -> Arc<NodeMetrics> {
        self.nodes[id.0 as usize].clone()
    }

    pub(crate) fn channel(&self, edge: usize, channel: usize) -> Arc<ChannelMetrics> {
        self.edges[edge].channels[channel].clone()
    }

    pub(crate) fn epoch(&self) -> &Arc<EpochMetrics> {
        &self.epoch
    }
}

/// A pipeline's counters at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// Nodes in plan order.
    pub nodes: Vec<NodeSnapshot>,
    /// Edges in plan order.
    pub edges: Vec<EdgeSnapshot>,
    /// Epochs.
    pub epoch: EpochSnapshot,
    /// Rows dropped on purpose.
    pub discarded_intentional: u64,
    /// Rows that are missing from the output because they failed; they are kept as dead letters.
    pub discarded_unintentional: u64,
}

impl Snapshot {
    /// Rows that all sources have taken in.
    pub fn source_rows(&self) -> u64 {
        self.nodes.iter().filter(|n| n.kind == "source").map(|n| n.counters.rows_in).sum()
    }

    /// Whether every source has looked and found nothing more to read.
    pub fn sources_idle(&self) -> bool {
        self.nodes.iter().filter(|n| n.kind == "source").all(|n| n.idle)
    }
}

/// One node's counters at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeSnapshot {
    /// Name in the plan.
    pub name: String,
    /// `source`, `stage` or `sink`.
    pub kind: &'static str,
    /// Rows and bytes.
    pub counters: RowCounters,
    /// Least watermark of its subtasks.
    pub watermark: Option<Watermark>,
    /// Bytes that a source is to read in all, where known.
    pub bytes_total: Option<u64>,
    /// Bytes of those that it has read.
    pub bytes_read: Option<u64>,
    /// Dead letters by code.
    pub rejected: BTreeMap<String, u64>,
    /// A source of which every subtask has found nothing more to read when it last looked.
    pub idle: bool,
}

/// One edge's counters at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct EdgeSnapshot {
    /// Name in the plan.
    pub name: String,
    /// Rows sent.
    pub rows: u64,
    /// Bytes of credit spent.
    pub bytes: u64,
    /// Batches sent.
    pub batches: u64,
    /// Credit left, over all channels.
    pub credits_available: u64,
    /// Credit granted and not yet refunded, over all channels: what is left and what is in flight.
    pub window: u64,
    /// Seconds that senders waited for credit, summed over channels: the edge with most is the slow one.
    pub starved_seconds: f64,
}

/// Counters of one node.
#[derive(Debug)]
pub(crate) struct NodeMetrics {
    name: String,
    kind: &'static str,
    rows_in: AtomicU64,
    rows_out: AtomicU64,
    dead_letters: AtomicU64,
    filtered: AtomicU64,
    expanded: AtomicU64,
    bytes: AtomicU64,
    rejected: Mutex<BTreeMap<String, u64>>,
    subtasks: Vec<SubtaskMetrics>,
}

#[derive(Debug)]
struct SubtaskMetrics {
    watermark: AtomicI64,
    total: AtomicU64,
    read: AtomicU64,
    idle: AtomicBool,
}

impl NodeMetrics {
    fn new(name: String, kind: &'static str, parallelism: u32) -> Self {
        let subtasks = (0..parallelism).map(|_| SubtaskMetrics {
            watermark: AtomicI64::new(i64::MIN),
            total: AtomicU64::new(UNKNOWN),
            read: AtomicU64::new(0),
            idle: AtomicBool::new(false),
        });
        Self {
            name,
            kind,
            rows_in: AtomicU64::default(),
            rows_out: AtomicU64::default(),
            dead_letters: AtomicU64::default(),
            filtered: AtomicU64::default(),
            expanded: AtomicU64::default(),
            bytes: AtomicU64::default(),
            rejected: Mutex::default(),
            subtasks: subtasks.collect(),
        }
    }

    pub(crate) fn kind(&self) -> &'static str {
        self.kind
    }

    pub(crate) fn add(&self, delta: &RowCounters) {
        let RowCounters { rows_in, rows_out, dead_letters, filtered, expanded, bytes } = delta;
        self.rows_in.fetch_add(*rows_in, Relaxed);
        self.rows_out.fetch_add(*rows_out, Relaxed);
        self.dead_letters.fetch_add(*dead_letters, Relaxed);
        self.filtered.fetch_add(*filtered, Relaxed);
        self.expanded.fetch_add(*expanded, Relaxed);
        self.bytes.fetch_add(*bytes, Relaxed);
    }

    pub(crate) fn reject(&self, codes: &BTreeMap<String, u64>) {
        add_codes(&mut self.rejected.lock(), codes);
    }

    pub(crate) fn watermark(&self, task: TaskId, watermark: Watermark) {
        self.subtasks[task.subtask as usize].watermark.store(watermark.0, Relaxed);
    }

    pub(crate) fn progress(&self, task: TaskId, total: u64, read: u64) {
        let subtask = &self.subtasks[task.subtask as usize];
        subtask.total.store(total, Relaxed);
        subtask.read.store(read, Relaxed);
    }

    /// Says whether a source subtask's last look found nothing.
    pub(crate) fn idle(&self, task: TaskId, idle: bool) {
        self.subtasks[task.subtask as usize].idle.store(idle, Relaxed);
    }

    fn snapshot(&self) -> NodeSnapshot {
        let counters = RowCounters {
            rows_in: self.rows_in.load(Relaxed),
            rows_out: self.rows_out.load(Relaxed),
            dead_letters: self.dead_letters.load(Relaxed),
            filtered: self.filtered.load(Relaxed),
            expanded: self.expanded.load(Relaxed),
            bytes: self.bytes.load(Relaxed),
        };
        let least = self.subtasks.iter().map(|s| s.watermark.load(Relaxed)).min();
        let known: Vec<_> = self.subtasks.iter().filter(|s| s.total.load(Relaxed) != UNKNOWN).collect();
        let sum = |of: fn(&SubtaskMetrics) -> &AtomicU64| {
            (!known.is_empty()).then(|| known.iter().map(|s| of(s).load(Relaxed)).sum())
        };
        NodeSnapshot {
            name: self.name.clone(),
            kind: self.kind,
            counters,
            watermark: least.filter(|&w| w != i64::MIN).map(Watermark),
            bytes_total: sum(|s| &s.total),
            bytes_read: sum(|s| &s.read),
            rejected: self.rejected.lock().clone(),
            idle: self.subtasks.iter().all(|s| s.idle.load(Relaxed)),
        }
    }
}

#[derive(Debug)]
struct EdgeMetrics {
    name: String,
    channels: Vec<Arc<ChannelMetrics>>,
}

impl EdgeMetrics {
    fn snapshot(&self, now_us: u64) -> EdgeSnapshot {
        let sum = |of: &dyn Fn(&ChannelMetrics) -> u64| self.channels.iter().map(|c| of(c)).sum::<u64>();
        let available = sum(&|c| c.credit().0);
        EdgeSnapshot {
            name: self.name.clone(),
            rows: sum(&|c| c.rows.load(Relaxed)),
            bytes: sum(&|c| c.bytes.load(Relaxed)),
            batches: sum(&|c| c.batches.load(Relaxed)),
            credits_available: available,
            window: available + sum(&|c| c.credit().1),
            starved_seconds: sum(&|c| c.starved_us(now_us)) as f64 / 1e6,
        }
    }
}

/// Counters of one channel.
#[derive(Debug, Default)]
pub(crate) struct ChannelMetrics {
    rows: AtomicU64,
    bytes: AtomicU64,
    batches: AtomicU64,
    available: AtomicU64,
    in_flight: AtomicU64,
    starved_us: AtomicU64,
    /// Start of the wait under way plus one, 0 for none.
    waiting_since: AtomicU64,
}

impl ChannelMetrics {
    pub(crate) fn sent(&self, rows: u64, cost: u64) {
        self.rows.fetch_add(rows, Relaxed);
        self.bytes.fetch_add(cost, Relaxed);
        self.batches.fetch_add(1, Relaxed);
    }

    /// Credit left, and credit in flight.
    pub(crate) fn credit(&self) -> (u64, u64) {
        (self.available.load(Relaxed), self.in_flight.load(Relaxed))
    }

    pub(crate) fn starved_us(&self, now_us: u64) -> u64 {
        let under_way = match self.waiting_since.load(Relaxed) {
            0 => 0,
            since => now_us.saturating_sub(since - 1),
        };
        self.starved_us.load(Relaxed) + under_way
    }
}

impl Meter for ChannelMetrics {
    fn credits(&self, available: u64, in_flight: u64) {
        self.available.store(available, Relaxed);
        self.in_flight.store(in_flight, Relaxed);
    }

    fn starving(&self, since_us: u64) {
        self.waiting_since.store(since_us + 1, Relaxed);
    }

    fn starved(&self, for_us: u64) {
        self.waiting_since.store(0, Relaxed);
        self.starved_us.fetch_add(for_us, Relaxed);
    }
}
