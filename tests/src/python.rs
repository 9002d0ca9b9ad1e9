//! Python tools that tests use, each in a virtual environment of its own under the target directory.

use std::fs::File;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::failure::succeed;
use crate::workspace::cache_dir;

/// A Python interpreter that has `requirement` (`name==version`), installed from the Python registry the first time.
///
/// # Errors
/// When there is no `python3`, or the registry cannot be reached the first time.
pub fn with(requirement: &str) -> Result<PathBuf> {
    let cache = cache_dir()?;
    let lock = File::create(cache.join("venv.lock"))
        .context("cannot create the lock of the virtual environments")?;
    lock.lock().context("cannot lock the virtual environments")?;
    let venv = cache.join(format!("venv-{}", requirement.replace("==", "-")));
    let python = venv.join("bin").join("python");
    let ready = venv.join("ready");
    if !ready.exists() {
        succeed(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv))
            .context("the tests need python3 with its venv module")?;
        let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", requirement];
        succeed(Command::new(&python).args(install))
            .with_context(|| format!("the tests install {requirement} once from the Python registry"))?;
        File::create(&ready).context("cannot mark the virtual environment as ready")?;
    }
    Ok(python)
}
