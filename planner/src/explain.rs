//! A plan in words, for `plan`.

use std::fmt::Write;

use conveyor_model::plan::{Delivery, Edge, Mode, Node, NodeInput, NodeOutput, Partition, Plan};
use conveyor_model::step::{Flatten, LookupResult, MaskMethod, Op, ParseFormat};

use crate::Compiled;
use crate::types::{schema_names, type_name};
use crate::units::{show_duration, show_size};

/// Longest SQL text shown, in characters.
const SQL_SHOWN: usize = 100;

/// What will run: nodes and their steps, the typed schema of every edge, what sources are asked for, the memory that
/// credits may take, sinks that promise less than was asked for, and notes.
pub fn explain(compiled: &Compiled) -> String {
    let plan = &compiled.plan;
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = write_plan(&mut out, plan);
    if !compiled.notes.is_empty() {
        out.push_str("\nnotes\n");
        for note in &compiled.notes {
            let _ = writeln!(out, "  {note}");
        }
    }
    out
}

fn write_plan(out: &mut String, plan: &Plan) -> std::fmt::Result {
    let mode = match plan.mode {
        Mode::Job => "job",
        Mode::Streaming => "streaming",
    };
    writeln!(
        out,
        "pipeline {}: {mode}, {}, an epoch every {}",
        plan.pipeline,
        delivery(plan.delivery),
        show_duration(plan.checkpoint_interval_ms)
    )?;
    for node in &plan.nodes {
        writeln!(out)?;
        write_node(out, plan, node)?;
    }
    if !plan.lookups.is_empty() {
        writeln!(out, "\nlookups")?;
    }
    for (name, lookup) in &plan.lookups {
        let refresh = match lookup.refresh_ms {
            Some(ms) => format!("loaded anew every {}", show_duration(ms)),
            None => "loaded once".to_owned(),
        };
        let all = lookup.schema.fields().len();
        let used = lookup.projection.join(", ");
        writeln!(
            out,
            "  {name} ({}): {} of {all} columns ({used}), {refresh}",
            lookup.connector,
            lookup.projection.len()
        )?;
    }
    writeln!(out, "\nedges")?;
    let mut total = 0;
    for edge in &plan.edges {
        let channels = channels(plan, edge);
        total += channels * edge.window_bytes;
        writeln!(out, "  {}: {}", edge.name, schema_names(&edge.schema))?;
        let mut how = format!(
            "{channels} channel(s) of {}, {}",
            show_size(edge.window_bytes),
            partition(&edge.partition)
        );
        if let Some(when) = &edge.when {
            let _ = write!(how, ", when {}", short(when));
        }
        writeln!(out, "    {how}")?;
    }
    writeln!(out, "  credits may take {} in all", show_size(total))?;
    writeln!(out, "\n{}", dead_letters(plan))
}

fn write_node(out: &mut String, plan: &Plan, node: &Node) -> std::fmt::Result {
    writeln!(out, "{} ({} subtask(s))", node.name, node.parallelism)?;
    if let NodeInput::Source(source) = &node.input {
        writeln!(out, "  source {}: {}", source.connector, schema_names(&source.full_schema))?;
        let all = source.full_schema.fields().len();
        match source.projection.len() {
            read if read == all => writeln!(out, "    reads all {all} columns")?,
            read => writeln!(out, "    reads {read} of {all} columns: {}", source.projection.join(", "))?,
        }
        if !source.predicate.all.is_empty() {
            writeln!(out, "    reads only rows with {}", source.predicate)?;
        }
        if let Some(time) = &source.event_time {
            let lateness = show_duration(time.allowed_lateness_ms);
            writeln!(
                out,
                "    event time {}, allowed lateness {lateness}, late rows: {}",
                time.column,
                word(&time.late)
            )?;
        }
    }
    for step in &node.steps {
        writeln!(out, "  {}", describe(&step.op))?;
        if step.input != step.output {
            writeln!(out, "    -> {}", schema_names(&step.output))?;
        }
    }
    if let NodeOutput::Sink(sink) = &node.output {
        write!(out, "  sink {}: {}", sink.connector, delivery(sink.delivery))?;
        if sink.delivery < plan.delivery {
            write!(out, " ({} was asked for: this connector cannot)", delivery(plan.delivery))?;
        }
        writeln!(out)?;
    }
    Ok(())
}

fn delivery(delivery: Delivery) -> &'static str {
    match delivery {
        Delivery::ExactlyOnce => "exactly once",
        Delivery::AtLeastOnce => "at least once",
    }
}

