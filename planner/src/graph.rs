//! A pipeline with its names resolved: Transforms written out, every step with the steps or sources it takes rows from.

mod count;
mod order;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use conveyor_model::plan::{Delivery, DlqPlan, Mode, Retry, Wishes};

use crate::diagnostic::{At, Diagnostics, Located, did_you_mean};
use crate::manifest::defs::{Body, LookupDef, MergeDef, Named, PipelineDef, SinkDef, SourceDef, StepDef};
use crate::objects::{ObjectId, Objects};

/// Most Transforms inside each other.
const MAX_NESTING: usize = 32;

/// A pipeline whose names are resolved.
#[derive(Debug)]
pub(crate) struct Graph {
    pub(crate) mode: Mode,
    pub(crate) delivery: Delivery,
    pub(crate) checkpoint_ms: u64,
    pub(crate) parallelism: Option<u32>,
    pub(crate) dlq: DlqPlan,
    pub(crate) placement: Wishes,
    pub(crate) sources: Vec<SourceDef>,
    /// By the name that lookup steps use.
    pub(crate) lookups: BTreeMap<String, LookupDef>,
    pub(crate) steps: Vec<GraphStep>,
    pub(crate) sinks: Vec<GraphSink>,
    /// Indices of `steps`, inputs before those that use them.
    /// Objects that are named somewhere in it.
    pub(crate) used: BTreeSet<ObjectId>,
    pub(crate) order: Vec<usize>,
    pub(crate) broken: bool,
}

#[derive(Debug)]
pub(crate) struct GraphStep {
    /// Where the Transforms that it comes from were used: `geo.` or empty.
    pub(crate) scope: String,
    pub(crate) name: Option<String>,
    pub(crate) at: At,
    pub(crate) inputs: Vec<Input>,
    pub(crate) body: GraphBody,
}

#[derive(Debug, Clone)]
pub(crate) enum GraphBody {
    Step(Arc<Body>),
    Merge(MergeDef),
}

#[derive(Debug)]
pub(crate) struct GraphSink {
    pub(crate) def: SinkDef,
    pub(crate) retry: Retry,
    pub(crate) inputs: Vec<Input>,
}

/// Where rows come from, and which of them.
#[derive(Debug, Clone)]
pub(crate) struct Input {
    pub(crate) from: From,
    /// Condition of a split's branch.
    pub(crate) when: Option<Located<String>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum From {
    Source(usize),
    Step(usize),
}

/// A reference not yet resolved: a step may name one that comes later.
#[derive(Debug, Clone)]
enum Ref {
    To(Input),
    Name(Located<String>, String),
}

struct Pending {
    step: GraphStep,
    refs: Vec<Ref>,
}

struct Resolver<'a> {
    namespace: &'a str,
    objects: &'a Objects,
    diags: &'a mut Diagnostics,
    pending: Vec<Pending>,
    /// Full name (scope and name) to what it stands for.
    names: BTreeMap<String, (Vec<Ref>, At)>,
    scopes: BTreeSet<String>,
    /// Transforms being written out.
    using: Vec<String>,
    lookups: BTreeMap<String, LookupDef>,
    used: BTreeSet<ObjectId>,
}

/// Resolves the names of a pipeline.
pub(crate) fn resolve(def: &PipelineDef, objects: &Objects, diags: &mut Diagnostics) -> Graph {
    let before = diags.errors();
    let mut r = Resolver {
        namespace: &def.namespace,
        objects,
        diags,
        pending: Vec::new(),
        names: BTreeMap::new(),
        scopes: BTreeSet::new(),
        using: Vec::new(),
        lookups: BTreeMap::new(),
        used: BTreeSet::new(),
    };
    let sources = r.sources(def);
    let all: Vec<Ref> = (0..sources.len()).map(|i| to(From::Source(i))).collect();
    let start = r.merge(def, &sources, all);
    let fits = r.fits(def);
    let end = if fits { r.steps(&def.steps, "", start) } else { start };
    let sinks = r.sinks(def, &end);
    let (lookups, used) = (std::mem::take(&mut r.lookups), std::mem::take(&mut r.used));
    let (steps, sinks) = r.finish(sinks);
    let mut graph = Graph {
        mode: def.mode,
        delivery: def.delivery,
        checkpoint_ms: def.checkpoint_ms,
        parallelism: def.parallelism,
        dlq: def.dlq.clone(),
        placement: def.placement.clone(),
        sources,
        lookups,
        steps,
        sinks,
        order: Vec::new(),
        used,
        broken: def.broken,
    };
    graph.order = order::order(&graph.steps, diags);
    order::unused(&graph, diags);
    graph.broken |= diags.errors() > before || graph.lookups.values().any(|l| l.connector.is_none());
    graph.broken |= graph.sources.iter().any(|s| s.connector.is_none());
    graph.broken |= graph.sinks.iter().any(|s| s.def.connector.is_none());
    graph
}

