//! From `-f` to compiled plans: reads files, and compiles them as a router does.

use std::io::Read;
use std::path::{Path, PathBuf};

use conveyor_model::connector::Registry;
use conveyor_model::{Error, Kind, PipelineId, Result};
use conveyor_planner::{Document, Severity};
use conveyor_router::manifests::Selection;

pub use conveyor_router::manifests::{Failure, Loaded};

use crate::args::{Files, NAMESPACE};

/// Largest manifest file, in bytes. It may hold many documents; the planner's limit for each of them is lower.
const MAX_FILE_BYTES: u64 = 64 << 20;

/// Reads, discovers and compiles.
///
/// # Errors
/// All mistakes of all documents at once, or the first file that cannot be read.
pub async fn load(files: &Files, registry: &Registry, look_outside: bool) -> Result<Loaded, Failure> {
    let documents = read_documents(&files.files)?;
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get() as u32);
    let selection = Selection {
        pipeline: files.pipeline.clone(),
        namespace: files.namespace.clone(),
        parallelism: files.parallelism.unwrap_or(cores),
        look_outside,
    };
    conveyor_router::manifests::compile(&documents, &selection, registry).await
}

/// The text of all manifests and the pipelines in them, checked as far as that goes without a look at their sources.
///
/// # Errors
/// All mistakes of all documents at once, or the first file that cannot be read.
pub fn checked(files: &Files, registry: &Registry) -> Result<(String, Vec<PipelineId>), Failure> {
    let documents = read_documents(&files.files)?;
    let parsed = conveyor_planner::parse(&documents, registry);
    let mistakes: Vec<_> = parsed.diagnostics.into_iter().filter(|d| d.severity == Severity::Error).collect();
    if !mistakes.is_empty() {
        return Err(Failure::Diagnostics(mistakes));
    }
    let meant = |id: &PipelineId| {
        let namespace = files.namespace.as_deref().or(files.pipeline.as_ref().map(|_| NAMESPACE));
        files.pipeline.as_ref().is_none_or(|name| *name == id.name)
            && namespace.is_none_or(|namespace| namespace == id.namespace)
    };
    let ids: Vec<PipelineId> = parsed.objects.pipelines().into_iter().filter(meant).collect();
    if ids.is_empty() {
        return Err(Error::bad_input("no-pipeline", "the manifests hold no such pipeline")
            .help("give the file or folder that holds it with -f")
            .into());
    }
    let texts: Vec<String> = documents.into_iter().map(|d| d.text).collect();
    Ok((texts.join("\n---\n"), ids))
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
