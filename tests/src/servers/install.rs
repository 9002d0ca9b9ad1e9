//! Servers from package registries, each pinned and installed once into a folder under cargo's target directory.

use std::fs::File;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::failure::succeed;
use crate::workspace::cache_dir;

/// A program from the Go module proxy, built by `go install`.
///
/// # Errors
/// When there is no `go`, or the proxy cannot be reached the first time.
pub fn go(package: &str, version: &str) -> Result<PathBuf> {
    let name = package.rsplit('/').next().unwrap_or(package);
    let folder = once(&format!("go-{name}-{version}"), |folder| {
        let target = format!("{package}@{version}");
        succeed(Command::new("go").args(["install", &target]).env("GOBIN", folder).env_remove("GOFLAGS"))
            .with_context(|| {
                format!("the tests run against {name} and build it once: they need `go`, and its module proxy the first time")
            })
            .map(drop)
    })?;
    Ok(folder.join(name))
}

/// The folder of a package from the npm registry.
///
/// # Errors
/// When there is no `npm`, or the registry cannot be reached the first time.
pub fn npm(package: &str, version: &str) -> Result<PathBuf> {
    let folder = once(&format!("npm-{package}-{version}"), |folder| {
        let target = format!("{package}@{version}");
        succeed(
            Command::new("npm")
                .args(["install", "--no-audit", "--no-fund", "--ignore-scripts", "--omit", "dev", "--prefix"])
                .arg(folder)
                .arg(&target),
        )
        .with_context(|| {
            format!("the tests run against {package} and install it once: they need `npm`, and its registry the first time")
        })
        .map(drop)
    })?;
    let package = folder.join("node_modules").join(package);
    ensure!(package.is_dir(), "npm has not made {}", package.display());
    Ok(package)
}

/// Fills a folder once; a test that comes meanwhile waits for it.
fn once(name: &str, fill: impl FnOnce(&std::path::Path) -> Result<()>) -> Result<PathBuf> {
    let cache = cache_dir()?;
    let lock = File::create(cache.join(format!("{name}.lock"))).context("cannot create an install lock")?;
    lock.lock().context("cannot lock an install lock")?;
    let folder = cache.join(name);
    let ready = folder.join("ready");
    if !ready.exists() {
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        fill(&folder)?;
        File::create(&ready).context("cannot mark an installation as ready")?;
    }
    Ok(folder)
}
