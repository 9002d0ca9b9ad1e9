//! Types flow from the sources through every step to the sinks. Everything that is wrong is reported; the flow that
//! comes out is used only when nothing was.

use std::collections::{BTreeSet, HashMap};

use arrow_schema::{DataType, SchemaRef, TimeUnit};
use conveyor_model::plan::Delivery;
use conveyor_model::step::Op;

use super::flow::{Kind, Port, Vertex, both};
use super::lower::{Context, lower};
use super::output::{normal, output};
use super::rows::Rows;
use super::unite::{Origin, unite};
use super::{Catalog, Options};
use crate::diagnostic::{At, Diagnostics, Located};
use crate::graph::{From, Graph, GraphBody, GraphSink, GraphStep, Input};
use crate::manifest::defs::Body;
use crate::names::short_hash;
use crate::types::type_name;

/// Builds the typed flow of a pipeline.
pub(crate) fn build(
    graph: &Graph,
    catalog: &Catalog,
    options: &Options,
    diags: &mut Diagnostics,
    notes: &mut Vec<String>,
) -> Vec<Vertex> {
    let parallelism = graph.parallelism.unwrap_or(options.default_parallelism).max(1);
    let mut t = Typing {
        graph,
        catalog,
        diags,
        notes,
        parallelism,
        flow: Vec::new(),
        at: HashMap::new(),
        ids: BTreeSet::new(),
    };
    for i in 0..graph.sources.len() {
        t.source(i);
    }
    for lookup in graph.lookups.iter().filter(|(name, _)| !catalog.lookups.contains_key(*name)) {
        let (name, def) = lookup;
        let connector = def.connector.as_ref();
        t.failure(name, "lookup", connector.map_or(&def.name.at, |c| &c.at));
    }
    // Names that people gave are taken before names are made.
    t.ids.extend(graph.steps.iter().filter_map(|s| s.name.as_ref().map(|n| format!("{}{n}", s.scope))));
    for &i in &graph.order {
        t.step(i, &graph.steps[i]);
    }
    for (i, sink) in graph.sinks.iter().enumerate() {
        t.sink(i, sink);
    }
    t.flow
}

/// A source or step that has been typed.
struct Done {
    vertex: usize,
    rows: Rows,
    event_times: Vec<Option<String>>,
    /// Its rows are in event-time order, which more than one subtask would destroy.
    ordered: bool,
}

struct Typing<'a> {
    graph: &'a Graph,
    catalog: &'a Catalog,
    diags: &'a mut Diagnostics,
    notes: &'a mut Vec<String>,
    parallelism: u32,
    flow: Vec<Vertex>,
    at: HashMap<From, Done>,
    ids: BTreeSet<String>,
}

/// Rows of all inputs as one.
struct United {
    ports: Vec<Port>,
    rows: Rows,
    event_times: Vec<Option<String>>,
    ordered: bool,
}

