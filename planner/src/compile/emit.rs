//! The flow to a plan: cut into nodes, columns left out where nobody needs them, edges between the nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow_schema::{Schema, SchemaRef};
use conveyor_model::plan::{
    Edge, FORMAT, Forget, LookupPlan, Node, NodeInput, NodeOutput, Partition, Plan, SinkPlan, SourcePlan,
};
use conveyor_model::step::{Op, Step};
use conveyor_model::{NodeId, PipelineId};

use super::flow::{Kind, Vertex, consumers};
use super::needs::{before, everything, narrowed, needed};
use super::optimize::Optimized;
use super::output::{Wrong, output};
use super::{Catalog, Options};
use crate::graph::Graph;

/// Builds the plan.
pub(crate) fn emit(
    optimized: Optimized,
    pipeline: &PipelineId,
    graph: &Graph,
    catalog: &Catalog,
    options: &Options,
    notes: &mut Vec<String>,
) -> Result<Plan, Wrong> {
    let Optimized { flow, predicates } = optimized;
    let event_time = |s: usize| graph.sources[s].event_time.as_ref().map(|e| e.value.column.clone());
    let mut e = Emitter {
        needed: if graph.dlq.whole_rows { everything(&flow) } else { needed(&flow, event_time) },
        starts: starts(&flow),
        flow: &flow,
        graph,
        catalog,
        options,
        nodes: Vec::new(),
        edges: Vec::new(),
        node_of: Vec::new(),
        out: Vec::new(),
        predicates,
    };
    for v in 0..flow.len() {
        e.vertex(v)?;
    }
    let Emitter { nodes, edges, .. } = e;
    let lookups = lookups(&nodes, graph, catalog);
    for source in nodes.iter().filter_map(|n| match &n.input {
        NodeInput::Source(source) => Some(source),
        NodeInput::Edges => None,
    }) {
        let (read, all) = (source.projection.len(), source.full_schema.fields().len());
        if read < all {
            notes.push(format!("{}: {read} of {all} columns are read", source.name));
        }
    }
    Ok(Plan {
        format: FORMAT,
        pipeline: pipeline.clone(),
        mode: graph.mode,
        delivery: graph.delivery,
        checkpoint_interval_ms: graph.checkpoint_ms,
        nodes,
        edges,
        lookups,
        dlq: graph.dlq.clone(),
        forget: Forget::default(),
        placement: graph.placement.clone(),
    })
}

/// Whether each vertex begins a node of its own. The others run in the task of the vertex before them.
fn starts(flow: &[Vertex]) -> Vec<bool> {
    let count = consumers(flow);
    let alone = |vertex: &Vertex| match &vertex.kind {
        Kind::Source(_) | Kind::Sink(_) => true,
        // These need rows spread in their own way, or hold rows back, or keep state that is found by its node's name.
        Kind::Op(Op::Dedupe(_) | Op::RateLimit { .. } | Op::MergeByTime { .. }) => true,
        Kind::Op(_) | Kind::Pass => false,
    };
    let fits = |vertex: &Vertex| match vertex.inputs.as_slice() {
        [port] => {
            port.when.is_none() && count[port.from] == 1 && flow[port.from].parallelism == vertex.parallelism
        }
        _ => false,
    };
    flow.iter().map(|v| alone(v) || !fits(v)).collect()
}

struct Emitter<'a> {
    flow: &'a [Vertex],
    graph: &'a Graph,
    catalog: &'a Catalog,
    options: &'a Options,
    needed: Vec<BTreeSet<String>>,
    starts: Vec<bool>,
    nodes: Vec<Node>,
    edges: Vec<Edge>,
    /// Node of each vertex.
    node_of: Vec<usize>,
    /// Schema of each vertex's rows after columns were left out.
    out: Vec<SchemaRef>,
    predicates: BTreeMap<usize, conveyor_model::predicate::Predicate>,
}

fn identity(columns: &[String]) -> Vec<(String, String)> {
    columns.iter().map(|c| (c.clone(), c.clone())).collect()
}

