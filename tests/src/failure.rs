//! Running a command to its end, with everything it said in the error.

use std::process::{Command, Output};

use anyhow::{Context, Result, bail};

/// Runs a command and returns what it printed.
///
/// # Errors
/// When it cannot be started or does not end with exit code 0; both outputs are in the message.
pub fn succeed(command: &mut Command) -> Result<Output> {
    let output = command.output().with_context(|| format!("cannot start {command:?}"))?;
    if !output.status.success() {
        bail!(
            "{command:?} ended with {}\nstandard output:\n{}\nstandard error:\n{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(output)
}
