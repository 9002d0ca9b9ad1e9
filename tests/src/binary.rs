//! The `conveyorctl` that is tested: built once per process, from this tree, with crash points compiled in.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::workspace::{cache_dir, cargo, root};

/// Path of the built binary.
///
/// `--workspace --tests` makes cargo unify features as `cargo test --workspace` does, so that nothing is compiled twice;
/// the crash points come from this crate's dependency on the command line. The file is copied aside, because another build
/// may replace cargo's own while a test runs it.
///
/// `CONVEYORCTL` names another binary to test instead, which must have been built with crash points.
///
/// # Errors
/// When the build fails; the compiler's output is in the message.
pub fn conveyorctl() -> Result<PathBuf> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    if let Some(given) = std::env::var_os("CONVEYORCTL") {
        return Ok(given.into());
    }
    BUILT.get_or_init(|| build().map_err(|e| format!("{e:#}"))).clone().map_err(anyhow::Error::msg)
}

fn build() -> Result<PathBuf> {
    let cache = cache_dir()?;
    let lock = File::create(cache.join("build.lock")).context("cannot create the build lock")?;
    lock.lock().context("cannot lock the build lock")?;
    let mut command = cargo();
    command.args(["build", "--workspace", "--bins", "--message-format", "json-render-diagnostics"]);
    command.arg(if cfg!(debug_assertions) { "--tests" } else { "--release" });
    let output = command.stdin(Stdio::null()).output().context("cannot run cargo build")?;
    if !output.status.success() {
        bail!("conveyorctl does not build:\n{}", String::from_utf8_lossy(&output.stderr));
    }
    let built = String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|m| m["reason"] == "compiler-artifact" && m["target"]["name"] == "conveyorctl")
        // `--tests` makes a second executable of that name, with the unit tests of `main.rs`.
        .filter(|m| m["profile"]["test"] == false)
        .find_map(|m| m["executable"].as_str().map(PathBuf::from))
        .context("cargo build names no executable conveyorctl")?;
    let own = cache.join(format!("conveyorctl-{}", if cfg!(debug_assertions) { "debug" } else { "release" }));
    let fresh = cache.join(format!("conveyorctl-{}.new", std::process::id()));
    std::fs::copy(&built, &fresh).with_context(|| format!("cannot copy {}", built.display()))?;
    std::fs::rename(&fresh, &own).with_context(|| format!("cannot replace {}", own.display()))?;
    Ok(own)
}

/// A `conveyorctl` command that runs in the root of the repository, without colours or a terminal.
///
/// # Errors
/// When the build fails.
pub fn command() -> Result<Command> {
    let mut command = Command::new(conveyorctl()?);
    command.current_dir(root()).stdin(Stdio::null()).env("NO_COLOR", "1").env_remove("CONVEYOR_CRASH_AT");
    Ok(command)
}
