//! What changes from one plan to the next: per object, and for everything that keeps state whether it is found again.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use arrow_schema::SchemaRef;
use conveyor_model::plan::{Forget, NodeInput, NodeOutput, Plan, SinkPlan, SourcePlan};
use conveyor_model::step::{Dedupe, Op, Step};
use serde_json::{Value as Json, json};

use crate::units::show_duration;

/// What an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ObjectKind {
    /// The pipeline's own settings.
    Pipeline,
    /// A source.
    Source,
    /// A step.
    Step,
    /// A lookup.
    Lookup,
    /// A sink.
    Sink,
}

impl fmt::Display for ObjectKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ObjectKind::Pipeline => "pipeline",
            ObjectKind::Source => "source",
            ObjectKind::Step => "step",
            ObjectKind::Lookup => "lookup",
            ObjectKind::Sink => "sink",
        })
    }
}

/// What happens to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// It is new.
    Add,
    /// It goes on with other settings.
    Change,
    /// It goes.
    Destroy,
    /// Another one takes its name: it has another connector or does something else.
    Replace,
}

/// One field before and after; `None` where it is absent.
#[derive(Debug, Clone, PartialEq)]
pub struct FieldChange {
    /// `config.path`.
    pub path: String,
    /// Before.
    pub before: Option<Json>,
    /// After.
    pub after: Option<Json>,
}

/// The change of one object.
#[derive(Debug, Clone, PartialEq)]
pub struct ObjectChange {
    /// What it is.
    pub kind: ObjectKind,
    /// Name; for a step its id.
    pub name: String,
    /// What happens.
    pub action: Action,
    /// For [`Action::Change`] and [`Action::Replace`]: which fields.
    pub fields: Vec<FieldChange>,
}

/// What becomes of state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StateVerdict {
    /// Found again and used as it is.
    Keep,
    /// Found again, and used under new settings.
    Migrate,
    /// Begun anew; what it stood for stays where it is.
    Rebuild,
    /// Lost.
    Drop,
}

/// What becomes of one piece of state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateChange {
    /// Whose state it is: a source, a step or a sink.
    pub of: ObjectKind,
    /// Its name; for a step its id.
    pub name: String,
    /// `positions of the source flights`.
    pub what: String,
    /// The verdict.
    pub verdict: StateVerdict,
    /// Why, and what would be lost; empty for what is kept as it is.
    pub reason: String,
}

/// The way from one plan to the next.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PlanDiff {
    /// Changed objects: the pipeline, then sources, steps, lookups, sinks, each by name.
    pub objects: Vec<ObjectChange>,
    /// Every piece of state of the old plan.
    pub states: Vec<StateChange>,
}

impl PlanDiff {
    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    /// What would be lost, a sentence each. Empty when the new plan can go on from the old one's last epoch.
    pub fn loses_state(&self) -> Vec<String> {
        let lost = |s: &&StateChange| matches!(s.verdict, StateVerdict::Drop | StateVerdict::Rebuild);
        self.states.iter().filter(lost).map(|s| format!("{}: {}", s.what, s.reason)).collect()
    }

    /// State that the new plan cannot take up.
    pub fn forgets(&self) -> Forget {
        let mut forget = Forget::default();
        for state in self.states.iter().filter(|s| s.verdict == StateVerdict::Drop) {
            match state.of {
                ObjectKind::Source => forget.sources.insert(state.name.clone()),
                ObjectKind::Step => forget.steps.insert(state.name.clone()),
                _ => false,
            };
        }
        forget
    }

    /// Objects to add, to change and to destroy; a replaced one is destroyed and added.
    pub fn counts(&self) -> (usize, usize, usize) {
        let count = |actions: &[Action]| self.objects.iter().filter(|o| actions.contains(&o.action)).count();
        (
            count(&[Action::Add, Action::Replace]),
            count(&[Action::Change]),
            count(&[Action::Destroy, Action::Replace]),
        )
    }
}

impl fmt::Display for PlanDiff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for object in &self.objects {
            let sign = match object.action {
                Action::Add => "+",
                Action::Change => "~",
                Action::Destroy => "-",
                Action::Replace => "-/+",
            };
            writeln!(f, "{sign} {} {}", object.kind, object.name)?;
            for field in &object.fields {
                let show = |v: &Option<Json>| v.as_ref().map_or_else(|| "(none)".to_owned(), Json::to_string);
                writeln!(f, "    {}: {} -> {}", field.path, show(&field.before), show(&field.after))?;
            }
        }
        for state in &self.states {
            let verdict = match state.verdict {
                StateVerdict::Keep => "kept",
                StateVerdict::Migrate => "migrated",
                StateVerdict::Rebuild => "rebuilt",
                StateVerdict::Drop => "dropped",
            };
            match state.reason.as_str() {
                "" => writeln!(f, "  state {verdict}: {}", state.what)?,
                reason => writeln!(f, "  state {verdict}: {}: {reason}", state.what)?,
            }
        }
        let (add, change, destroy) = self.counts();
        write!(f, "{add} to add, {change} to change, {destroy} to destroy")
    }
}

