//! Nodes to definitions of objects. Everything has been checked against the tables: what is not of the right form has
//! been reported, and is left out here without another word.

use std::sync::Arc;

use arrow_schema::{Field, FieldRef};
use conveyor_model::plan::{Delivery, DlqPlan, EventTime, Late, Mode, Retry, Wishes};

use super::check::{Checker, specs};
use super::defs::{ConnectorDef, LookupDef, MergeDef, Named, PipelineDef, SinkDef, SourceDef, TransformDef};
use super::shape::{Role, Table};
use super::steps::steps;
use super::tables;
use crate::diagnostic::Located;
use crate::types::parse_type;
use crate::units::{duration_ms, size_bytes};
use crate::yaml::{Node, Value};

const DEFAULT_CHECKPOINT_MS: u64 = 10_000;
const DEFAULT_MERGE_BYTES: u64 = 64 << 20;
const DEFAULT_MAX_RETRIES: u32 = 3;
const DEFAULT_MAX_RATIO: f64 = 0.05;

/// Text at a key, with its place.
pub(crate) fn text(node: &Node, key: &str) -> Option<Located<String>> {
    located(node.get(key)?)
}

/// A scalar with its place, as written.
pub(crate) fn located(node: &Node) -> Option<Located<String>> {
    Some(Located { value: node.scalar()?.to_owned(), at: node.at.clone() })
}

/// A name or a list of names.
pub(crate) fn names(node: Option<&Node>) -> Vec<Located<String>> {
    let Some(node) = node else { return Vec::new() };
    if node.text().is_some() {
        located(node).into_iter().collect()
    } else {
        node.items().iter().filter_map(located).collect()
    }
}

pub(crate) fn word<'n>(node: &'n Node, key: &str) -> &'n str {
    node.get(key).and_then(Node::text).unwrap_or_default()
}

pub(crate) fn integer(node: &Node, key: &str) -> Option<i64> {
    match node.get(key)?.value {
        Value::Int(value, _) => Some(value),
        _ => None,
    }
}

pub(crate) fn number(node: &Node, key: &str) -> Option<f64> {
    match node.get(key)?.value {
        Value::Int(value, _) => Some(value as f64),
        Value::Float(value, _) => Some(value),
        _ => None,
    }
}

pub(crate) fn boolean(node: &Node, key: &str) -> Option<bool> {
    match node.get(key)?.value {
        Value::Bool(value, _) => Some(value),
        _ => None,
    }
}

pub(crate) fn duration(node: &Node, key: &str) -> Option<u64> {
    node.get(key)?.text().and_then(duration_ms)
}

/// `{column: type}` as fields; all may be null.
pub(crate) fn fields(node: Option<&Node>) -> Vec<FieldRef> {
    let entries = node.map(Node::entries).unwrap_or_default().iter();
    let field = |name: &str, text: &str| Some(Arc::new(Field::new(name, parse_type(text).ok()?, true)));
    entries.filter_map(|e| field(&e.key, e.node.text()?)).collect()
}

fn retry(node: &Node) -> Option<Retry> {
    let node = node.get("retry")?;
    let default = Retry::default();
    Some(Retry {
        max_retries: integer(node, "maxRetries")
            .and_then(|v| v.try_into().ok())
            .unwrap_or(default.max_retries),
        base_ms: duration(node, "base").unwrap_or(default.base_ms),
        max_ms: duration(node, "max").unwrap_or(default.max_ms),
    })
}

fn parallelism(node: &Node) -> Option<u32> {
    integer(node, "parallelism").and_then(|v| v.try_into().ok())
}

/// The connector among the keys of a node, its settings checked.
pub(crate) fn connector(
    cx: &mut Checker<'_>,
    node: &Node,
    table: &Table,
    role: Role,
) -> Option<ConnectorDef> {
    let known = specs(cx.registry, role);
    let others = node.entries().iter().filter(|e| !table.fields.iter().any(|f| f.name == e.key));
    let (entry, spec) = others.filter_map(|e| Some((e, known.iter().find(|s| s.name == e.key)?))).next()?;
    let before = cx.diags.errors();
    let config = cx.settings(&entry.node, spec.fields);
    (cx.diags.errors() == before).then(|| ConnectorDef {
        name: spec.name.to_owned(),
        config,
        at: entry.at.clone(),
    })
}

/// The name of an inline object: its own, or that of its role when it is the only one.
fn inline_name(node: &Node, role: Role) -> Located<String> {
    text(node, "name").unwrap_or_else(|| Located { value: role.word().to_owned(), at: node.at.clone() })
}

pub(crate) fn source(cx: &mut Checker<'_>, name: Located<String>, node: &Node) -> SourceDef {
    let event_time = node.get("eventTime").and_then(|e| {
        let column = text(e, "column")?;
        let value = EventTime {
            column: column.value,
            allowed_lateness_ms: duration(e, "allowedLateness").unwrap_or(0),
            idle_timeout_ms: duration(e, "idleTimeout"),
            late: match word(e, "late") {
                "drop" => Late::Drop,
                "dlq" => Late::Dlq,
                _ => Late::Keep,
            },
        };
        Some(Located { value, at: column.at })
    });
    SourceDef {
        connector: connector(cx, node, &tables::SOURCE_ALL, Role::Source),
        declared: fields(node.get("schema")),
        declared_at: node.get("schema").map_or_else(|| name.at.clone(), |n| n.at.clone()),
        event_time,
        parallelism: parallelism(node),
        retry: retry(node).unwrap_or_default(),
        name,
    }
}

