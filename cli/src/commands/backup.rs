//! `backup create|list|restore`: the control state of a cluster in a directory or an object store.

use conveyor_model::{Error, Result, Watermark};
use conveyor_router::control::backup::Backup;
use conveyor_store::Backups;
use hyper::Method;
use serde_json::{Value, json};

use crate::args::{BackupCommand, ClusterArgs, Format, Global};
use crate::manifests::Failure;
use crate::output;

/// Creates, lists or restores.
pub(super) async fn run(global: &Global, command: &BackupCommand) -> Result<(), Failure> {
    match command {
        BackupCommand::Create { place, cluster, name, output } => {
            create(global, &place.location, cluster, name.as_deref(), *output).await
        }
        BackupCommand::List { place, output } => list(&place.location, *output).await,
        BackupCommand::Restore { name, place, cluster, validate_only, output } => {
            let path =
                format!("/v1/cluster/restore{}", if *validate_only { "?validate_only=true" } else { "" });
            let done = restore(&place.location, name, cluster, &path).await?;
            let restored = done["pipelines"].as_array().map_or(0, Vec::len);
            if *output != Format::Text {
                output::documents(vec![done], *output)?;
            } else if !global.quiet {
                let what = if *validate_only { "can be restored" } else { "restored" };
                eprintln!("{what}: {restored} pipelines of {name}");
            }
            Ok(())
        }
    }
}

async fn create(
    global: &Global,
    location: &str,
    cluster: &ClusterArgs,
    name: Option<&str>,
    format: Format,
) -> Result<(), Failure> {
    let document = super::client(cluster)?.get("/v1/cluster/backup").await?;
    let backup = Backup::read(document)?;
    let name = name.map_or_else(|| name_of(&backup), str::to_owned);
    let bytes = serde_json::to_vec(&backup)
        .map_err(|e| Error::runtime("not-json", "a backup cannot be written as JSON").because(e))?;
    let size = bytes.len();
    Backups::create(location)?.write(&name, bytes.into()).await?;
    if format != Format::Text {
        output::documents(vec![row(&name, size as u64, Ok(&backup))], format)?;
    } else if !global.quiet {
        eprintln!("{name}: {} pipelines, {size} bytes", planned(&backup));
    }
    Ok(())
}

/// `conveyor-20260101T120000.000Z`: names sort as times do.
fn name_of(backup: &Backup) -> String {
    let time = Watermark(backup.taken_at_us).to_string().replace(['-', ':'], "");
    format!("{}-{time}", backup.cluster)
}

fn planned(backup: &Backup) -> usize {
    backup.pipelines.iter().filter(|p| p.state.plan.is_some()).count()
}

fn row(name: &str, bytes: u64, backup: Result<&Backup, &Error>) -> Value {
    json!({
        "name": name,
        "bytes": bytes,
        "cluster": backup.ok().map(|b| &b.cluster),
        "takenAtUs": backup.ok().map(|b| b.taken_at_us),
        "pipelines": backup.ok().map(planned),
        "problem": backup.err().map(Error::code),
    })
}

async fn list(location: &str, format: Format) -> Result<(), Failure> {
    let place = Backups::open(location)?;
    let mut rows = Vec::new();
    for (name, bytes) in place.list().await? {
        let read = match place.read(&name).await {
            Ok(found) => Backup::parse(&found),
            Err(error) => Err(error),
        };
        rows.push(row(&name, bytes, read.as_ref()));
    }
    if format != Format::Text {
        output::documents(rows, format)?;
        return Ok(());
    }
    let text = |value: &Value| match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let rows = rows.iter().map(|r| {
        let taken = r["takenAtUs"].as_i64().map_or("-".to_owned(), |us| Watermark(us).to_string());
        let state = r["problem"].as_str().unwrap_or("whole").to_owned();
        [text(&r["name"]), text(&r["cluster"]), taken, text(&r["pipelines"]), text(&r["bytes"]), state]
    });
    output::table(&["NAME", "CLUSTER", "TAKEN", "PIPELINES", "BYTES", "STATE"], rows)?;
    Ok(())
}

/// Sends a backup that is whole to the cluster.
async fn restore(location: &str, name: &str, cluster: &ClusterArgs, path: &str) -> Result<Value, Failure> {
    let client = super::client(cluster)?;
    let bytes = Backups::open(location)?.read(name).await?;
    let backup = Backup::parse(&bytes).map_err(|e| e.in_split(name))?;
    let document = serde_json::to_value(&backup)
        .map_err(|e| Error::runtime("not-json", "a backup cannot be written as JSON").because(e))?;
    Ok(client.send(Method::POST, path, Some(&document), None).await?.body)
}
