//! The conservation law, checked before every commit: no row is lost or made up, in a node or on an edge.

use std::collections::BTreeMap;

use conveyor_model::manifest::TaskAck;
use conveyor_model::plan::{Node, NodeInput, Plan};
use conveyor_model::step::Op;
use conveyor_model::{Error, Result, RowCounters, TaskId};

/// Checks the acks of one epoch; `sent` holds rows by edge from every task.
///
/// # Errors
/// With the node or edge whose rows do not add up: nothing may be committed then.
pub(crate) fn check(plan: &Plan, acks: &[TaskAck], sent: &BTreeMap<TaskId, Vec<(usize, u64)>>) -> Result<()> {
    let mut counters = vec![RowCounters::default(); plan.nodes.len()];
    for ack in acks {
        counters[ack.task.node.0 as usize].add(&ack.counters);
    }
    let mut received = vec![0; plan.nodes.len()];
    for &(edge, rows) in sent.values().flatten() {
        received[plan.edges[edge].to.0 as usize] += rows;
    }
    for (node, (counters, received)) in plan.nodes.iter().zip(counters.into_iter().zip(received)) {
        if !holds_rows(node) && !counters.conserved() {
            return Err(broken(node, format!("{counters:?}")));
        }
        if matches!(node.input, NodeInput::Edges) && counters.rows_in != received {
            return Err(broken(
                node,
                format!("{received} rows were sent to it, {} arrived", counters.rows_in),
            ));
        }
    }
    Ok(())
}

/// A merge by time keeps rows across epochs, in its state.
fn holds_rows(node: &Node) -> bool {
    node.steps.iter().any(|s| matches!(s.op, Op::MergeByTime { .. }))
}

fn broken(node: &Node, what: String) -> Error {
    Error::runtime("rows-not-conserved", format!("rows do not add up, so the epoch is not committed: {what}"))
        .at(&node.name)
        .help("this is a bug of ours; report it with the manifest. Nothing was lost: the rows are read again")
}
