//! Running `conveyorctl` with an eye on its memory, and an end to it if it hangs.

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::kill::{now, wait_until};

/// What a run did.
#[derive(Debug)]
pub struct Outcome {
    /// Exit code; `None` if a signal ended it, which is what a crash looks like.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// Peak resident memory in MiB, as far as it was seen while the process lived.
    pub peak_mib: u64,
}

/// Runs a command that must end within `patience`.
///
/// # Errors
/// When it cannot be started, or hangs.
pub fn run(command: &mut Command, patience: Duration) -> Result<Outcome> {
    let folder = tempfile::tempdir().context("cannot create a folder for the output")?;
    let file =
        |name: &str| std::fs::File::create(folder.path().join(name)).context("cannot create an output file");
    let mut child = command.stdin(Stdio::null()).stdout(file("out")?).stderr(file("err")?).spawn()?;
    let pid = child.id();
    let mut peak_mib = 0;
    let ended = wait_until(&mut child, now() + patience, || {
        peak_mib = peak(pid).unwrap_or(0).max(peak_mib);
        false
    })?;
    let read = |name: &str| -> Result<String> {
        let mut bytes = Vec::new();
        std::fs::File::open(folder.path().join(name))?.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let Some(status) = ended else {
        child.kill().context("cannot kill the hanging process")?;
        child.wait().context("cannot wait for the killed process")?;
        bail!("{command:?} still ran after {patience:?}; it had said:\n{}", read("err")?);
    };
    Ok(Outcome { code: status.code(), stdout: read("out")?, stderr: read("err")?, peak_mib })
}

/// `VmHWM` of a process in MiB; nothing on systems without `/proc`.
fn peak(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|l| l.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib / 1024)
}
