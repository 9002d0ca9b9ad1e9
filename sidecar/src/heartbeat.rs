//! What a heartbeat says: memory, and the counters of members.

use conveyor_engine::Snapshot;
use conveyor_model::{Incarnation, PipelineId};
use conveyor_proto::v1;

/// Counters of one member.
pub(crate) fn member(id: &PipelineId, incarnation: Incarnation, snapshot: &Snapshot) -> v1::MemberMetrics {
    let nodes = snapshot.nodes.iter().map(|node| v1::NodeMetrics {
        name: node.name.clone(),
        counters: Some((&node.counters).into()),
        watermark: node.watermark.map(|w| w.0),
        rejected: node.rejected.iter().map(|(code, n)| (code.clone(), *n)).collect(),
        idle: node.idle,
    });
    let edges = snapshot.edges.iter().map(|edge| v1::EdgeMetrics {
        name: edge.name.clone(),
        rows: edge.rows,
        bytes: edge.bytes,
        batches: edge.batches,
        credits_available: edge.credits_available,
        window: edge.window,
        starved_seconds: edge.starved_seconds,
    });
    v1::MemberMetrics {
        pipeline: Some(id.into()),
        incarnation: incarnation.0,
        nodes: nodes.collect(),
        edges: edges.collect(),
    }
}

/// Resident memory of this process in bytes; 0 where the system does not say.
pub(crate) fn resident_bytes() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm")
        .ok()
        .and_then(|text| text.split_whitespace().nth(1)?.parse::<u64>().ok());
    pages.unwrap_or(0) * PAGE_BYTES
}

/// Size of a page of memory on all systems that we build for.
const PAGE_BYTES: u64 = 4096;
