//! From `-f` to compiled plans: reads files, asks connectors for schemas, hands both to the planner.

use std::io::Read;
use std::path::{Path, PathBuf};

use conveyor_model::connector::Registry;
use conveyor_model::{Error, Kind, PipelineId, Result};
use conveyor_planner::{Catalog, Compiled, Diagnostic, Document, Objects, Options, Severity};

use crate::args::{Files, NAMESPACE};

/// Largest manifest file, in bytes. It may hold many documents; the planner's limit for each of them is lower.
const MAX_FILE_BYTES: u64 = 64 << 20;

/// A compiled pipeline and what was said about it.
#[derive(Debug)]
pub struct Loaded {
    /// Compiled pipelines, in the order of the manifests.
    pub compiled: Vec<Compiled>,
    /// Warnings.
    pub warnings: Vec<Diagnostic>,
}

/// What can go wrong between `-f` and a plan.
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

/// Reads, discovers and compiles.
///
/// # Errors
/// All mistakes of all documents at once, or the first file that cannot be read.
pub async fn load(files: &Files, registry: &Registry, look_outside: bool) -> Result<Loaded, Failure> {
    let documents = read_documents(&files.files)?;
    let parsed = conveyor_planner::parse(&documents, registry);
    let (mut errors, mut warnings) = split(parsed.diagnostics);
    let pipelines = choose(&parsed.objects, files, errors.is_empty())?;
    let mut compiled = Vec::new();
    let mut unreachable = Vec::new();
    for id in &pipelines {
        let catalog = discover(&parsed.objects, id, registry, look_outside).await;
        let away = catalog.failures.values().filter(|e| e.kind() == Kind::Unavailable);
        unreachable.extend(away.map(Error::code));
        match conveyor_planner::compile(&parsed.objects, id, &catalog, &options(files)) {
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
        Ok(Loaded { compiled, warnings })
    } else {
        errors.sort_by(|a, b| (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column)));
        errors.dedup_by(|a, b| {
            (&a.file, a.line, a.column, &a.message) == (&b.file, b.line, b.column, &b.message)
        });
        let away = errors.iter().all(|e| unreachable.contains(&e.code));
        errors.extend(warnings);
        Err(if away { Failure::Unreachable(errors) } else { Failure::Diagnostics(errors) })
    }
}

fn split(diagnostics: Vec<Diagnostic>) -> (Vec<Diagnostic>, Vec<Diagnostic>) {
    diagnostics.into_iter().partition(|d| d.severity == Severity::Error)
}

fn options(files: &Files) -> Options {
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get() as u32);
    Options { default_parallelism: files.parallelism.unwrap_or(cores), ..Options::default() }
}

fn choose(objects: &Objects, files: &Files, clean: bool) -> Result<Vec<PipelineId>> {
    let all = objects.pipelines();
    let Some(name) = &files.pipeline else {
        if all.is_empty() && clean {
            return Err(Error::bad_input("no-pipeline", "the manifests hold no object of kind Pipeline")
                .help("give the file or folder that holds it with -f"));
        }
        let Some(namespace) = &files.namespace else { return Ok(all) };
        let of: Vec<_> = all.iter().filter(|id| id.namespace == *namespace).cloned().collect();
        if of.is_empty() && clean {
            return Err(unknown(&format!("no pipeline of namespace {namespace}"), &all));
        }
        return Ok(of);
    };
    let wanted = PipelineId::new(files.namespace.as_deref().unwrap_or(NAMESPACE), name);
    if all.contains(&wanted) {
        return Ok(vec![wanted]);
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
            Ok(found) => {
                catalog.sources.insert(request.name.to_string(), found);
            }
            Err(error) => {
                catalog.failures.insert(request.name.to_string(), error);
            }
        }
    }
    for (connector, request) in wanted.lookups {
        let Some(lookup) = registry.lookups.get(connector.as_str()) else { continue };
        match lookup.discover(&request).await {
            Ok(schema) => {
                catalog.lookups.insert(request.name.to_string(), schema);
            }
            Err(error) => {
                catalog.failures.insert(request.name.to_string(), error);
            }
        }
    }
    catalog
}

/// Reads all documents that `-f` names. Folders give their `.yaml` and `.yml` files, in order, with subfolders.
fn read_documents(files: &[PathBuf]) -> Result<Vec<Document>> {
    let mut documents = Vec::new();
    for file in files {
        if file.as_os_str() == "-" {
            documents.push(read(std::io::stdin().lock(), "-")?);
        } else if file.is_dir() {
            let before = documents.len();
            read_folder(file, &mut documents)?;
            if documents.len() == before {
                return Err(Error::bad_input("no-manifests", "the folder holds no .yaml or .yml file")
                    .in_split(file.display())
                    .help("give the manifest, or the folder that holds it, with -f"));
            }
        } else {
            documents.push(read_file(file)?);
        }
    }
    Ok(documents)
}

fn read_folder(folder: &Path, documents: &mut Vec<Document>) -> Result<()> {
    let unreadable = |e: std::io::Error| {
        Error::bad_input("unreadable-folder", "a folder of manifests cannot be read")
            .in_split(folder.display())
            .because(e)
            .help("check its rights, or give single manifests with -f")
    };
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        entries.push(entry.map_err(unreadable)?.path());
    }
    entries.sort();
    for path in entries {
        let hidden = path.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.'));
        if path.is_dir() && !hidden {
            read_folder(&path, documents)?;
        } else if path.extension().is_some_and(|e| e == "yaml" || e == "yml") {
            documents.push(read_file(&path)?);
        }
    }
    Ok(())
}

fn read_file(path: &Path) -> Result<Document> {
    let file = std::fs::File::open(path).map_err(|e| {
        Error::bad_input("unreadable-manifest", "a manifest cannot be opened")
            .in_split(path.display())
            .because(e)
            .help("check the path given with -f")
    })?;
    read(file, &path.display().to_string())
}

fn read(reader: impl Read, name: &str) -> Result<Document> {
    let mut bytes = Vec::new();
    reader.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(|e| {
        Error::bad_input("unreadable-manifest", "a manifest cannot be read").in_split(name).because(e)
    })?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(Error::new(
            Kind::BadInput,
            "manifest-too-large",
            "a manifest file is larger than 64 MiB",
        )
        .in_split(name)
        .help("split it into several files"));
    }
    let text = String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        Error::bad_input("manifest-not-utf8", "a manifest is not UTF-8 text")
            .in_split(name)
            .at_position(format!("byte {at}"))
    })?;
    Ok(Document { name: name.to_string(), text })
}
