//! `apply`: makes or changes the pipelines of a cluster as manifests say.

use conveyor_model::{Error, PipelineId};
use hyper::Method;
use serde_json::{Value, json};

use crate::args::{ApplyArgs, Format, Global};
use crate::cluster::Client;
use crate::manifests::{self, Failure};
use crate::output;

use super::saved::Saved;

/// Applies all pipelines; one that fails does not keep the others back, and the first failure is the outcome.
pub(super) async fn run(global: &Global, args: &ApplyArgs) -> Result<(), Failure> {
    let wanted = match &args.plan {
        Some(path) => Saved::read(path)?,
        // Mistakes that need no look at the sources are found here, before any network.
        None => Saved::of(manifests::checked(&args.files.files(), &conveyor_connectors::registry())?),
    };
    let client = super::client(&args.cluster)?;
    let (mut documents, mut first) = (Vec::new(), None);
    for (id, version) in &wanted.pipelines {
        match one(&client, args, id, version.or(args.if_version), &wanted.manifest).await {
            Ok(done) if args.output == Format::Text => {
                if !global.quiet {
                    eprintln!("{}", sentence(id, &done, args.validate_only));
                }
            }
            Ok(done) => documents.push(done),
            Err(error) => {
                let error = error.in_pipeline(id);
                if let Some(before) = first.replace(error) {
                    crate::exit::report(&before);
                }
            }
        }
    }
    if args.output != Format::Text {
        output::documents(documents, args.output)?;
    }
    first.map_or(Ok(()), |error| Err(error.into()))
}

async fn one(
    client: &Client,
    args: &ApplyArgs,
    id: &PipelineId,
    expect: Option<u64>,
    text: &str,
) -> Result<Value, Error> {
    let body = json!({"manifest": text, "acceptStateLoss": args.accept_state_loss, "reset": args.reset});
    let query = if args.validate_only { "?validate_only=true" } else { "" };
    let path = format!("{}{query}", super::pipeline_path(id));
    Ok(client.send(Method::PUT, &path, Some(&body), expect).await?.body)
}

fn sentence(id: &PipelineId, done: &Value, dry: bool) -> String {
    let count = |name: &str| done["changes"][name].as_u64().unwrap_or_default();
    let would = if dry { " (nothing was changed)" } else { "" };
    let version = done["version"].as_u64().unwrap_or_default();
    let from = done["fromVersion"].as_u64().unwrap_or_default();
    if version == from && !dry {
        return format!("{id}: unchanged, version {version}");
    }
    format!(
        "{id}: version {version}{would}: {} to add, {} to change, {} to destroy",
        count("toAdd"),
        count("toChange"),
        count("toDestroy")
    )
}
