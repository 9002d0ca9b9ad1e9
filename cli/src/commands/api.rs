//! `api`: a document of the REST API as it is.

use crate::args::ApiArgs;
use crate::cluster::{Client, context};
use crate::manifests::Failure;
use crate::output;
use conveyor_model::Error;

/// Shows what a path answers.
pub(super) async fn run(args: &ApiArgs) -> Result<(), Failure> {
    let target = context::target(&args.cluster)?.ok_or_else(no_cluster)?;
    output::json(&Client::new(&target)?.get(&args.path).await?)?;
    Ok(())
}

/// The error of a verb that needs a cluster.
pub(super) fn no_cluster() -> Error {
    Error::bad_input("no-cluster", "no cluster is named")
        .help("give --endpoint or --context, or choose one with `conveyorctl context use`")
}
