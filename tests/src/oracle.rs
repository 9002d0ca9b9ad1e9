//! DuckDB as an independent judge of what a pipeline wrote: Python scripts under `tests/oracle`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::failure::succeed;
use crate::python;
use crate::workspace::root;

/// The version that is installed from the Python registry.
pub const DUCKDB: &str = "duckdb==2.0.0";

/// A Python interpreter that has DuckDB.
///
/// # Errors
/// As [`python::with`].
pub fn python() -> Result<PathBuf> {
    python::with(DUCKDB)
}

/// Runs `tests/oracle/<script>` with these arguments; it prints what differs and ends with another code than 0 then.
///
/// # Errors
/// When the outputs differ, with the script's explanation.
pub fn judge(script: &str, arguments: &[&Path]) -> Result<String> {
    let script = root().join("tests").join("oracle").join(script);
    let output =
        succeed(Command::new(python()?).arg(script).args(arguments).env("PYTHONDONTWRITEBYTECODE", "1"))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