fn to(from: From) -> Ref {
    Ref::To(Input { from, when: None })
}

impl Resolver<'_> {
    fn sources(&mut self, def: &PipelineDef) -> Vec<SourceDef> {
        let mut all: Vec<SourceDef> = Vec::new();
        for named in &def.sources {
            let source = match named {
                Named::Inline(source) => source.clone(),
                Named::Name(name) => {
                    self.uses("Source", name);
                    let known = &self.objects.sources;
                    let Some(source) = known.get(&(self.namespace.to_owned(), name.value.clone())) else {
                        self.unknown("Source", name, known.keys());
                        continue;
                    };
                    source.clone()
                }
            };
            let at = match named {
                Named::Inline(source) => &source.name.at,
                Named::Name(name) => &name.at,
            };
            if self.define(
                "",
                &Located { value: source.name.value.clone(), at: at.clone() },
                vec![to(From::Source(all.len()))],
            ) {
                all.push(source);
            }
        }
        all
    }

    fn uses(&mut self, kind: &'static str, name: &Located<String>) {
        let (namespace, name) = (self.namespace.to_owned(), name.value.clone());
        self.used.insert(ObjectId { kind, namespace, name });
    }

    fn unknown<'k>(
        &mut self,
        kind: &str,
        name: &Located<String>,
        known: impl Iterator<Item = &'k (String, String)>,
    ) {
        let names: Vec<&str> =
            known.filter(|(ns, _)| ns == self.namespace).map(|(_, n)| n.as_str()).collect();
        let help = did_you_mean(&name.value, names)
            .unwrap_or_else(|| format!("add a document of kind {kind} with this name"));
        let message = format!("there is no {kind} `{}` in the namespace `{}`", name.value, self.namespace);
        let code = match kind {
            "Source" => "unknown-source",
            "Sink" => "unknown-sink",
            "Lookup" => "unknown-lookup",
            _ => "unknown-transform",
        };
        self.diags.error_help(code, &name.at, message, help);
    }

    /// Gives a name its meaning; false if it is taken.
    fn define(&mut self, scope: &str, name: &Located<String>, refs: Vec<Ref>) -> bool {
        let full = format!("{scope}{}", name.value);
        if let Some((_, first)) = self.names.get(&full) {
            let message = format!("the name `{}` is taken", name.value);
            let help = format!(
                "it is given in line {} too; sources and steps of a pipeline need different names",
                first.line
            );
            self.diags.error_help("duplicate-name", &name.at, message, help);
            return false;
        }
        self.names.insert(full, (refs, name.at.clone()));
        true
    }

    /// What the first step takes: the sources as they arrive, or merged by event time.
    fn merge(&mut self, def: &PipelineDef, sources: &[SourceDef], all: Vec<Ref>) -> Vec<Ref> {
        let Some(merge) = def.merge.as_ref().filter(|m| m.value.by_event_time && sources.len() > 1) else {
            return all;
        };
        let step = GraphStep {
            scope: String::new(),
            name: Some("merge".into()),
            at: merge.at.clone(),
            inputs: Vec::new(),
            body: GraphBody::Merge(merge.value),
        };
        self.pending.push(Pending { step, refs: all });
        vec![to(From::Step(self.pending.len() - 1))]
    }

    /// Writes steps out; returns what a step after the last one takes.
    fn steps(&mut self, steps: &[StepDef], scope: &str, input: Vec<Ref>) -> Vec<Ref> {
        let mut current = input;
        for def in steps {
            let refs = match def.from.is_empty() {
                true => std::mem::take(&mut current),
                false => def.from.iter().map(|n| Ref::Name(n.clone(), scope.to_owned())).collect(),
            };
            if refs.is_empty()
                && !matches!(*def.body, Body::Broken)
                && self.pending.last().is_some_and(is_split)
            {
                let help = "add `from:` with the name of a branch".to_owned();
                self.diags.error_help(
                    "missing-from",
                    &def.at,
                    "after a split a step must say where its rows come from",
                    help,
                );
            }
            current = self.step(def, scope, refs);
        }
        current
    }

    fn step(&mut self, def: &StepDef, scope: &str, refs: Vec<Ref>) -> Vec<Ref> {
        if let Body::Use(name) = &*def.body {
            return self.transform(def, name, scope, refs);
        }
        let index = self.pending.len();
        let mut body = def.body.clone();
        if let Body::Lookup(lookup) = &*def.body {
            let table = self.lookup(&lookup.table);
            let table = Located { value: table, at: def.at.clone() };
            body = Arc::new(Body::Lookup(crate::manifest::defs::LookupBody {
                table: Named::Name(table),
                ..lookup.clone()
            }));
        }
        let step = GraphStep {
            scope: scope.to_owned(),
            name: def.name.as_ref().map(|n| n.value.clone()),
            at: def.at.clone(),
            inputs: Vec::new(),
            body: GraphBody::Step(body),
        };
        self.pending.push(Pending { step, refs });
        if let Body::Split(branches) = &*def.body {
            for (name, condition) in branches {
                let input = Input { from: From::Step(index), when: Some(condition.clone()) };
                self.define(scope, name, vec![Ref::To(input)]);
            }
            return Vec::new();
        }
        let out = vec![to(From::Step(index))];
        if let Some(name) = &def.name {
            self.define(scope, name, out.clone());
        }
        out
    }

    fn transform(&mut self, def: &StepDef, name: &Located<String>, scope: &str, refs: Vec<Ref>) -> Vec<Ref> {
        self.uses("Transform", name);
        let known = &self.objects.transforms;
        let Some(transform) = known.get(&(self.namespace.to_owned(), name.value.clone())) else {
            self.unknown("Transform", name, known.keys());
            return Vec::new();
        };
        if self.using.contains(&name.value) || self.using.len() >= MAX_NESTING {
            let way = self.using.join(" -> ");
            let message = format!("Transforms use each other in a circle: {way} -> {}", name.value);
            self.diags.error("transform-cycle", &name.at, message);
            return Vec::new();
        }
        let label = def.name.as_ref().map_or(&name.value, |n| &n.value);
        let mut inner = format!("{scope}{label}.");
        let mut count = 1;
        while !self.scopes.insert(inner.clone()) {
            count += 1;
            inner = format!("{scope}{label}-{count}.");
        }
        self.using.push(name.value.clone());
        let out = self.steps(&transform.steps, &inner, refs);
        self.using.pop();
        let full = format!("{scope}{label}");
        match &def.name {
            Some(given) => {
                self.define(scope, given, out.clone());
            }
            // `from: geo` finds the Transform's rows under its own name, unless something else has that name.
            None => {
                self.names.entry(full).or_insert_with(|| (out.clone(), name.at.clone()));
            }
        }
        out
    }

    /// Notes that a lookup is used; returns the name it has in the plan.
    fn lookup(&mut self, table: &Named<LookupDef>) -> String {
        match table {
            Named::Name(name) => {
                self.uses("Lookup", name);
                let known = &self.objects.lookups;
                match known.get(&(self.namespace.to_owned(), name.value.clone())) {
                    Some(def) => {
                        self.lookups.insert(name.value.clone(), def.clone());
                    }
                    None => self.unknown("Lookup", name, known.keys()),
                }
                name.value.clone()
            }
            Named::Inline(def) => {
                let text =
                    def.connector.as_ref().map(|c| format!("{}{}", c.name, c.config)).unwrap_or_default();
                let declared = crate::types::schema_names(&arrow_schema::Schema::new(def.declared.clone()));
                let name = format!("lookup-{}", crate::names::short_hash(&[&text, &declared]));
                self.lookups.insert(name.clone(), def.clone());
                name
            }
        }
    }

    fn sinks(&mut self, def: &PipelineDef, end: &[Ref]) -> Vec<(GraphSink, Vec<Ref>)> {
        let mut all: Vec<(GraphSink, Vec<Ref>)> = Vec::new();
        for named in &def.sinks {
            let (sink, at) = match named {
                Named::Inline(sink) => (sink.clone(), sink.name.at.clone()),
                Named::Name(name) => {
                    let Some(mut sink) = self.sink_object(name) else { continue };
                    sink.name = Located { value: name.value.clone(), at: name.at.clone() };
                    (sink, name.at.clone())
                }
            };
            let Some(sink) = self.with_reference(sink) else { continue };
            if all.iter().any(|(s, _)| s.def.name.value == sink.name.value) {
                let message = format!("two sinks are called `{}`", sink.name.value);
                self.diags.error_help(
                    "duplicate-name",
                    &at,
                    message,
                    "give each a `name:` of its own".to_owned(),
                );
                continue;
            }
            let refs = match sink.from.is_empty() {
                true => end.to_vec(),
                false => sink.from.iter().map(|n| Ref::Name(n.clone(), String::new())).collect(),
            };
            if refs.is_empty() && self.pending.last().is_some_and(is_split) {
                let help = "add `from:` with the name of a branch".to_owned();
                self.diags.error_help(
                    "missing-from",
                    &at,
                    "after a split a sink must say where its rows come from",
                    help,
                );
            }
            let retry = sink.retry.unwrap_or_default();
            all.push((GraphSink { def: sink, retry, inputs: Vec::new() }, refs));
        }
        all
    }

    fn sink_object(&mut self, name: &Located<String>) -> Option<SinkDef> {
        self.uses("Sink", name);
        let known = &self.objects.sinks;
        let found = known.get(&(self.namespace.to_owned(), name.value.clone())).cloned();
        if found.is_none() {
            self.unknown("Sink", name, known.keys());
        }
        found
    }

    /// Fills in what a sink with `ref` takes from the Sink object.
    fn with_reference(&mut self, sink: SinkDef) -> Option<SinkDef> {
        let Some(refers) = &sink.refers else { return Some(sink) };
        let object = self.sink_object(refers)?;
        let when = match (&object.when, &sink.when) {
            (Some(a), Some(b)) => {
                let message = "both the Sink object and this use of it have a `when`";
                let help = format!("put both into one: ({}) AND ({})", a.value, b.value);
                self.diags.error_help("conflicting-keys", &b.at, message, help);
                None
            }
            (a, b) => b.clone().or_else(|| a.clone()),
        };
        Some(SinkDef {
            connector: object.connector,
            when,
            parallelism: sink.parallelism.or(object.parallelism),
            retry: sink.retry.or(object.retry),
            ..sink
        })
    }

    /// Looks up all references by name.
    fn finish(mut self, sinks: Vec<(GraphSink, Vec<Ref>)>) -> (Vec<GraphStep>, Vec<GraphSink>) {
        let pending = std::mem::take(&mut self.pending);
        let steps =
            pending.into_iter().map(|p| GraphStep { inputs: self.inputs(p.refs, 0), ..p.step }).collect();
        let sinks =
            sinks.into_iter().map(|(s, refs)| GraphSink { inputs: self.inputs(refs, 0), ..s }).collect();
        (steps, sinks)
    }

    fn inputs(&mut self, refs: Vec<Ref>, depth: usize) -> Vec<Input> {
        let mut inputs: Vec<Input> = Vec::new();
        for r in refs {
            let found = match r {
                Ref::To(input) => vec![input],
                Ref::Name(name, scope) => match self.names.get(&format!("{scope}{}", name.value)).cloned() {
                    Some((refs, _)) if depth < MAX_NESTING => self.inputs(refs, depth + 1),
                    Some(_) => {
                        self.diags.error(
                            "step-cycle",
                            &name.at,
                            format!("`{}` takes its own rows", name.value),
                        );
                        Vec::new()
                    }
                    None => {
                        let local = self
                            .names
                            .keys()
                            .filter_map(|n| n.strip_prefix(&*scope))
                            .filter(|n| !n.contains('.'));
                        let help = did_you_mean(&name.value, local);
                        let message = format!("no source or step is called `{}`", name.value);
                        self.diags.error_help("unknown-step", &name.at, message, help);
                        Vec::new()
                    }
                },
            };
            inputs.extend(found);
        }
        inputs
    }
}

fn is_split(pending: &Pending) -> bool {
    matches!(&pending.step.body, GraphBody::Step(body) if matches!(**body, Body::Split(_)))
}
