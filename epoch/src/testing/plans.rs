//! Plans made by hand.

use std::collections::BTreeMap;

use arrow_schema::SchemaRef;
use conveyor_model::plan::{
    Delivery, DlqPlan, Edge, EventTime, FORMAT, Forget, Mode, Node, NodeInput, NodeOutput, Partition, Plan,
    Retry, SinkPlan, SourcePlan,
};
use conveyor_model::predicate::Predicate;
use conveyor_model::step::{Op, Step};
use conveyor_model::{NodeId, PipelineId};

/// A plan under construction. Nodes are added in topological order.
#[derive(Debug)]
pub struct PlanBuilder(pub Plan, SchemaRef);

impl PlanBuilder {
    /// A plan without nodes; every node and edge has this schema.
    pub fn new(mode: Mode, schema: SchemaRef) -> Self {
        Self(
            Plan {
                format: FORMAT,
                pipeline: PipelineId::new("default", "test"),
                mode,
                delivery: Delivery::ExactlyOnce,
                checkpoint_interval_ms: 5,
                nodes: Vec::new(),
                edges: Vec::new(),
                lookups: BTreeMap::new(),
                dlq: DlqPlan { enabled: true, path: None, max_retries: 3, max_ratio: 1.0, whole_rows: false },
                forget: Forget::default(),
                placement: Default::default(),
            },
            schema,
        )
    }

    fn node(
        &mut self,
        name: &str,
        parallelism: u32,
        input: NodeInput,
        steps: Vec<Step>,
        output: NodeOutput,
    ) -> NodeId {
        let id = NodeId(self.0.nodes.len() as u32);
        let name = name.to_owned();
        self.0.nodes.push(Node { id, name, parallelism, input, steps, output, schema: self.1.clone() });
        id
    }

    /// A source of connector `memory`.
    pub fn source(&mut self, name: &str, parallelism: u32, event_time: Option<EventTime>) -> NodeId {
        let source = SourcePlan {
            name: name.into(),
            connector: "memory".into(),
            config: serde_json::Value::Null,
            full_schema: self.1.clone(),
            projection: self.1.fields().iter().map(|f| f.name().clone()).collect(),
            predicate: Predicate::default(),
            event_time,
            retry: Retry::default(),
        };
        self.node(name, parallelism, NodeInput::Source(Box::new(source)), Vec::new(), NodeOutput::Edges)
    }

    /// A node with these steps.
    pub fn stage(&mut self, name: &str, parallelism: u32, ops: Vec<Op>) -> NodeId {
        let steps = ops.into_iter().enumerate().map(|(i, op)| Step {
            id: format!("{name}-{i}"),
            name: format!("{name}-{i}"),
            op,
            input: self.1.clone(),
            output: self.1.clone(),
        });
        self.node(name, parallelism, NodeInput::Edges, steps.collect(), NodeOutput::Edges)
    }

    /// A sink of connector `memory`.
    pub fn sink(&mut self, name: &str, parallelism: u32) -> NodeId {
        let sink = SinkPlan {
            name: name.into(),
            connector: "memory".into(),
            config: serde_json::Value::Null,
            delivery: Delivery::ExactlyOnce,
            retry: Retry { max_retries: 2, base_ms: 1, max_ms: 1 },
        };
        self.node(name, parallelism, NodeInput::Edges, Vec::new(), NodeOutput::Sink(Box::new(sink)))
    }

    /// An edge with a small window.
    pub fn edge(&mut self, from: NodeId, to: NodeId, partition: Partition) -> &mut Edge {
        let name = format!("{}->{}", self.0.node(from).name, self.0.node(to).name);
        self.0.edges.push(Edge {
            name,
            from,
            to,
            partition,
            when: None,
            projection: None,
            schema: self.1.clone(),
            window_bytes: 4096,
        });
        self.0.edges.last_mut().expect("an edge was just added")
    }
}
