//! How far each split of a source has been read.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Where to go on reading a split. Its form belongs to the connector; the engine stores it and hands it back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Position(pub serde_json::Value);

/// Progress of one split.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SplitState {
    /// Where the next read starts.
    pub position: Position,
    /// Nothing is left to read.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub done: bool,
    /// Largest event time read, in microseconds; filled in by the engine for sources with an event time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_time_max_us: Option<i64>,
}

/// Progress of the splits that one source subtask has opened or finished, by split id.
///
/// Split ids depend on the data alone (a file and a fixed range), not on parallelism, so that a restart with another
/// number of subtasks finds its place.
pub type Positions = BTreeMap<String, SplitState>;
