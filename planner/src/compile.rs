//! Objects and what discovery found to a plan.

pub(crate) mod emit;
pub(crate) mod flow;
pub(crate) mod lower;
pub(crate) mod needs;
pub(crate) mod optimize;
pub(crate) mod output;
pub(crate) mod rows;
pub(crate) mod typing;
pub(crate) mod unite;

use std::collections::BTreeMap;

use arrow_schema::SchemaRef;
use conveyor_model::connector::Registry;
use conveyor_model::plan::Plan;
use conveyor_model::source::Discovered;
use conveyor_model::{Error, PipelineId};

use crate::diagnostic::{At, Diagnostic, Diagnostics};
use crate::objects::Objects;

/// What is known of the world outside: the answers to [`Objects::discoveries`].
#[derive(Default)]
pub struct Catalog {
    /// Connectors.
    pub registry: Registry,
    /// By name of the source.
    pub sources: BTreeMap<String, Discovered>,
    /// Schemas of lookup tables, by name.
    pub lookups: BTreeMap<String, SchemaRef>,
    /// Discoveries that failed, by name of the source or lookup: they become diagnostics at its place.
    pub failures: BTreeMap<String, Error>,
}

/// Settings of the planner that no manifest holds.
#[derive(Debug, Clone)]
pub struct Options {
    /// Subtasks of a node when neither the pipeline nor the source says how many.
    pub default_parallelism: u32,
    /// Most bytes in flight on one channel; the engine adapts below it.
    pub window_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { default_parallelism: 1, window_bytes: 8 << 20 }
    }
}

/// A plan and what is to be said about it.
#[derive(Debug)]
pub struct Compiled {
    /// What runs.
    pub plan: Plan,
    /// Worth a look, but no hindrance.
    pub warnings: Vec<Diagnostic>,
    /// How schemas were found, what the plan does that the manifest does not say.
    pub notes: Vec<String>,
}

/// Plans a pipeline: types flow from the sources to the sinks, columns and predicates flow back to the sources, and
/// neighbouring steps are joined into nodes. The same objects and catalogue give the same plan, byte for byte.
///
/// # Errors
/// All mistakes that can be found. The list holds no error only when [`crate::parse`] has already reported errors of this
/// pipeline and nothing is to be added, or when the catalogue has neither an answer nor a failure for one of its sources
/// or lookups: then the manifest is checked as far as it can be without looking outside.
pub fn compile(
    objects: &Objects,
    pipeline: &PipelineId,
    catalog: &Catalog,
    options: &Options,
) -> Result<Compiled, Vec<Diagnostic>> {
    let mut diags = Diagnostics::new(objects.files.clone());
    let Some(graph) = objects.graphs.get(pipeline) else {
        let known: Vec<_> = objects.graphs.keys().map(|p| p.to_string()).collect();
        let help = crate::diagnostic::did_you_mean(&pipeline.to_string(), known.iter().map(String::as_str));
        diags.error_help(
            "unknown-pipeline",
            &At::default(),
            format!("there is no pipeline `{pipeline}`"),
            help,
        );
        return Err(diags.finish());
    };
    let mut notes = Vec::new();
    let flow = typing::build(graph, catalog, options, &mut diags, &mut notes);
    let found = graph.sources.iter().all(|s| catalog.sources.contains_key(&s.name.value))
        && graph.lookups.keys().all(|l| catalog.lookups.contains_key(l));
    if graph.broken || !found || diags.errors() > 0 {
        return Err(diags.finish());
    }
    let flow = optimize::optimize(flow, graph, catalog);
    match emit::emit(flow, pipeline, graph, catalog, options, &mut notes) {
        Ok(plan) => Ok(Compiled { plan, warnings: diags.finish(), notes }),
        Err(wrong) => {
            // The narrowed steps are typed like those that were checked, so this is a fault of the planner; it is
            // still said in words rather than by a panic.
            diags.error_help(
                "unsound-plan",
                &At::default(),
                format!(
                    "the plan does not fit together after columns were left out: {} [{}]",
                    wrong.message, wrong.code
                ),
                "this is a fault of the planner: please report it with the manifest".to_owned(),
            );
            Err(diags.finish())
        }
    }
}
