//! The dataflow while it is planned: sources, steps and sinks as vertices, each after those it takes rows from.

use arrow_schema::SchemaRef;
use conveyor_model::step::Op;

/// A vertex.
#[derive(Debug, Clone)]
pub(crate) struct Vertex {
    /// Stable and unique in the plan.
    pub(crate) id: String,
    pub(crate) kind: Kind,
    pub(crate) inputs: Vec<Port>,
    /// Schema of the rows it hands on; of the rows it takes for a sink.
    pub(crate) schema: SchemaRef,
    pub(crate) parallelism: u32,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Kind {
    /// Index of the pipeline's source.
    Source(usize),
    Op(Op),
    /// Hands its rows on.
    Pass,
    /// Index of the pipeline's sink.
    Sink(usize),
}

/// Rows of another vertex, all or those for which a condition holds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Port {
    /// Index of the vertex; always lower than that of the vertex that has the port.
    pub(crate) from: usize,
    pub(crate) when: Option<String>,
}

/// Both conditions.
pub(crate) fn both(a: Option<&str>, b: Option<&str>) -> Option<String> {
    match (a, b) {
        (Some(a), Some(b)) => Some(format!("({a}) AND ({b})")),
        (a, b) => a.or(b).map(str::to_owned),
    }
}

/// How many ports take rows of each vertex.
pub(crate) fn consumers(flow: &[Vertex]) -> Vec<usize> {
    let mut count = vec![0; flow.len()];
    for port in flow.iter().flat_map(|v| &v.inputs) {
        count[port.from] += 1;
    }
    count
}