fn dead_letters(plan: &Plan) -> String {
    if !plan.dlq.enabled {
        return "dead letters: off; the first row that fails stops the pipeline".into();
    }
    let path = plan.dlq.path.as_deref().unwrap_or("the data directory");
    let percent = plan.dlq.max_ratio * 100.0;
    format!("dead letters: to {path}; more than {percent} % of the rows of a minute stop the pipeline")
}

/// Channels of an edge.
pub(crate) fn channels(plan: &Plan, edge: &Edge) -> u64 {
    let (from, to) = (plan.node(edge.from).parallelism, plan.node(edge.to).parallelism);
    match edge.partition {
        Partition::Forward => u64::from(from),
        _ => u64::from(from) * u64::from(to),
    }
}

fn partition(partition: &Partition) -> String {
    match partition {
        Partition::Forward => "straight on".into(),
        Partition::RoundRobin => "in turn".into(),
        Partition::Hash(columns) => format!("by {}", columns.join(", ")),
    }
}

fn short(sql: &str) -> String {
    let one_line = sql.split_whitespace().collect::<Vec<_>>().join(" ");
    match one_line.char_indices().nth(SQL_SHOWN) {
        Some((end, _)) => format!("{}…", &one_line[..end]),
        None => one_line,
    }
}

/// One line that says what a step does.
pub(crate) fn describe(op: &Op) -> String {
    let list = |all: &mut dyn Iterator<Item = String>| all.collect::<Vec<_>>().join(", ");
    let text = match op {
        Op::Filter { expr } => short(expr),
        Op::Compute { columns } => {
            list(&mut columns.iter().map(|c| format!("{} = {}", c.name, short(&c.expr))))
        }
        Op::Project { columns } => list(&mut columns.iter().map(|(new, old)| match new == old {
            true => new.clone(),
            false => format!("{old} as {new}"),
        })),
        Op::Cast { columns } => {
            list(&mut columns.iter().map(|c| format!("{} to {}", c.name, type_name(&c.to))))
        }
        Op::Mask { columns, .. } => {
            list(&mut columns.iter().map(|c| format!("{} ({})", c.name, method(&c.method))))
        }
        Op::Parse(parse) => {
            let format = match parse.format {
                ParseFormat::Json => "json",
                ParseFormat::Csv { .. } => "csv",
                ParseFormat::Regex { .. } => "regex",
                ParseFormat::KeyValue { .. } => "key_value",
            };
            format!("{} as {format}", parse.column)
        }
        Op::Flatten(Flatten::Structs { columns, .. }) if columns.is_empty() => "all structs".into(),
        Op::Flatten(Flatten::Structs { columns, .. }) => columns.join(", "),
        Op::Flatten(Flatten::Explode { column }) => format!("explode {column}"),
        Op::Validate { rules, on_fail } => {
            let rules = list(&mut rules.iter().map(|r| short(&r.expr)));
            format!("{rules}, else {}", word(on_fail))
        }
        Op::Lookup(lookup) => {
            let on = list(&mut lookup.on.iter().map(|(row, key)| format!("{row} = {key}")));
            let take = list(&mut lookup.select.iter().map(|(new, _)| new.clone()));
            let result = match &lookup.result {
                LookupResult::Merge => String::new(),
                LookupResult::Nest(name) => format!(" nested as {name}"),
                LookupResult::Prefix(prefix) => format!(" with the prefix {prefix}"),
            };
            format!("{} on {on}, taking {take}{result}, on a miss {}", lookup.table, word(&lookup.on_miss))
        }
        Op::Dedupe(d) => {
            format!("by {} within {} of {}", d.keys.join(", "), show_duration(d.within_ms), d.event_time)
        }
        Op::RateLimit { rows_per_second, burst } => format!("{rows_per_second} rows/s, burst {burst}"),
        Op::Sql { query } => short(query),
        Op::MergeByTime { column, max_bytes } => {
            format!("by {column}, holding at most {}", show_size(*max_bytes))
        }
    };
    format!("{} {text}", op.kind())
}

/// The word of a choice as manifests spell it.
fn word(choice: &impl std::fmt::Debug) -> String {
    format!("{choice:?}").to_lowercase()
}

fn method(method: &MaskMethod) -> &'static str {
    match method {
        MaskMethod::Redact { .. } => "redact",
        MaskMethod::Hash => "hash",
        MaskMethod::Partial { .. } => "partial",
        MaskMethod::Nullify => "nullify",
        MaskMethod::Tokenize => "tokenize",
    }
}
