//! What REST shows and takes besides the types of [`crate::control`], and words of the model as schemas.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

/// Largest whole number that every reader of JSON takes as it is.
pub const MAX_NUMBER: u64 = (1 << 53) - 1;

/// Where a pipeline stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Planned, not started.
    Pending,
    /// Tasks run.
    Running,
    /// Paused by a person or by the dead-letter ratio.
    Paused,
    /// Sources have stopped; what is in flight is finished.
    Draining,
    /// Runs, but epochs keep failing.
    Degraded,
    /// Stopped by an error.
    Failed,
    /// A job that has committed its last epoch.
    Finished,
}

/// An object that pipelines are made of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlanObject {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// What it does: the connector's name, or the kind of step.
    #[serde(rename = "type")]
    pub type_name: String,
    /// Pipelines that use it, as `namespace/name`.
    pub used_by: Vec<String>,
}

/// What changes from one plan to the next.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Changes {
    /// Objects to add, including the new halves of replacements.
    pub to_add: u64,
    /// Objects to change.
    pub to_change: u64,
    /// Objects to destroy, including the old halves of replacements.
    pub to_destroy: u64,
    /// Changed objects.
    pub objects: Vec<ObjectChange>,
    /// What becomes of state.
    pub state: Vec<StateChange>,
    /// What would be lost, a sentence each; applied only with `acceptStateLoss`.
    pub state_loss: Vec<String>,
}

/// The change of one object.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObjectChange {
    /// `pipeline`, `source`, `step`, `lookup` or `sink`.
    pub kind: String,
    /// Name; for a step its id.
    pub name: String,
    /// What happens to it.
    pub action: ChangeAction,
    /// Which fields, for `change` and `replace`.
    pub fields: Vec<FieldChange>,
}

/// What happens to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChangeAction {
    /// It is new.
    Add,
    /// It goes on with other settings.
    Change,
    /// It goes.
    Destroy,
    /// Another one takes its name.
    Replace,
}

/// One field before and after.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct FieldChange {
    /// `config.path`.
    pub path: String,
    /// Before; absent if there was none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<serde_json::Value>,
    /// After; absent if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<serde_json::Value>,
}

/// What becomes of one piece of state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct StateChange {
    /// Whose: a source, a step or a sink.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// `positions of the source flights`.
    pub what: String,
    /// What becomes of it.
    pub verdict: Verdict,
    /// Why, and what would be lost.
    pub reason: String,
}

/// What becomes of state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Used as it is.
    Keep,
    /// Used under new settings.
    Migrate,
    /// Begun anew.
    Rebuild,
    /// Lost.
    Drop,
}

/// Something that is wrong with a manifest, or worth a look.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// `error` or `warning`.
    pub severity: String,
    /// Stable code.
    pub code: String,
    /// One sentence.
    pub message: String,
    /// Line in the manifest, from 1.
    pub line: u64,
    /// Column in characters, from 1.
    pub column: u64,
    /// The field.
    pub path: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

/// What a dry run found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DryRun {
    /// Each pipeline of the manifest, at the version that it has.
    pub pipelines: Vec<AppliedPipeline>,
}

/// Manifests to plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PlanBody {
    /// YAML documents.
    #[schema(
        example = "apiVersion: etl.router/v1\nkind: Pipeline\nmetadata: {name: orders}\nspec:\n  mode: job\n  source: {name: in, file: {path: orders.csv, format: csv}, schema: {id: int64}}\n  sink: {name: out, file: {path: out, format: ndjson}}\n"
    )]
    pub manifest: String,
}

/// A manifest to apply.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ApplyBody {
    /// YAML documents: the pipeline and the objects that it names. Other pipelines among them are left alone.
    #[schema(
        example = "apiVersion: etl.router/v1\nkind: Pipeline\nmetadata: {name: orders}\nspec:\n  mode: job\n  source: {name: in, file: {path: orders.csv, format: csv}, schema: {id: int64}}\n  sink: {name: out, file: {path: out, format: ndjson}}\n"
    )]
    pub manifest: String,
    /// Goes on although state would be lost.
    #[serde(default)]
    pub accept_state_loss: bool,
    /// Forgets progress and begins anew. What sinks have published stays.
    #[serde(default)]
    pub reset: bool,
}

/// Where to go back to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RollbackBody {
    /// Version of the plan, as `history` shows it.
    #[schema(minimum = 1, maximum = 9007199254740991u64, example = 1)]
    #[serde(deserialize_with = "whole")]
    pub version: u64,
    /// Goes on although state would be lost.
    #[serde(default)]
    pub accept_state_loss: bool,
}

