//! Plans in files: `plan --out FILE`, then `apply FILE` runs exactly that, or is refused if the cluster has changed since.

use std::path::Path;

use conveyor_model::{Error, PipelineId, Result};
use serde_json::{Value, json};

/// Version of the file's form.
const FORMAT: u64 = 1;

/// What is to be applied.
pub(super) struct Saved {
    /// All manifests.
    pub(super) manifest: String,
    /// The pipelines in them, and the version that each had when the plan was made (0 for none), where that counts.
    pub(super) pipelines: Vec<(PipelineId, Option<u64>)>,
}

impl Saved {
    /// Manifests as they are now, whatever the cluster has.
    pub(super) fn of((manifest, ids): (String, Vec<PipelineId>)) -> Self {
        Self { manifest, pipelines: ids.into_iter().map(|id| (id, None)).collect() }
    }

    /// Reads a file.
    ///
    /// # Errors
    /// If it cannot be read, or is no plan.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(|e| {
            Error::bad_input("plan-file", "the plan cannot be read").in_split(path.display()).because(e)
        })?;
        let no_plan = || {
            Error::bad_input("plan-file", "the file is no plan of `conveyorctl plan --out`")
                .in_split(path.display())
                .help("manifests are given with -f")
        };
        let value: Value = serde_json::from_slice(&bytes).map_err(|e| no_plan().because(e))?;
        if value["format"].as_u64() != Some(FORMAT) {
            return Err(no_plan());
        }
        let text = |v: &Value| v.as_str().map(str::to_owned);
        let mut pipelines = Vec::new();
        for one in value["pipelines"].as_array().ok_or_else(no_plan)? {
            let (Some(namespace), Some(name), Some(version)) =
                (text(&one["namespace"]), text(&one["name"]), one["fromVersion"].as_u64())
            else {
                return Err(no_plan());
            };
            pipelines.push((PipelineId { namespace, name }, Some(version)));
        }
        Ok(Self { manifest: text(&value["manifest"]).ok_or_else(no_plan)?, pipelines })
    }

    /// Writes a plan that a router made.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub(super) fn write(path: &Path, manifest: &str, planned: &[Value]) -> Result<()> {
        let pipelines: Vec<Value> = planned
            .iter()
            .map(|p| json!({"namespace": p["namespace"], "name": p["name"], "fromVersion": p["fromVersion"]}))
            .collect();
        let file = json!({"format": FORMAT, "manifest": manifest, "pipelines": pipelines});
        std::fs::write(path, format!("{file:#}\n")).map_err(|e| {
            Error::bad_input("plan-file", "the plan cannot be written").in_split(path.display()).because(e)
        })
    }
}