fn names(schema: &Schema) -> Vec<String> {
    schema.fields().iter().map(|f| f.name().clone()).collect()
}

fn picked(schema: &Schema, columns: &[String]) -> SchemaRef {
    let fields = columns.iter().filter_map(|c| schema.field_with_name(c).ok().cloned());
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

impl Emitter<'_> {
    fn vertex(&mut self, v: usize) -> Result<(), Wrong> {
        let vertex = &self.flow[v];
        let input = match (&vertex.kind, self.starts[v]) {
            (Kind::Source(source), _) => self.source(v, *source),
            (_, true) => self.begin(v),
            (_, false) => self.go_on(v),
        };
        let schema = match &vertex.kind {
            Kind::Op(op) => self.op(v, op, input)?,
            _ => input,
        };
        let node = self.node_of[v];
        self.nodes[node].schema = schema.clone();
        self.out.push(schema);
        Ok(())
    }

    /// Columns that the vertex takes of its input, in the order that all inputs share.
    fn wanted(&self, v: usize, from: usize) -> Vec<String> {
        let wide = &self.flow[from].schema;
        if self.graph.dlq.whole_rows {
            return names(wide);
        }
        let need = before(&self.flow[v].kind, &self.needed[v], wide);
        let mut columns: Vec<String> = names(wide).into_iter().filter(|c| need.contains(c)).collect();
        if columns.is_empty() {
            columns.extend(names(wide).into_iter().find(|c| self.out[from].field_with_name(c).is_ok()));
        }
        columns
    }

    fn node(&mut self, v: usize, input: NodeInput, output: NodeOutput, schema: SchemaRef) {
        let vertex = &self.flow[v];
        let index = self.nodes.len();
        self.node_of.push(index);
        self.nodes.push(Node {
            id: NodeId(index as u32),
            name: vertex.id.clone(),
            parallelism: vertex.parallelism,
            input,
            steps: Vec::new(),
            output,
            schema,
        });
    }

    fn source(&mut self, v: usize, source: usize) -> SchemaRef {
        let def = &self.graph.sources[source];
        let full = self.flow[v].schema.clone();
        let projection: Vec<String> =
            names(&full).into_iter().filter(|c| self.needed[v].contains(c)).collect();
        let schema = picked(&full, &projection);
        let (connector, config) =
            def.connector.as_ref().map(|c| (c.name.clone(), c.config.clone())).unwrap_or_default();
        let plan = SourcePlan {
            name: def.name.value.clone(),
            connector,
            config,
            full_schema: full,
            projection,
            predicate: self.predicates.get(&source).cloned().unwrap_or_default(),
            event_time: def.event_time.as_ref().map(|e| e.value.clone()),
            retry: def.retry,
        };
        self.node(v, NodeInput::Source(Box::new(plan)), NodeOutput::Edges, schema.clone());
        schema
    }

    /// Begins a node with an edge from every input. Returns the schema of what comes in.
    fn begin(&mut self, v: usize) -> SchemaRef {
        let vertex = &self.flow[v];
        let output = match vertex.kind {
            Kind::Sink(sink) => NodeOutput::Sink(Box::new(self.sink(sink))),
            _ => NodeOutput::Edges,
        };
        let index = self.nodes.len();
        let mut input = Arc::new(Schema::empty());
        for port in &vertex.inputs {
            let columns = self.wanted(v, port.from);
            let sent = &self.out[port.from];
            let projection = (names(sent) != columns).then(|| identity(&columns));
            let from = &self.nodes[self.node_of[port.from]];
            input = picked(sent, &columns);
            let partition = match &vertex.kind {
                Kind::Op(Op::Dedupe(dedupe)) => Partition::Hash(dedupe.keys.clone()),
                _ if from.parallelism == vertex.parallelism => Partition::Forward,
                _ => Partition::RoundRobin,
            };
            let name = format!("{}->{}", from.name, vertex.id);
            let same = self.edges.iter().filter(|e| e.from == from.id && e.to.0 as usize == index).count();
            self.edges.push(Edge {
                name: if same == 0 { name } else { format!("{name}#{}", same + 1) },
                from: from.id,
                to: NodeId(index as u32),
                partition,
                when: port.when.clone(),
                projection,
                schema: input.clone(),
                window_bytes: self.options.window_bytes,
            });
        }
        self.node(v, NodeInput::Edges, output, input.clone());
        input
    }

    /// Goes on in the node of the vertex before. Behind a filter, columns that nobody needs any more are left out at
    /// once, so that they are not gathered.
    fn go_on(&mut self, v: usize) -> SchemaRef {
        let from = self.flow[v].inputs[0].from;
        self.node_of.push(self.node_of[from]);
        let columns = self.wanted(v, from);
        let sent = self.out[from].clone();
        let kept: Vec<String> = names(&sent).into_iter().filter(|c| columns.contains(c)).collect();
        let projects = matches!(self.flow[v].kind, Kind::Op(Op::Project { .. }));
        let filters = matches!(self.flow[from].kind, Kind::Op(Op::Filter { .. }));
        if projects || !filters || kept.len() == sent.fields().len() {
            return sent;
        }
        let schema = picked(&sent, &kept);
        let id = format!("{}.columns", self.flow[from].id);
        let op = Op::Project { columns: identity(&kept) };
        self.push_step(v, Step { name: id.clone(), id, op, input: sent, output: schema.clone() });
        schema
    }

    fn push_step(&mut self, v: usize, step: Step) {
        let node = self.node_of[v];
        self.nodes[node].steps.push(step);
    }

    fn op(&mut self, v: usize, op: &Op, input: SchemaRef) -> Result<SchemaRef, Wrong> {
        let op = narrowed(op, &self.needed[v]);
        if matches!(&op, Op::Mask { columns, .. } if columns.is_empty()) {
            return Ok(input);
        }
        let table = match &op {
            Op::Lookup(lookup) => self.catalog.lookups.get(&lookup.table),
            _ => None,
        };
        let after = output(&op, &input, table)?;
        let id = self.flow[v].id.clone();
        self.push_step(v, Step { name: id.clone(), id, op, input, output: after.clone() });
        Ok(after)
    }

    fn sink(&self, sink: usize) -> SinkPlan {
        let sink = &self.graph.sinks[sink];
        let (connector, config) =
            sink.def.connector.as_ref().map(|c| (c.name.clone(), c.config.clone())).unwrap_or_default();
        let best = self.catalog.registry.sinks.get(connector.as_str()).map(|c| c.delivery());
        SinkPlan {
            name: sink.def.name.value.clone(),
            delivery: best.map_or(self.graph.delivery, |b| b.min(self.graph.delivery)),
            connector,
            config,
            retry: sink.retry,
        }
    }
}

/// The lookups that steps still use, with the columns that they use.
fn lookups(nodes: &[Node], graph: &Graph, catalog: &Catalog) -> BTreeMap<String, LookupPlan> {
    let mut used: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for step in nodes.iter().flat_map(|n| &n.steps) {
        if let Op::Lookup(lookup) = &step.op {
            let columns = used.entry(&lookup.table).or_default();
            columns.extend(lookup.on.iter().map(|(_, key)| key.as_str()));
            columns.extend(lookup.select.iter().map(|(_, from)| from.as_str()));
        }
    }
    let plan = |(name, columns): (&str, BTreeSet<&str>)| {
        let (def, schema) = (graph.lookups.get(name)?, catalog.lookups.get(name)?);
        let connector = def.connector.as_ref()?;
        let plan = LookupPlan {
            connector: connector.name.clone(),
            config: connector.config.clone(),
            declared: def.declared.clone(),
            projection: names(schema).into_iter().filter(|c| columns.contains(c.as_str())).collect(),
            schema: schema.clone(),
            refresh_ms: def.refresh_ms,
        };
        Some((name.to_owned(), plan))
    };
    used.into_iter().filter_map(plan).collect()
}
