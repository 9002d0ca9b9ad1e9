//! `api`: a document of the REST API as it is.

use crate::args::ApiArgs;
use crate::manifests::Failure;
use crate::output;

/// Shows what a path answers.
pub(super) async fn run(args: &ApiArgs) -> Result<(), Failure> {
    output::json(&super::client(&args.cluster)?.get(&args.path).await?)?;
    Ok(())
}