/// Compares two plans of one pipeline; without an old one everything is new.
pub fn diff(old: Option<&Plan>, new: &Plan) -> PlanDiff {
    let before = old.map(objects).unwrap_or_default();
    let after = objects(new);
    let names: BTreeSet<_> = before.keys().chain(after.keys()).cloned().collect();
    let mut changes = Vec::new();
    for id in names {
        let (kind, name) = id.clone();
        let mut fields = Vec::new();
        let action = match (before.get(&id), after.get(&id)) {
            (Some(a), Some(b)) if a == b => continue,
            (Some(a), Some(b)) => {
                compare("", Some(a), Some(b), &mut fields);
                if replaced(kind, a, b) { Action::Replace } else { Action::Change }
            }
            (None, _) => Action::Add,
            (_, None) => Action::Destroy,
        };
        changes.push(ObjectChange { kind, name, action, fields });
    }
    PlanDiff { objects: changes, states: old.map(|old| states(old, new)).unwrap_or_default() }
}

/// Every object of a plan as the fields that people see.
fn objects(plan: &Plan) -> BTreeMap<(ObjectKind, String), Json> {
    let mut all = BTreeMap::new();
    let mut own = json!({
        "mode": plan.mode,
        "delivery": plan.delivery,
        "checkpointIntervalMs": plan.checkpoint_interval_ms,
        "dlq": plan.dlq,
    });
    if !plan.placement.are_none() {
        own["placement"] = json!(plan.placement);
    }
    all.insert((ObjectKind::Pipeline, plan.pipeline.to_string()), own);
    for node in &plan.nodes {
        if let NodeInput::Source(source) = &node.input {
            let shown = json!({
                "connector": source.connector,
                "config": source.config,
                "schema": types(&source.full_schema),
                "columns": source.projection,
                "predicate": source.predicate.to_string(),
                "eventTime": source.event_time,
                "parallelism": node.parallelism,
                "retry": source.retry,
            });
            all.insert((ObjectKind::Source, source.name.clone()), shown);
        }
        for step in &node.steps {
            // The operation's own key comes first and says what kind of step it is.
            let mut shown = serde_json::to_value(&step.op).expect("a step is JSON with text keys");
            shown["output"] = types(&step.output);
            shown["parallelism"] = node.parallelism.into();
            all.insert((ObjectKind::Step, step.id.clone()), shown);
        }
        if let NodeOutput::Sink(sink) = &node.output {
            let from: Vec<_> = plan
                .inputs(node.id)
                .map(
                    |e| json!({ "from": plan.node(e.from).name, "when": e.when, "schema": types(&e.schema) }),
                )
                .collect();
            let shown = json!({
                "connector": sink.connector,
                "config": sink.config,
                "delivery": sink.delivery,
                "parallelism": node.parallelism,
                "retry": sink.retry,
                "input": from,
            });
            all.insert((ObjectKind::Sink, sink.name.clone()), shown);
        }
    }
    for (name, lookup) in &plan.lookups {
        let shown = json!({
            "connector": lookup.connector,
            "config": lookup.config,
            "schema": types(&lookup.schema),
            "columns": lookup.projection,
            "refreshMs": lookup.refresh_ms,
        });
        all.insert((ObjectKind::Lookup, name.clone()), shown);
    }
    all
}

fn types(schema: &SchemaRef) -> Json {
    schema
        .fields()
        .iter()
        .map(|f| (f.name().clone(), Json::from(crate::types::type_name(f.data_type()))))
        .collect()
}

/// Whether the object is another one under the same name.
fn replaced(kind: ObjectKind, a: &Json, b: &Json) -> bool {
    match kind {
        ObjectKind::Pipeline => false,
        // A step's first key is its kind.
        ObjectKind::Step => {
            a.as_object().and_then(|m| m.keys().next()) != b.as_object().and_then(|m| m.keys().next())
        }
        _ => a["connector"] != b["connector"],
    }
}

fn compare(path: &str, a: Option<&Json>, b: Option<&Json>, out: &mut Vec<FieldChange>) {
    if a == b {
        return;
    }
    if let (Some(Json::Object(x)), Some(Json::Object(y))) = (a, b) {
        let keys: Vec<&String> = x.keys().chain(y.keys().filter(|k| !x.contains_key(*k))).collect();
        for key in keys {
            let inner = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            compare(&inner, x.get(key), y.get(key), out);
        }
        return;
    }
    out.push(FieldChange { path: path.to_owned(), before: a.cloned(), after: b.cloned() });
}

fn sources(plan: &Plan) -> BTreeMap<&str, &SourcePlan> {
    let sources = plan.nodes.iter().filter_map(|n| match &n.input {
        NodeInput::Source(source) => Some((source.name.as_str(), &**source)),
        NodeInput::Edges => None,
    });
    sources.collect()
}

fn sinks(plan: &Plan) -> BTreeMap<&str, &SinkPlan> {
    let sinks = plan.nodes.iter().filter_map(|n| match &n.output {
        NodeOutput::Sink(sink) => Some((sink.name.as_str(), &**sink)),
        NodeOutput::Edges => None,
    });
    sinks.collect()
}

