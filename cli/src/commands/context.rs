//! `context`: named clusters of a person.

use serde_json::json;

use crate::args::{ContextCommand, Format};
use crate::cluster::{Client, Contexts, Target};
use crate::manifests::Failure;
use crate::output;
use conveyor_model::Error;

/// Lists, chooses, makes and deletes contexts.
pub(super) fn run(command: &ContextCommand) -> Result<(), Failure> {
    let mut all = Contexts::load()?;
    match command {
        ContextCommand::Ls { output } => return list(&all, *output),
        ContextCommand::Use { name } => {
            if !all.contexts.contains_key(name) {
                return Err(unknown(&all, name).into());
            }
            all.current = Some(name.clone());
        }
        ContextCommand::Set { name, cluster } => {
            let absolute =
                |path: &std::path::PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
            let target = Target {
                endpoints: cluster.endpoint.clone(),
                ca: cluster.ca.as_ref().map(absolute),
                token_file: cluster.token_file.as_ref().map(absolute),
            };
            // What cannot be a client is no context either.
            Client::new(&target)?;
            all.contexts.insert(name.clone(), target);
            all.current.get_or_insert_with(|| name.clone());
        }
        ContextCommand::Delete { name } => {
            if all.contexts.remove(name).is_none() {
                return Err(unknown(&all, name).into());
            }
            all.current = all.current.filter(|current| current != name);
        }
    }
    all.save()?;
    Ok(())
}

fn list(all: &Contexts, format: Format) -> Result<(), Failure> {
    if format != Format::Text {
        let documents = all.contexts.iter().map(|(name, target)| {
            json!({
                "name": name,
                "current": all.current.as_ref() == Some(name),
                "endpoints": target.endpoints,
                "ca": target.ca,
                "tokenFile": target.token_file,
            })
        });
        output::documents(documents.collect(), format)?;
        return Ok(());
    }
    let rows = all.contexts.iter().map(|(name, target)| {
        let mark = if all.current.as_ref() == Some(name) { "*" } else { "" };
        [mark.to_owned(), name.clone(), target.endpoints.join(",")]
    });
    output::table(&["", "NAME", "ENDPOINTS"], rows)?;
    Ok(())
}

fn unknown(all: &Contexts, name: &str) -> Error {
    let known: Vec<_> = all.contexts.keys().cloned().collect();
    Error::bad_input("unknown-context", format!("there is no context {name}"))
        .help(format!("there are: {}", known.join(", ")))
}
