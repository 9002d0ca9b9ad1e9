//! Log lines on standard error, and the last of them in memory.

mod keep;

use std::io::IsTerminal;
use std::sync::{Arc, OnceLock};

use conveyor_net::Journal;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

use crate::args::Global;
use keep::Keep;

/// Sets up log lines once for the process. `CONVEYOR_LOG` wins over the flags.
pub fn init(global: &Global) {
    let default = match (global.quiet, global.verbose) {
        (true, _) => "error",
        (false, 0) => "warn,conveyor=info,conveyor_cli=info",
        (false, 1) => "info",
        (false, _) => "debug",
    };
    let filter = EnvFilter::try_from_env("CONVEYOR_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    let lines = tracing_subscriber::fmt::layer()
        .with_target(global.verbose > 0)
        .with_writer(crate::progress::stderr_writer)
        .with_ansi(use_color(global));
    let lines = if global.log_json { lines.json().boxed() } else { lines.boxed() };
    tracing_subscriber::registry().with(filter).with(lines).with(Keep(journal())).init();
}

/// What this process says, as other processes may ask for it.
pub fn journal() -> Arc<Journal> {
    static JOURNAL: OnceLock<Arc<Journal>> = OnceLock::new();
    JOURNAL.get_or_init(Arc::default).clone()
}

/// Whether standard error may carry colours.
pub fn use_color(global: &Global) -> bool {
    !global.no_color && std::env::var_os("NO_COLOR").is_none() && std::io::stderr().is_terminal()
}
