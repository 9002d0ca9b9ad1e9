//! Running an example of the repository with its output in a folder of its own.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::failure::succeed;
use crate::{binary, workspace};

/// Writes the example's manifest into `out`, with its output folder replaced by `out`.
///
/// # Errors
/// When the manifest cannot be read or written, or names no output folder.
pub fn moved(example: &str, out: &Path) -> Result<PathBuf> {
    let manifest = workspace::root().join("examples").join(example).join("pipeline.yaml");
    let text =
        std::fs::read_to_string(&manifest).with_context(|| format!("cannot read {}", manifest.display()))?;
    let folder = format!("out/{example}");
    ensure!(text.contains(&folder), "{} does not write into {folder}", manifest.display());
    let path = out.join("pipeline.yaml");
    std::fs::write(&path, text.replace(&folder, &out.display().to_string()))
        .context("cannot write the manifest")?;
    Ok(path)
}

/// Runs a manifest to its end, with its data directory beside it; what it said on standard error.
///
/// # Errors
/// When the run fails.
pub fn run(manifest: &Path) -> Result<String> {
    let data = manifest.parent().unwrap_or(Path::new(".")).join("data");
    let output = succeed(binary::command()?.arg("run").arg("-f").arg(manifest).arg("--data-dir").arg(data))?;
    Ok(String::from_utf8_lossy(&output.stderr).into_owned())
}
