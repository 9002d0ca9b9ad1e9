//! Rewrites of the flow that keep its meaning: what only hands on is left out, equal steps over the same rows run once,
//! filters right behind a source move into it.

use std::collections::BTreeMap;

use conveyor_expr::Expr;
use conveyor_model::predicate::Predicate;
use conveyor_model::source::Pushdown;
use conveyor_model::step::Op;

use super::Catalog;
use super::flow::{Kind, Port, Vertex, consumers};
use crate::graph::Graph;

/// A flow ready to be cut into nodes.
pub(crate) struct Optimized {
    pub(crate) flow: Vec<Vertex>,
    /// By index of the pipeline's source.
    pub(crate) predicates: BTreeMap<usize, Predicate>,
}

/// All rewrites, in an order in which each finds what the one before made possible.
pub(crate) fn optimize(flow: Vec<Vertex>, graph: &Graph, catalog: &Catalog) -> Optimized {
    let flow = without_passes(flow);
    let flow = once(flow);
    let mut flow = only_used(flow);
    let mut predicates = BTreeMap::new();
    for v in 0..flow.len() {
        if let Kind::Source(source) = flow[v].kind {
            let predicate = push_down(&mut flow, v, &graph.sources[source], catalog);
            predicates.insert(source, predicate);
        }
    }
    let flow = only_used(without_passes(flow));
    Optimized { flow, predicates }
}

/// Leaves out vertices that hand all rows of one input on.
fn without_passes(mut flow: Vec<Vertex>) -> Vec<Vertex> {
    let mut stands_for: Vec<usize> = (0..flow.len()).collect();
    for v in 0..flow.len() {
        for port in &mut flow[v].inputs {
            port.from = stands_for[port.from];
        }
        if let (Kind::Pass, [Port { from, when: None }]) = (&flow[v].kind, flow[v].inputs.as_slice()) {
            stands_for[v] = *from;
        }
    }
    only_used(flow)
}

/// Equal steps over equal inputs become one. A rate limit stays: two of them let twice as many rows pass.
fn once(mut flow: Vec<Vertex>) -> Vec<Vertex> {
    let mut stands_for: Vec<usize> = (0..flow.len()).collect();
    let mut seen: BTreeMap<(String, Vec<Port>, u32), usize> = BTreeMap::new();
    for v in 0..flow.len() {
        for port in &mut flow[v].inputs {
            port.from = stands_for[port.from];
        }
        let what = match &flow[v].kind {
            Kind::Op(Op::RateLimit { .. }) | Kind::Source(_) | Kind::Sink(_) => continue,
            Kind::Op(op) => format!("{op:?}"),
            Kind::Pass => "pass".to_owned(),
        };
        stands_for[v] = *seen.entry((what, flow[v].inputs.clone(), flow[v].parallelism)).or_insert(v);
    }
    flow
}

/// Vertices whose rows get to a sink, numbered anew.
fn only_used(flow: Vec<Vertex>) -> Vec<Vertex> {
    let mut used = vec![false; flow.len()];
    for v in (0..flow.len()).rev() {
        used[v] |= matches!(flow[v].kind, Kind::Sink(_));
        if used[v] {
            flow[v].inputs.iter().for_each(|p| used[p.from] = true);
        }
    }
    let mut number = vec![0; flow.len()];
    let mut out: Vec<Vertex> = Vec::with_capacity(flow.len());
    for (v, mut vertex) in flow.into_iter().enumerate().filter(|(v, _)| used[*v]) {
        vertex.inputs.iter_mut().for_each(|p| p.from = number[p.from]);
        number[v] = out.len();
        out.push(vertex);
    }
    out
}

/// The part of the filters right behind a source that the source can apply. Where it applies them exactly they leave
/// the flow.
fn push_down(
    flow: &mut [Vertex],
    source: usize,
    def: &crate::manifest::defs::SourceDef,
    catalog: &Catalog,
) -> Predicate {
    let mut predicate = Predicate::default();
    let how = catalog.sources.get(&def.name.value).map_or(Pushdown::No, |d| d.predicate);
    // With an event time every row counts for the watermark and for lateness, also those that a filter drops later.
    if how == Pushdown::No || def.event_time.is_some() {
        return predicate;
    }
    let count = consumers(flow);
    let mut at = source;
    while count[at] == 1 {
        let next = (0..flow.len()).find(|v| flow[*v].inputs.iter().any(|p| p.from == at));
        let Some(next) = next else { break };
        let expr = match (&flow[next].kind, flow[next].inputs.as_slice()) {
            (Kind::Op(Op::Filter { expr }), [Port { when: None, .. }]) => expr.clone(),
            _ => break,
        };
        let Ok(compiled) = Expr::compile_boolean(&expr, &flow[source].schema) else { break };
        let (pushed, rest) = compiled.pushdown();
        if pushed.all.is_empty() {
            break;
        }
        predicate.all.extend(pushed.all);
        let whole = rest.is_none();
        if how == Pushdown::Exact {
            flow[next].kind = match rest {
                None => Kind::Pass,
                Some(expr) => Kind::Op(Op::Filter { expr }),
            };
        }
        if !whole {
            break;
        }
        at = next;
    }
    predicate
}
