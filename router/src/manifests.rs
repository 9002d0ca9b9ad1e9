//! From manifest documents to compiled plans: asks connectors for schemas, and hands both to the planner.

use conveyor_model::connector::Registry;
use conveyor_model::{Error, Kind, PipelineId, Result};
use conveyor_planner::{Catalog, Compiled, Diagnostic, Document, Objects, Options, Severity};

/// Namespace of pipelines that name none.
pub const NAMESPACE: &str = "default";

/// Which pipelines of the manifests are meant, and how they are planned.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Only the pipeline of this name.
    pub pipeline: Option<String>,
    /// Only pipelines of this namespace; with a name, `default` by default.
    pub namespace: Option<String>,
    /// Subtasks of a node where nothing else says how many.
    pub parallelism: u32,
    /// Whether sources and lookups are asked for their schemas. Without that only declared columns are known.
    pub look_outside: bool,
}

/// Compiled pipelines and what was said about them.
#[derive(Debug)]
pub struct Loaded {
    /// Compiled pipelines, in the order of the manifests.
    pub compiled: Vec<Compiled>,
    /// Warnings.
    pub warnings: Vec<Diagnostic>,
}

/// What can go wrong between manifests and plans.
#[derive(Debug)]
pub enum Failure {
    /// Mistakes in the manifests, all of them.
    Diagnostics(Vec<Diagnostic>),
    /// The manifests are right as far as could be seen, but a system that they name does not answer.
    Unreachable(Vec<Diagnostic>),
    /// Anything else.
    Error(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Error(error)
    }
}

/// Discovers and compiles.
///
/// # Errors
/// All mistakes of all documents at once.
pub async fn compile(
    documents: &[Document],
    selection: &Selection,
    registry: &Registry,
) -> Result<Loaded, Failure> {
    let parsed = conveyor_planner::parse(documents, registry);
    let (mut errors, mut warnings) = split(parsed.diagnostics);
    let pipelines = choose(&parsed.objects, selection, errors.is_empty())?;
    let options = Options { default_parallelism: selection.parallelism.max(1), ..Options::default() };
    let mut compiled = Vec::new();
    let mut unreachable = Vec::new();
    for id in &pipelines {
        let catalog = discover(&parsed.objects, id, registry, selection.look_outside).await;
        let away = catalog.failures.values().filter(|e| e.kind() == Kind::Unavailable);
        unreachable.extend(away.map(Error::code));
        match conveyor_planner::compile(&parsed.objects, id, &catalog, &options) {
            Ok(c) => {
                warnings.extend(c.warnings.iter().cloned());
                compiled.push(c);
            }
            Err(found) => {
                let (found, also) = split(found);
                errors.extend(found);
                warnings.extend(also);
            }
        }
    }
    if errors.is_empty() {
        warnings.extend(parsed.objects.unused());
        return Ok(Loaded { compiled, warnings });
    }
    errors.sort_by(|a, b| (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column)));
    errors
        .dedup_by(|a, b| (&a.file, a.line, a.column, &a.message) == (&b.file, b.line, b.column, &b.message));
    let away = errors.iter().all(|e| unreachable.contains(&e.code));
    errors.extend(warnings);
    Err(if away { Failure::Unreachable(errors) } else { Failure::Diagnostics(errors) })
}

fn split(diagnostics: Vec<Diagnostic>) -> (Vec<Diagnostic>, Vec<Diagnostic>) {
    diagnostics.into_iter().partition(|d| d.severity == Severity::Error)
}

fn choose(objects: &Objects, selection: &Selection, clean: bool) -> Result<Vec<PipelineId>> {
    let all = objects.pipelines();
    let Some(name) = &selection.pipeline else {
        if all.is_empty() && clean {
            return Err(Error::bad_input("no-pipeline", "the manifests hold no object of kind Pipeline")
                .help("give the file or folder that holds it with -f"));
        }
        let Some(namespace) = &selection.namespace else { return Ok(all) };
        let of: Vec<_> = all.iter().filter(|id| id.namespace == *namespace).cloned().collect();
        if of.is_empty() && clean {
            return Err(unknown(&format!("no pipeline of namespace {namespace}"), &all));
        }
        return Ok(of);
    };
    let wanted = PipelineId::new(selection.namespace.as_deref().unwrap_or(NAMESPACE), name);
    if all.contains(&wanted) {
        return Ok(vec![wanted]);
    }
    if !clean {
        // It may be in what cannot be read: that is what there is to say.
        return Ok(Vec::new());
    }
    Err(unknown(&format!("no pipeline {wanted}"), &all))
}

fn unknown(what: &str, all: &[PipelineId]) -> Error {
    let names: Vec<_> = all.iter().map(PipelineId::to_string).collect();
    Error::bad_input("unknown-pipeline", format!("the manifests hold {what}"))
        .help(format!("they hold: {}", names.join(", ")))
}

/// Asks the connectors of one pipeline for schemas. A failure is kept: the planner reports it at the object's place.
async fn discover(objects: &Objects, id: &PipelineId, registry: &Registry, look_outside: bool) -> Catalog {
    let mut catalog = Catalog { registry: registry.clone(), ..Catalog::default() };
    if !look_outside {
        return catalog;
    }
    let wanted = objects.discoveries(id);
    for (connector, request) in wanted.sources {
        let Some(source) = registry.sources.get(connector.as_str()) else { continue };
        match source.discover(&request).await {
            Ok(found) => drop(catalog.sources.insert(request.name.to_string(), found)),
            Err(error) => drop(catalog.failures.insert(request.name.to_string(), error)),
        }
    }
    for (connector, request) in wanted.lookups {
        let Some(lookup) = registry.lookups.get(connector.as_str()) else { continue };
        match lookup.discover(&request).await {
            Ok(schema) => drop(catalog.lookups.insert(request.name.to_string(), schema)),
            Err(error) => drop(catalog.failures.insert(request.name.to_string(), error)),
        }
    }
    catalog
}
