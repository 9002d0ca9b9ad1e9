//! DuckDB as an independent judge of what a pipeline wrote: Python scripts under `tests/oracle`.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::failure::succeed;
use crate::workspace::{cache_dir, root};

/// The version that is installed from the Python registry.
pub const DUCKDB: &str = "duckdb==2.0.0";

/// A Python interpreter that has DuckDB, in a virtual environment under the target directory.
///
/// # Errors
/// When there is no `python3`, or the registry cannot be reached the first time.
pub fn python() -> Result<PathBuf> {
    let cache = cache_dir()?;
    let lock =
        File::create(cache.join("venv.lock")).context("cannot create the lock of the virtual environment")?;
    lock.lock().context("cannot lock the virtual environment")?;
    let venv = cache.join(format!("venv-{}", DUCKDB.replace("==", "-")));
    let python = venv.join("bin").join("python");
    let ready = venv.join("ready");
    if !ready.exists() {
        succeed(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv))
            .context("the tests compare with DuckDB and need python3 with its venv module")?;
        succeed(Command::new(&python).args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            DUCKDB,
        ]))
        .context("the tests compare with DuckDB and install it once from the Python registry")?;
        File::create(&ready).context("cannot mark the virtual environment as ready")?;
    }
    Ok(python)
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
