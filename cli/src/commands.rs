//! One module a verb.

mod api;
mod certs;
mod completion;
mod context;
mod dlq;
mod get;
mod graph;
mod plan;
mod replay;
mod router;
mod run;
mod sidecar;
mod validate;

use conveyor_model::Result;

use crate::args::{Args, Command, Global};
use crate::manifests::Failure;
use crate::{crash, exit, output};

/// Runs the command and returns the process's exit code.
pub async fn execute(args: Args) -> u8 {
    let global = &args.global;
    let done = match args.command {
        Command::Run(args) => run::run(global, &args).await,
        Command::Validate(args) => validate::run(global, &args).await,
        Command::Plan(args) => return plan::run(global, &args).await,
        Command::Graph(args) => graph::run(&args).await,
        Command::Schema => schema(),
        Command::Dlq(command) => dlq::run(global, command).await,
        Command::Get(args) => get::run(&args).await,
        Command::Certs(args) => certs::run(global, args),
        Command::Context(command) => context::run(&command),
        Command::Api(args) => api::run(&args).await,
        Command::Completion { shell } => completion::run(shell),
        Command::Router(args) => router::run(&args).await,
        Command::Sidecar(args) => sidecar::run(&args).await,
        Command::Failpoints => failpoints(),
    };
    match done {
        Ok(()) => exit::OK,
        Err(failure) => report(global, failure),
    }
}

/// Shows what went wrong and returns the exit code.
fn report(global: &Global, failure: Failure) -> u8 {
    match failure {
        Failure::Error(error) => exit::report(&error),
        Failure::Diagnostics(diagnostics) => {
            validate::print(global, &diagnostics);
            exit::BAD_INPUT
        }
        Failure::Unreachable(diagnostics) => {
            validate::print(global, &diagnostics);
            exit::UNREACHABLE
        }
    }
}

fn schema() -> Result<(), Failure> {
    output::json(&conveyor_planner::json_schema(&conveyor_connectors::registry()))?;
    Ok(())
}

fn failpoints() -> Result<(), Failure> {
    for name in crash::names() {
        output::line(name)?;
    }
    Ok(())
}
