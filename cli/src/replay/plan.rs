//! The plan of a replay: the part of a pipeline's plan from the failed step on, with dead letters as its source.

use std::collections::BTreeMap;

use arrow::datatypes::{Schema, SchemaRef};
use conveyor_model::plan::{Mode, Node, NodeInput, NodeOutput, Partition, Plan, Retry, SourcePlan};
use conveyor_model::predicate::Predicate;
use conveyor_model::{Error, NodeId, PipelineId, Result};

use super::source::{CONNECTOR, Config};

/// Where rows re-enter.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    node: NodeId,
    /// Steps of the node that are skipped.
    skip: usize,
    /// Schema that rows have there.
    schema: SchemaRef,
    /// The source whose records never became rows.
    source: Option<SourcePlan>,
}

impl Entry {
    /// Finds the step, source or sink with this operator id. Raw records re-enter at their source.
    ///
    /// # Errors
    /// `step-gone` if the current plan has none.
    pub fn find(plan: &Plan, operator: &str, raw: bool) -> Result<Self> {
        for node in &plan.nodes {
            if let Some(skip) = node.steps.iter().position(|s| s.id == operator) {
                let schema = node.steps[skip].input.clone();
                return Ok(Self { node: node.id, skip, schema, source: None });
            }
            match &node.input {
                NodeInput::Source(source) if source.name == operator => {
                    let schema = node.steps.first().map_or(&node.schema, |s| &s.input).clone();
                    let source = raw.then(|| source.as_ref().clone());
                    return Ok(Self { node: node.id, skip: 0, schema, source });
                }
                _ if node.name == operator => {
                    return Ok(Self {
                        node: node.id,
                        skip: node.steps.len(),
                        schema: node.schema.clone(),
                        source: None,
                    });
                }
                _ => {}
            }
        }
        Err(Error::bad_input(
            "step-gone",
            format!("the current manifest has no step `{operator}` that rows could re-enter at"),
        )
        .in_pipeline(&plan.pipeline)
        .help("replay under a manifest that still has it, or purge these letters"))
    }
}

impl Entry {
    /// Columns that rows have here and that rows of this schema lack.
    pub fn lacking(&self, rows: &Schema) -> Vec<String> {
        let names = self.schema.fields().iter().map(|f| f.name());
        names.filter(|name| rows.field_with_name(name).is_err()).cloned().collect()
    }
}

/// Derives the plan of one replay.
///
/// # Errors
/// If the configuration of the letters' source cannot be written down.
pub fn derive(plan: &Plan, entry: &Entry, id: PipelineId, file: String) -> Result<Plan> {
    let config = Config { file, source: entry.source.as_ref().map(|s| s.config.clone()) };
    let config = serde_json::to_value(config)
        .map_err(|e| Error::runtime("replay-config", "a replay cannot be planned").because(e))?;
    let (full_schema, projection) = match &entry.source {
        Some(source) => (source.full_schema.clone(), source.projection.clone()),
        None => (entry.schema.clone(), entry.schema.fields().iter().map(|f| f.name().clone()).collect()),
    };
    let at = plan.node(entry.node);
    let source = SourcePlan {
        name: at.name.clone(),
        connector: CONNECTOR.to_string(),
        config,
        full_schema,
        projection,
        predicate: Predicate::default(),
        event_time: None,
        retry: Retry::default(),
    };
    let first = Node {
        input: NodeInput::Source(Box::new(source)),
        steps: at.steps[entry.skip..].to_vec(),
        // One subtask reads the letters, so it must know the keys of all subtasks where the node de-duplicates.
        parallelism: 1,
        ..at.clone()
    };
    let mut derived = below(plan, first);
    derived.pipeline = id;
    derived.mode = Mode::Job;
    for node in &mut derived.nodes {
        if let NodeOutput::Sink(sink) = &mut node.output
            && let Some(settings) = sink.config.as_object_mut()
            && sink.connector == "file"
        {
            // A sink that makes one file has made it: a replay adds to it.
            settings.insert("existing".to_string(), "append".into());
        }
    }
    // All rows of a replay have failed before: how many fail again says nothing about the data that flows.
    derived.dlq.max_ratio = 1.0;
    Ok(derived)
}

/// The plan of `first` and all nodes that its rows can reach, numbered anew.
fn below(plan: &Plan, first: Node) -> Plan {
    let mut numbers = BTreeMap::from([(first.id, NodeId(0))]);
    let mut nodes = vec![Node { id: NodeId(0), ..first }];
    for node in &plan.nodes {
        let reached = plan.inputs(node.id).any(|e| numbers.contains_key(&e.from));
        if reached && !numbers.contains_key(&node.id) {
            let id = NodeId(nodes.len() as u32);
            numbers.insert(node.id, id);
            nodes.push(Node { id, ..node.clone() });
        }
    }
    let mut edges = Vec::new();
    for edge in &plan.edges {
        if let (Some(&from), Some(&to)) = (numbers.get(&edge.from), numbers.get(&edge.to)) {
            let mut edge = edge.clone();
            (edge.from, edge.to) = (from, to);
            if from == NodeId(0) && edge.partition == Partition::Forward {
                edge.partition = Partition::RoundRobin;
            }
            edges.push(edge);
        }
    }
    Plan { nodes, edges, ..plan.clone() }
}
