//! Log lines on standard error.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::args::Global;

/// Sets up log lines once for the process. `CONVEYOR_LOG` wins over the flags.
pub fn init(global: &Global) {
    let default = match (global.quiet, global.verbose) {
        (true, _) => "error",
        (false, 0) => "warn,conveyor=info,conveyor_cli=info",
        (false, 1) => "info",
        (false, _) => "debug",
    };
    let filter = EnvFilter::try_from_env("CONVEYOR_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(global.verbose > 0)
        .with_writer(crate::progress::stderr_writer)
        .with_ansi(use_color(global));
    if global.log_json { builder.json().init() } else { builder.init() }
}

/// Whether standard error may carry colours.
pub fn use_color(global: &Global) -> bool {
    !global.no_color && std::env::var_os("NO_COLOR").is_none() && std::io::stderr().is_terminal()
}