pub(crate) fn sink(cx: &mut Checker<'_>, name: Located<String>, node: &Node) -> SinkDef {
    SinkDef {
        name,
        connector: connector(cx, node, &tables::SINK_ALL, Role::Sink),
        refers: text(node, "ref"),
        from: names(node.get("from")),
        when: text(node, "when"),
        parallelism: parallelism(node),
        retry: retry(node),
    }
}

pub(crate) fn lookup(cx: &mut Checker<'_>, name: Located<String>, node: &Node) -> LookupDef {
    LookupDef {
        name,
        connector: connector(cx, node, &tables::LOOKUP, Role::Lookup),
        declared: fields(node.get("schema")),
        refresh_ms: duration(node, "refresh"),
    }
}

pub(crate) fn transform(cx: &mut Checker<'_>, node: &Node) -> TransformDef {
    if let Some(list) = node.get("steps")
        && list.items().is_empty()
    {
        cx.diags.error("empty-transform", &list.at, "a Transform has at least one step");
    }
    TransformDef { steps: steps(cx, node.get("steps")) }
}

pub(crate) fn pipeline(
    cx: &mut Checker<'_>,
    namespace: String,
    name: Located<String>,
    node: &Node,
) -> PipelineDef {
    let merge = node.get("merge").map(|m| Located {
        value: MergeDef {
            by_event_time: word(m, "strategy") == "event_time",
            max_bytes: m
                .get("maxBytes")
                .and_then(Node::scalar)
                .and_then(size_bytes)
                .unwrap_or(DEFAULT_MERGE_BYTES),
        },
        at: m.at.clone(),
    });
    let sources: Vec<_> = one_or_many(cx, node, "source", "sources")
        .into_iter()
        .filter_map(|n| match n.text() {
            Some(_) => located(n).map(Named::Name),
            None if n.entries().is_empty() => None,
            None => Some(Named::Inline(source(cx, inline_name(n, Role::Source), n))),
        })
        .collect();
    let sinks: Vec<_> = one_or_many(cx, node, "sink", "sinks")
        .into_iter()
        .filter_map(|n| match n.text() {
            Some(_) => located(n).map(Named::Name),
            None if n.entries().is_empty() => None,
            None => {
                let name = match (text(n, "name"), text(n, "ref")) {
                    (None, Some(refers)) => refers,
                    _ => inline_name(n, Role::Sink),
                };
                Some(Named::Inline(sink(cx, name, n)))
            }
        })
        .collect();
    PipelineDef {
        namespace,
        name,
        mode: if word(node, "mode") == "job" { Mode::Job } else { Mode::Streaming },
        delivery: match word(node, "delivery") {
            "at_least_once" => Delivery::AtLeastOnce,
            _ => Delivery::ExactlyOnce,
        },
        checkpoint_ms: checkpoint(cx, node),
        parallelism: parallelism(node),
        sources,
        merge,
        steps: steps(cx, node.get("steps")),
        sinks,
        dlq: dlq(node.get("dlq")),
        placement: placement(node.get("placement")),
        broken: false,
    }
}

/// The elements under the singular and the plural key; one of the two must be there, with at least one element.
fn one_or_many<'n>(cx: &mut Checker<'_>, node: &'n Node, one: &str, many: &str) -> Vec<&'n Node> {
    let mut all: Vec<&Node> = node.get(one).into_iter().collect();
    if let Some(list) = node.get(many) {
        if let Some(first) = all.first() {
            let message = format!("`{one}` and `{many}` are both given");
            cx.diags.error_help(
                "conflicting-keys",
                &first.at,
                message,
                format!("put all of them into `{many}`"),
            );
        }
        all.extend(list.items());
    }
    if all.is_empty() {
        let message = format!("the pipeline has no {one}");
        cx.diags.error_help(
            "missing-key",
            &node.at,
            message,
            format!("add `{one}: name` or `{many}: [...]`"),
        );
    }
    all
}

fn checkpoint(cx: &mut Checker<'_>, node: &Node) -> u64 {
    let interval = node.get("checkpoint").and_then(|c| c.get("interval"));
    let ms = interval.and_then(Node::text).and_then(duration_ms);
    if let (Some(node), Some(0)) = (interval, ms) {
        cx.diags.error("out-of-bounds", &node.at, "the checkpoint interval must be more than nothing");
    }
    ms.unwrap_or(DEFAULT_CHECKPOINT_MS)
}

fn placement(node: Option<&Node>) -> Wishes {
    let labels = node.and_then(|n| n.get("labels")).map(Node::entries).unwrap_or_default();
    Wishes {
        labels: labels.iter().filter_map(|e| Some((e.key.clone(), e.node.text()?.to_owned()))).collect(),
        spread: node.and_then(|n| boolean(n, "spread")).unwrap_or(false),
    }
}

fn dlq(node: Option<&Node>) -> DlqPlan {
    let max_retries = node.and_then(|n| integer(n, "maxRetries")).and_then(|v| v.try_into().ok());
    DlqPlan {
        enabled: node.and_then(|n| boolean(n, "enabled")).unwrap_or(true),
        path: node.and_then(|n| text(n, "path")).map(|t| t.value),
        max_retries: max_retries.unwrap_or(DEFAULT_MAX_RETRIES),
        max_ratio: node.and_then(|n| number(n, "maxRatio")).unwrap_or(DEFAULT_MAX_RATIO),
        whole_rows: node.and_then(|n| boolean(n, "wholeRows")).unwrap_or(false),
    }
}