/// What applying a manifest did, or would do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AppliedPipeline {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Version of the plan now.
    pub version: u64,
    /// Version of the plan that the changes start from, 0 for none.
    pub from_version: u64,
    /// What changed.
    pub changes: Changes,
    /// The typed plan, for people.
    pub explanation: String,
    /// Warnings about the manifest.
    pub warnings: Vec<Finding>,
}

/// The plan of a pipeline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlanDocument {
    /// Version, from 1.
    pub version: u64,
    /// The plan as it is stored: nodes, edges, schemas. References to secrets, never secrets.
    #[schema(value_type = Object)]
    pub plan: serde_json::Value,
    /// Object store of the cluster: a folder or a URL.
    pub store: String,
    /// Where its dead letters lie: a folder or a URL.
    pub dead_letters: String,
    /// Manifest of the newest committed epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub committed: Option<ObjectName>,
}

/// An object in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ObjectName {
    /// Its key.
    pub key: String,
    /// SHA-256 of its bytes in hex.
    pub sha256: String,
}

/// Dead letters of one node and code.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeadLetterCount {
    /// Name of the node in the plan.
    pub node: String,
    /// Why, as a stable code.
    pub code: String,
    /// How many rows since the pipeline's tasks were started last.
    pub rows: u64,
}

/// What an entry of the history is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// A new plan version.
    Plan,
    /// A new incarnation.
    Start,
    /// Another phase, or another reason for it.
    Phase,
    /// Progress was forgotten.
    Reset,
    /// It came from a backup.
    Restore,
}

/// Rows and bytes that went through a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RowCounters {
    /// Rows taken in.
    pub rows_in: u64,
    /// Rows handed on, or written by a sink.
    pub rows_out: u64,
    /// Rows that became dead letters here.
    pub dead_letters: u64,
    /// Rows dropped on purpose.
    pub filtered: u64,
    /// Rows added by steps that make several of one.
    pub expanded: u64,
    /// Bytes read from or written to the world outside.
    pub bytes: u64,
}

/// A router that is to take part.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RouterBody {
    /// Its id, never used before.
    #[schema(minimum = 1, maximum = 9007199254740991u64)]
    #[serde(deserialize_with = "whole")]
    pub id: u64,
    /// `host:port` of its gRPC service.
    #[schema(pattern = r"^(\[[0-9a-f:.]{2,45}\]|[A-Za-z0-9.-]{1,253}):[0-9]{1,5}$", max_length = 260)]
    #[serde(deserialize_with = "address")]
    pub address: String,
}

/// A number from 1 to [`MAX_NUMBER`]. For JSON `7.0` is the same as `7`.
fn whole<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    let number = serde_json::Number::deserialize(from)?;
    let float = || number.as_f64().filter(|f| f.fract() == 0.0 && (1.0..=MAX_NUMBER as f64).contains(f));
    let whole = number.as_u64().or_else(|| float().map(|f| f as u64));
    whole
        .filter(|n| (1..=MAX_NUMBER).contains(n))
        .ok_or_else(|| D::Error::custom(format!("not a whole number from 1 to {MAX_NUMBER}")))
}

/// `host:port` or `[address]:port`.
fn address<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let text = String::deserialize(from)?;
    let fits = text.rsplit_once(':').is_some_and(|(host, port)| {
        let within = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b) || b == b':' || b == b'.';
        let name = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'.';
        let host = match within {
            Some(address) => (2..=45).contains(&address.len()) && address.bytes().all(hex),
            None => (1..=253).contains(&host.len()) && host.bytes().all(name),
        };
        host && (1..=5).contains(&port.len()) && port.bytes().all(|b| b.is_ascii_digit())
    });
    if fits { Ok(text) } else { Err(D::Error::custom("not host:port")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(id: &str, address: &str) -> Option<RouterBody> {
        serde_json::from_str(&format!(r#"{{"id": {id}, "address": "{address}"}}"#)).ok()
    }

    #[test]
    fn numbers_are_whole_and_fit_everywhere() {
        for (text, number) in [("1", 1), ("7.0", 7), ("1e3", 1000), ("9007199254740991", MAX_NUMBER)] {
            assert_eq!(body(text, "a:1").map(|b| b.id), Some(number), "{text}");
        }
        for text in ["0", "-1", "1.5", "9007199254740992", "1e300", "\"1\"", "true", "null"] {
            assert_eq!(body(text, "a:1"), None, "{text}");
        }
    }

    #[test]
    fn addresses_have_host_and_port() {
        for text in ["a:1", "router-1.example:65535", "10.0.0.1:80", "[::1]:7070"] {
            assert!(body("1", text).is_some(), "{text}");
        }
        for text in ["", "a", "a:", ":1", "a b:1", "a:123456", "a:x", "[]:1", "[::1:7070", "http://a:1"] {
            assert!(body("1", text).is_none(), "{text}");
        }
    }
}
