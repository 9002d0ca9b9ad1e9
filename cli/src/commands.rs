//! One module a verb.

mod api;
mod apply;
mod backup;
mod certs;
mod cluster;
mod completion;
mod context;
mod dlq;
mod get;
mod graph;
mod logs;
mod plan;
mod remote;
mod replay;
mod router;
mod run;
mod saved;
mod sidecar;
mod tap;
mod top;
mod validate;

use conveyor_model::{Error, PipelineId, Result};

use crate::args::{Args, ClusterArgs, Command, Global};
use crate::cluster::{Client, context as contexts};
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
        Command::Apply(args) => apply::run(global, &args).await,
        Command::Describe(args) => remote::describe(&args).await,
        Command::Delete(args) => remote::delete(global, &args).await,
        Command::Pause(args) => remote::act(global, &args, "pause").await,
        Command::Resume(args) => remote::act(global, &args, "resume").await,
        Command::Drain(args) => remote::act(global, &args, "drain").await,
        Command::History(args) => remote::history(&args).await,
        Command::Rollback(args) => remote::rollback(global, &args).await,
        Command::Logs(args) => logs::run(&args).await,
        Command::Top(args) => top::run(&args).await,
        Command::Tap(args) => tap::run(global, &args).await,
        Command::Cluster(command) => cluster::run(global, &command).await,
        Command::Backup(command) => backup::run(global, &command).await,
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

/// A client of the cluster that is meant.
fn client(args: &ClusterArgs) -> Result<Client> {
    let target = contexts::target(args)?.ok_or_else(|| {
        Error::bad_input("no-cluster", "no cluster is named")
            .help("give --endpoint or --context, or choose one with `conveyorctl context use`")
    })?;
    Client::new(&target)
}

/// Path of a pipeline in the REST API.
fn pipeline_path(id: &PipelineId) -> String {
    format!("/v1/pipelines/{}/{}", id.namespace, id.name)
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