impl Typing<'_> {
    fn unique(&mut self, wanted: String) -> String {
        let mut id = wanted.clone();
        let mut count = 1;
        while !self.ids.insert(id.clone()) {
            count += 1;
            id = format!("{wanted}-{count}");
        }
        id
    }

    fn push(
        &mut self,
        id: String,
        kind: Kind,
        inputs: Vec<Port>,
        schema: SchemaRef,
        parallelism: u32,
    ) -> usize {
        self.flow.push(Vertex { id, kind, inputs, schema, parallelism });
        self.flow.len() - 1
    }

    /// Reports why something could not be discovered; says nothing where discovery was not tried.
    fn failure(&mut self, name: &str, what: &str, at: &At) {
        if let Some(error) = self.catalog.failures.get(name) {
            let help = error.help_text().map(str::to_owned);
            let bare = error.to_string();
            // The code and the help have places of their own in a diagnostic.
            let bare = bare.split(&format!(" [{}]", error.code())).next().unwrap_or_default();
            self.diags.error_help(error.code(), at, format!("the {what} cannot be read: {bare}"), help);
        }
    }

    fn source(&mut self, i: usize) {
        let def = &self.graph.sources[i];
        let name = def.name.value.clone();
        let rows = match self.catalog.sources.get(&name) {
            Some(found) => Rows::of(normal(&found.schema)),
            None => {
                let at = def.connector.as_ref().map_or(&def.name.at, |c| &c.at);
                self.failure(&name, "source", at);
                Rows::unknown()
            }
        };
        if let Some(found) = self.catalog.sources.get(&name) {
            self.notes.extend(found.notes.iter().map(|n| format!("{name}: {n}")));
            self.twice(&found.schema, &name, &def.declared_at);
        }
        if let Some(event_time) = &def.event_time {
            let column = Located { value: event_time.value.column.clone(), at: event_time.at.clone() };
            match rows.column(&column, self.diags) {
                None | Some(DataType::Timestamp(TimeUnit::Microsecond, Some(_)) | DataType::Date32) => {}
                Some(other) => {
                    let message = format!(
                        "the event time `{}` is {}, not timestamp or date",
                        column.value,
                        type_name(&other)
                    );
                    let help = format!("declare it: `schema: {{{}: timestamp}}`", column.value);
                    self.diags.error_help("type-mismatch", &column.at, message, help);
                }
            }
        }
        self.ids.insert(name.clone());
        let parallelism = def.parallelism.unwrap_or(self.parallelism);
        let vertex = self.push(name, Kind::Source(i), Vec::new(), rows.schema.clone(), parallelism);
        let event_times = vec![def.event_time.as_ref().map(|e| e.value.column.clone())];
        self.at.insert(From::Source(i), Done { vertex, rows, event_times, ordered: false });
    }

    fn twice(&mut self, schema: &SchemaRef, name: &str, at: &At) {
        let mut seen = BTreeSet::new();
        if let Some(field) = schema.fields().iter().find(|f| !seen.insert(f.name())) {
            let message = format!("the source `{name}` has two columns called `{}`", field.name());
            self.diags.error_help(
                "duplicate-column",
                at,
                message,
                "rename one of them in the data".to_owned(),
            );
        }
    }

    /// Brings the inputs to one schema, with steps of their own where they differ.
    fn unite(&mut self, inputs: &[Input], at: &At, user: &str) -> United {
        let mut origins = Vec::new();
        let mut ports = Vec::new();
        let mut event_times = Vec::new();
        let mut ordered = !inputs.is_empty();
        for input in inputs {
            let Some(done) = self.at.get(&input.from) else { continue };
            let name = self.flow[done.vertex].id.clone();
            origins.push(Origin { name, rows: done.rows.clone() });
            ports.push(Port { from: done.vertex, when: input.when.as_ref().map(|w| w.value.clone()) });
            event_times.extend(done.event_times.iter().cloned());
            ordered &= done.ordered;
        }
        if origins.len() < inputs.len() {
            // An input in a circle, which has been reported.
            return United { ports, rows: Rows::unknown(), event_times, ordered };
        }
        let (rows, adapt) = unite(&origins, at, self.diags, self.notes);
        event_times.sort();
        event_times.dedup();
        if rows.is_sure() {
            for ((port, ops), origin) in ports.iter_mut().zip(adapt).zip(&origins) {
                let mut schema = origin.rows.schema.clone();
                for op in ops {
                    let Ok(after) = output(&op, &schema, None) else { break };
                    schema = after;
                    let id = self.unique(format!("{}.as-{user}.{}", origin.name, op.kind()));
                    let parallelism = if ordered { 1 } else { self.parallelism };
                    let from = std::mem::replace(port, Port { from: 0, when: None });
                    port.from = self.push(id, Kind::Op(op), vec![from], schema.clone(), parallelism);
                }
            }
        }
        // Several inputs that are each in order are not in order together.
        ordered &= inputs.len() == 1;
        United { ports, rows, event_times, ordered }
    }

    fn step(&mut self, i: usize, step: &GraphStep) {
        let user = step.name.clone().unwrap_or_else(|| step_kind(step).to_owned());
        let United { ports, rows, event_times, mut ordered } = self.unite(&step.inputs, &step.at, &user);
        let wanted = match &step.name {
            Some(name) => format!("{}{name}", step.scope),
            None => format!("{}{}-{}", step.scope, step_kind(step), signature(step)),
        };
        let id = if step.name.is_some() { wanted } else { self.unique(wanted) };
        let (op, after) = match &step.body {
            GraphBody::Step(body) => {
                let tables = &self.catalog.lookups;
                let mut cx = Context { diags: self.diags, tables, event_times: event_times.clone() };
                lower(body, &step.at, &rows, &mut cx)
            }
            GraphBody::Merge(merge) => {
                ordered = true;
                (self.merge(step, &rows, &event_times, merge.max_bytes), rows.clone())
            }
        };
        let parallelism = if ordered { 1 } else { self.parallelism };
        let kind = op.map_or(Kind::Pass, Kind::Op);
        let vertex = self.push(id, kind, ports, after.schema.clone(), parallelism);
        self.at.insert(From::Step(i), Done { vertex, rows: after, event_times, ordered });
    }

    fn merge(
        &mut self,
        step: &GraphStep,
        rows: &Rows,
        times: &[Option<String>],
        max_bytes: u64,
    ) -> Option<Op> {
        let [Some(column)] = times else {
            let message = "merging by event time needs an `eventTime` of the same name in every source";
            let help = "add `eventTime: {column: ...}` to each source, or merge by `arrival`";
            self.diags.error_help("missing-event-time", &step.at, message, help.to_owned());
            return None;
        };
        self.notes
            .push("rows merged in event-time order stay in one subtask, so that the order holds".into());
        rows.column(&Located { value: column.clone(), at: step.at.clone() }, self.diags)?;
        Some(Op::MergeByTime { column: column.clone(), max_bytes })
    }

    fn sink(&mut self, i: usize, sink: &GraphSink) {
        let def = &sink.def;
        let United { mut ports, rows, ordered, .. } = self.unite(&sink.inputs, &def.name.at, &def.name.value);
        if let Some(when) = &def.when {
            rows.condition(when, self.diags);
            for port in &mut ports {
                port.when = both(port.when.as_deref(), Some(&when.value));
            }
        }
        if let Some(connector) = &def.connector
            && let Some(found) = self.catalog.registry.sinks.get(connector.name.as_str())
        {
            if rows.is_sure()
                && let Err(error) = found.check(&connector.config, &rows.schema, self.graph.mode)
            {
                let help = error.help_text().map(str::to_owned);
                self.diags.error_help(error.code(), &connector.at, error.message().to_owned(), help);
            }
            if self.graph.delivery == Delivery::ExactlyOnce && found.delivery() == Delivery::AtLeastOnce {
                self.notes.push(format!(
                    "the sink `{}` ({}) delivers at least once: rows after the last commit may come twice after a crash",
                    def.name.value, connector.name
                ));
            }
        }
        let taken = self.ids.contains(&def.name.value);
        let id = if taken { format!("{}.sink", def.name.value) } else { def.name.value.clone() };
        let id = self.unique(id);
        let parallelism = if ordered { 1 } else { def.parallelism.unwrap_or(self.parallelism) };
        self.push(id, Kind::Sink(i), ports, rows.schema.clone(), parallelism);
    }
}

