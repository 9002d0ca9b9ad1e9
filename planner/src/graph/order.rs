//! The order of a pipeline's steps, and what no sink gets.

use std::collections::BTreeSet;

use super::{From, Graph, GraphBody, GraphStep};
use crate::diagnostic::Diagnostics;

/// Inputs before those that use them; steps in a circle are reported and left out.
pub(super) fn order(steps: &[GraphStep], diags: &mut Diagnostics) -> Vec<usize> {
    let mut order = Vec::with_capacity(steps.len());
    let mut placed = vec![false; steps.len()];
    let ready = |placed: &[bool], step: &GraphStep| {
        step.inputs.iter().all(|i| match i.from {
            From::Step(s) => placed[s],
            From::Source(_) => true,
        })
    };
    loop {
        let before = order.len();
        for (i, step) in steps.iter().enumerate() {
            if !placed[i] && ready(&placed, step) {
                placed[i] = true;
                order.push(i);
            }
        }
        if order.len() == before {
            break;
        }
    }
    if let Some(i) = placed.iter().position(|p| !p) {
        let names: Vec<_> =
            (0..steps.len()).filter(|i| !placed[*i]).filter_map(|i| steps[i].name.clone()).collect();
        let message = match names.is_empty() {
            true => "steps take their rows from each other in a circle".to_owned(),
            false => format!("steps take their rows from each other in a circle: {}", names.join(", ")),
        };
        diags.error_help(
            "step-cycle",
            &steps[i].at,
            message,
            "change a `from` so that rows only go forward".to_owned(),
        );
    }
    order
}

/// Warns of sources and steps whose rows no sink gets.
pub(super) fn unused(graph: &Graph, diags: &mut Diagnostics) {
    let mut used = BTreeSet::new();
    let mut open: Vec<From> = graph.sinks.iter().flat_map(|s| s.inputs.iter().map(|i| i.from)).collect();
    while let Some(from) = open.pop() {
        if used.insert(from)
            && let From::Step(step) = from
        {
            open.extend(graph.steps[step].inputs.iter().map(|i| i.from));
        }
    }
    if graph.sinks.is_empty() || diags.errors() > 0 {
        return;
    }
    let help = "let a sink or a step take them with `from`, or leave it out".to_owned();
    for (i, source) in graph.sources.iter().enumerate().filter(|(i, _)| !used.contains(&From::Source(*i))) {
        let message = format!("no sink gets the rows of the source `{}`", graph.sources[i].name.value);
        diags.warning("unused-source", &source.name.at, message, help.clone());
    }
    for (i, step) in graph.steps.iter().enumerate() {
        if !used.contains(&From::Step(i)) && matches!(step.body, GraphBody::Step(_)) {
            diags.warning("unused-step", &step.at, "no sink gets the rows of this step", help.clone());
        }
    }
}
