//! `completion`: a script for bash, zsh, fish and others.

use clap::CommandFactory;

use crate::args::Args;
use crate::manifests::Failure;
use crate::output;

/// Prints the script.
pub(super) fn run(shell: clap_complete::Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "conveyorctl", &mut script);
    output::line(String::from_utf8_lossy(&script).trim_end())?;
    Ok(())
}
