//! Which cluster is meant: by flag, by environment, or by a named context of a file.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use conveyor_model::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::args::ClusterArgs;

/// How a cluster is reached.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Target {
    /// `http://host:port` or `https://host:port` of routers; any of them answers for all.
    pub endpoints: Vec<String>,
    /// Certificate of the authority that the routers' certificates come from, PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// File with a bearer token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
}

/// The contexts of a person.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Contexts {
    /// The one that is used where none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<String>,
    /// By name.
    #[serde(default)]
    pub contexts: BTreeMap<String, Target>,
}

/// The file of contexts: `CONVEYOR_CONTEXTS`, or `conveyor/contexts.json` in the folder for settings.
fn path() -> Result<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    if let Some(path) = set("CONVEYOR_CONTEXTS") {
        return Ok(path);
    }
    let folder = set("XDG_CONFIG_HOME").or_else(|| set("HOME").map(|home| home.join(".config")));
    let folder = folder.ok_or_else(|| {
        Error::bad_input("no-home", "there is no folder for settings: HOME is not set")
            .help("set CONVEYOR_CONTEXTS to a file")
    })?;
    Ok(folder.join("conveyor").join("contexts.json"))
}

impl Contexts {
    /// Reads the file; none has no contexts.
    ///
    /// # Errors
    /// If it cannot be read, or holds something else.
    pub fn load() -> Result<Self> {
        let path = path()?;
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(e) => return Err(unusable(&path, "read").because(e)),
        };
        serde_json::from_slice(&bytes).map_err(|e| {
            unusable(&path, "understood").because(e).help("mend it, or move it away and make contexts anew")
        })
    }

    /// Replaces the file, whole or not at all; for the owner alone.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn save(&self) -> Result<()> {
        use std::os::unix::fs::OpenOptionsExt as _;
        let path = path()?;
        let text = serde_json::to_string_pretty(self)
            .map_err(|e| Error::runtime("contexts", "the contexts cannot be written as JSON").because(e))?;
        let write = || {
            if let Some(folder) = path.parent() {
                std::fs::create_dir_all(folder)?;
            }
            let fresh = path.with_extension(format!("new-{}", std::process::id()));
            let mut file = std::fs::OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&fresh)?;
            file.write_all(text.as_bytes())?;
            file.write_all(b"\n")?;
            std::fs::rename(&fresh, &path)
        };
        write().map_err(|e: std::io::Error| unusable(&path, "written").because(e))
    }
}

fn unusable(path: &Path, how: &str) -> Error {
    Error::bad_input("contexts-file", format!("the file of contexts cannot be {how}"))
        .in_split(path.display())
}

/// The cluster that is meant; none where nothing names one.
///
/// # Errors
/// If a context is named that is not there, or the file cannot be read.
pub fn target(args: &ClusterArgs) -> Result<Option<Target>> {
    let mut found =
        if args.endpoint.is_empty() { named(args.context.as_deref())? } else { Some(Target::default()) };
    if let Some(target) = &mut found {
        if !args.endpoint.is_empty() {
            target.endpoints.clone_from(&args.endpoint);
        }
        target.ca = args.ca.clone().or(target.ca.take());
        target.token_file = args.token_file.clone().or(target.token_file.take());
    }
    Ok(found)
}

fn named(name: Option<&str>) -> Result<Option<Target>> {
    let mut all = Contexts::load()?;
    let Some(name) = name.map(str::to_owned).or(all.current.take()) else { return Ok(None) };
    match all.contexts.remove(&name) {
        Some(target) => Ok(Some(target)),
        None => {
            let known: Vec<_> = all.contexts.into_keys().collect();
            let error = Error::bad_input("unknown-context", format!("there is no context {name}"));
            Err(if known.is_empty() {
                error.help("`conveyorctl context set NAME --endpoint URL` makes one")
            } else {
                error.help(format!("there are: {}", known.join(", ")))
            })
        }
    }
}
