//! A plan as a picture: Graphviz, Mermaid, or plain text.

use std::fmt::Write;

use conveyor_model::plan::{Edge, Node, NodeInput, NodeOutput, Plan};

/// The language of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GraphFormat {
    /// Graphviz.
    Dot,
    /// Mermaid flowchart.
    Mermaid,
    /// Text for a terminal.
    Ascii,
}

/// Draws the nodes of a plan and the edges between them.
pub fn graph(plan: &Plan, format: GraphFormat) -> String {
    match format {
        GraphFormat::Dot => dot(plan),
        GraphFormat::Mermaid => mermaid(plan),
        GraphFormat::Ascii => ascii(plan),
    }
}

/// Name, connector and steps of a node.
fn lines(node: &Node) -> Vec<String> {
    let mut lines = vec![match (&node.input, &node.output) {
        (NodeInput::Source(source), _) => format!("{} ({} source)", node.name, source.connector),
        (_, NodeOutput::Sink(sink)) => format!("{} ({} sink)", node.name, sink.connector),
        _ => node.name.clone(),
    }];
    if node.parallelism > 1 {
        lines[0].push_str(&format!(" x{}", node.parallelism));
    }
    lines.extend(node.steps.iter().map(|s| crate::explain::describe(&s.op)));
    lines
}

fn is_end(node: &Node) -> bool {
    matches!(node.input, NodeInput::Source(_)) || matches!(node.output, NodeOutput::Sink(_))
}

fn dot(plan: &Plan) -> String {
    let quoted = |s: &str| s.replace('\\', "\\\\").replace('"', "\\\"");
    let mut out = format!(
        "digraph \"{}\" {{\n  rankdir=LR;\n  node [shape=box, fontname=\"sans-serif\"];\n",
        plan.pipeline
    );
    for node in &plan.nodes {
        let label: String = lines(node).iter().map(|l| format!("{}\\l", quoted(l))).collect();
        let style = if is_end(node) { ", style=rounded" } else { "" };
        let _ = writeln!(out, "  {} [label=\"{label}\"{style}];", node.id);
    }
    for edge in &plan.edges {
        let label = edge.when.as_ref().map(|w| format!(" [label=\"{}\"]", quoted(w))).unwrap_or_default();
        let _ = writeln!(out, "  {} -> {}{label};", edge.from, edge.to);
    }
    out.push_str("}\n");
    out
}

fn mermaid(plan: &Plan) -> String {
    // Mermaid reads HTML entities in quoted labels.
    let quoted =
        |s: &str| s.replace('&', "&amp;").replace('"', "&quot;").replace('<', "&lt;").replace('>', "&gt;");
    let mut out = String::from("flowchart LR\n");
    for node in &plan.nodes {
        let label = lines(node).iter().map(|l| quoted(l)).collect::<Vec<_>>().join("<br/>");
        let (open, close) = if is_end(node) { ("([", "])") } else { ("[", "]") };
        let _ = writeln!(out, "  {}{open}\"{label}\"{close}", node.id);
    }
    for edge in &plan.edges {
        let label = edge.when.as_ref().map(|w| format!("|\"{}\"|", quoted(w))).unwrap_or_default();
        let _ = writeln!(out, "  {} -->{label} {}", edge.from, edge.to);
    }
    out
}

/// One paragraph a node, with where its rows go.
fn ascii(plan: &Plan) -> String {
    let mut out = String::new();
    for node in &plan.nodes {
        let lines = lines(node);
        let _ = writeln!(out, "[{}]", lines[0]);
        for line in &lines[1..] {
            let _ = writeln!(out, " |  {line}");
        }
        let edges: Vec<&Edge> = plan.outputs(node.id).collect();
        for edge in edges {
            let when = edge.when.as_ref().map(|w| format!("  when {w}")).unwrap_or_default();
            let _ = writeln!(out, " +--> {}{when}", plan.node(edge.to).name);
        }
        out.push('\n');
    }
    out.truncate(out.trim_end().len());
    out.push('\n');
    out
}