fn step_kind(step: &GraphStep) -> &'static str {
    match &step.body {
        GraphBody::Step(body) => body.kind(),
        GraphBody::Merge(_) => "merge",
    }
}

/// A hash of what makes a step without a name the step that it is. For stateful steps that is what its state depends
/// on, so that other settings can change and the state is found again.
fn signature(step: &GraphStep) -> String {
    let GraphBody::Step(body) = &step.body else { return short_hash(&["merge"]) };
    let mut parts: Vec<&str> = Vec::new();
    let owned: String;
    match &**body {
        Body::Filter(sql) | Body::Sql(sql) | Body::Use(sql) => parts.push(&sql.value),
        Body::Compute(all) | Body::Rename(all) | Body::Split(all) => {
            parts.extend(all.iter().flat_map(|(a, b)| [a.value.as_str(), b.value.as_str()]));
        }
        Body::Select(all) => parts.extend(all.iter().flat_map(|(a, b)| [a.as_str(), b.value.as_str()])),
        Body::Drop(all) => parts.extend(all.iter().map(|a| a.value.as_str())),
        Body::Cast(all) => parts.extend(all.iter().map(|(a, _)| a.value.as_str())),
        Body::Mask(all, _) => parts.extend(all.iter().map(|(a, _)| a.value.as_str())),
        Body::Parse(parse, _) => parts.push(&parse.column),
        Body::Flatten(flatten, _) => {
            owned = format!("{flatten:?}");
            parts.push(&owned);
        }
        Body::Validate(all, _) => parts.extend(all.iter().map(|(a, _)| a.as_str())),
        Body::Lookup(lookup) => {
            if let crate::manifest::defs::Named::Name(table) = &lookup.table {
                parts.push(&table.value);
            }
            parts.extend(lookup.on.iter().map(|(a, _)| a.value.as_str()));
        }
        Body::Dedupe(dedupe) => parts.extend(dedupe.keys.iter().map(|k| k.value.as_str())),
        Body::RateLimit { .. } | Body::Broken => {}
    }
    short_hash(&parts)
}