/// Steps by node and id, which is how their state is found.
fn stateful(plan: &Plan) -> BTreeMap<(&str, &str), &Step> {
    let steps =
        plan.nodes.iter().flat_map(|n| n.steps.iter().map(move |s| ((n.name.as_str(), s.id.as_str()), s)));
    steps.filter(|(_, s)| s.op.is_stateful()).collect()
}

fn states(old: &Plan, new: &Plan) -> Vec<StateChange> {
    let mut all = Vec::new();
    let new_sources = sources(new);
    for (name, before) in sources(old) {
        let (verdict, reason) = positions(before, new_sources.get(name).copied());
        let what = format!("positions of the source {name}");
        all.push(StateChange { of: ObjectKind::Source, name: name.to_owned(), what, verdict, reason });
    }
    let new_steps = stateful(new);
    for (key, before) in stateful(old) {
        let (verdict, reason) = match (&before.op, new_steps.get(&key).map(|s| (&s.op, *s))) {
            (Op::Dedupe(a), Some((Op::Dedupe(b), after))) => dedupe(a, b, before, after),
            (Op::MergeByTime { column: a, .. }, Some((Op::MergeByTime { column: b, .. }, after)))
                if a == b && before.input == after.input =>
            {
                (StateVerdict::Keep, String::new())
            }
            (Op::MergeByTime { .. }, _) => {
                (StateVerdict::Drop, "rows held back to be merged in event-time order would be lost".into())
            }
            _ => (
                StateVerdict::Drop,
                "the keys seen so far would be forgotten, so that duplicates of them pass".into(),
            ),
        };
        let what = format!("{} of the step {}", memory(&before.op), key.1);
        all.push(StateChange { of: ObjectKind::Step, name: key.1.to_owned(), what, verdict, reason });
    }
    let new_sinks = sinks(new);
    for (name, before) in sinks(old) {
        let (verdict, reason) = ledger(before, new_sinks.get(name).copied());
        let what = format!("ledger of the sink {name}");
        all.push(StateChange { of: ObjectKind::Sink, name: name.to_owned(), what, verdict, reason });
    }
    all
}

fn memory(op: &Op) -> &'static str {
    match op {
        Op::MergeByTime { .. } => "held rows",
        _ => "keys",
    }
}

fn positions(before: &SourcePlan, after: Option<&SourcePlan>) -> (StateVerdict, String) {
    match after {
        None => {
            (StateVerdict::Drop, "the source is gone; should it come back, it is read from the start".into())
        }
        Some(after) if after.connector != before.connector => (
            StateVerdict::Drop,
            format!(
                "{} knows no positions of {}; it is read from the start",
                after.connector, before.connector
            ),
        ),
        Some(after) if POSITION_UNITS.iter().any(|unit| after.config[unit] != before.config[unit]) => (
            StateVerdict::Drop,
            "a position means something else in another format or compression; every file is read from the start"
                .into(),
        ),
        Some(after) if after.config != before.config => {
            (StateVerdict::Migrate, "splits that are still there are read on, others from the start".into())
        }
        Some(_) => (StateVerdict::Keep, String::new()),
    }
}

/// Settings that say what a source counts its positions in: bytes of a text, of a decompressed text, or rows.
const POSITION_UNITS: [&str; 2] = ["format", "compression"];

fn dedupe(a: &Dedupe, b: &Dedupe, before: &Step, after: &Step) -> (StateVerdict, String) {
    let types = |d: &Dedupe, s: &Step| -> Vec<_> {
        d.keys.iter().map(|k| s.input.field_with_name(k).ok().map(|f| f.data_type().clone())).collect()
    };
    if a.keys != b.keys || types(a, before) != types(b, after) {
        return (
            StateVerdict::Drop,
            "the key columns change, so that the keys seen so far mean nothing".into(),
        );
    }
    if a.event_time != b.event_time {
        return (
            StateVerdict::Drop,
            "the event time changes, so that the keys seen so far mean nothing".into(),
        );
    }
    if b.within_ms > a.within_ms {
        let reason = format!(
            "keys older than {} are already forgotten; {} holds from now on",
            show_duration(a.within_ms),
            show_duration(b.within_ms)
        );
        return (StateVerdict::Migrate, reason);
    }
    (StateVerdict::Keep, String::new())
}

fn ledger(before: &SinkPlan, after: Option<&SinkPlan>) -> (StateVerdict, String) {
    match after {
        None => (StateVerdict::Drop, "the sink is gone; what is committed stays in its target".into()),
        Some(after)
            if after.connector != before.connector || after.config["path"] != before.config["path"] =>
        {
            (
                StateVerdict::Rebuild,
                "rows committed so far stay in the old target; the new one gets those after them".into(),
            )
        }
        Some(after) if after.config != before.config => {
            (StateVerdict::Migrate, "the new settings hold for what is written from now on".into())
        }
        Some(_) => (StateVerdict::Keep, String::new()),
    }
}
