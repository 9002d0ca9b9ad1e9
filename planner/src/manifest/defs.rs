//! Objects as read from manifests: typed, each piece with its place, nothing resolved yet.

use std::sync::Arc;

use arrow_schema::{DataType, FieldRef};
use conveyor_model::plan::{Delivery, DlqPlan, EventTime, Mode, Retry, Wishes};
use conveyor_model::secret::SecretRef;
use conveyor_model::step::{Flatten, MaskMethod, OnFail, OnMiss, Parse};

use crate::diagnostic::{At, Located};

/// A connector and its checked settings.
#[derive(Debug, Clone)]
pub(crate) struct ConnectorDef {
    pub(crate) name: String,
    pub(crate) config: serde_json::Value,
    pub(crate) at: At,
}

#[derive(Debug, Clone)]
pub(crate) struct SourceDef {
    pub(crate) name: Located<String>,
    /// `None` when no known connector is named.
    pub(crate) connector: Option<ConnectorDef>,
    pub(crate) declared: Vec<FieldRef>,
    pub(crate) declared_at: At,
    pub(crate) event_time: Option<Located<EventTime>>,
    pub(crate) parallelism: Option<u32>,
    pub(crate) retry: Retry,
}

#[derive(Debug, Clone)]
pub(crate) struct SinkDef {
    pub(crate) name: Located<String>,
    pub(crate) connector: Option<ConnectorDef>,
    /// Name of a Sink object whose connector is used.
    pub(crate) refers: Option<Located<String>>,
    pub(crate) from: Vec<Located<String>>,
    pub(crate) when: Option<Located<String>>,
    pub(crate) parallelism: Option<u32>,
    pub(crate) retry: Option<Retry>,
}

#[derive(Debug, Clone)]
pub(crate) struct LookupDef {
    pub(crate) name: Located<String>,
    pub(crate) connector: Option<ConnectorDef>,
    pub(crate) declared: Vec<FieldRef>,
    pub(crate) refresh_ms: Option<u64>,
}

#[derive(Debug, Clone)]
pub(crate) struct TransformDef {
    pub(crate) steps: Vec<StepDef>,
}

/// A name, or an object in its place.
#[derive(Debug, Clone)]
pub(crate) enum Named<T> {
    Name(Located<String>),
    Inline(T),
}

#[derive(Debug, Clone)]
pub(crate) struct PipelineDef {
    pub(crate) namespace: String,
    pub(crate) name: Located<String>,
    pub(crate) mode: Mode,
    pub(crate) delivery: Delivery,
    pub(crate) checkpoint_ms: u64,
    pub(crate) parallelism: Option<u32>,
    pub(crate) sources: Vec<Named<SourceDef>>,
    pub(crate) merge: Option<Located<MergeDef>>,
    pub(crate) steps: Vec<StepDef>,
    pub(crate) sinks: Vec<Named<SinkDef>>,
    pub(crate) dlq: DlqPlan,
    pub(crate) placement: Wishes,
    /// Its own text has errors: it can be typed as far as it goes, but never gives a plan.
    pub(crate) broken: bool,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct MergeDef {
    pub(crate) by_event_time: bool,
    pub(crate) max_bytes: u64,
}

#[derive(Debug, Clone)]
pub(crate) struct StepDef {
    pub(crate) name: Option<Located<String>>,
    pub(crate) from: Vec<Located<String>>,
    pub(crate) at: At,
    pub(crate) body: Arc<Body>,
}

/// What a step does, as written.
#[derive(Debug, Clone)]
pub(crate) enum Body {
    Filter(Located<String>),
    Compute(Vec<(Located<String>, Located<String>)>),
    /// `(new, old)`.
    Select(Vec<(String, Located<String>)>),
    Drop(Vec<Located<String>>),
    /// `(old, new)`.
    Rename(Vec<(Located<String>, Located<String>)>),
    Cast(Vec<(Located<String>, DataType)>),
    Mask(Vec<(Located<String>, MaskMethod)>, Option<SecretRef>),
    Parse(Parse, At),
    /// The places of the named columns.
    Flatten(Flatten, Vec<At>),
    Validate(Vec<(String, Located<String>)>, OnFail),
    Lookup(LookupBody),
    Dedupe(DedupeBody),
    RateLimit {
        rows_per_second: f64,
        burst: u64,
    },
    Sql(Located<String>),
    /// A Transform, by name.
    Use(Located<String>),
    /// `(name, condition)`.
    Split(Vec<(Located<String>, Located<String>)>),
    /// Could not be read; errors are reported.
    Broken,
}

impl Body {
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Body::Filter(_) => "filter",
            Body::Compute(_) => "compute",
            Body::Select(_) => "select",
            Body::Drop(_) => "drop",
            Body::Rename(_) => "rename",
            Body::Cast(_) => "cast",
            Body::Mask(..) => "mask",
            Body::Parse(..) => "parse",
            Body::Flatten(..) => "flatten",
            Body::Validate(..) => "validate",
            Body::Lookup(_) => "lookup",
            Body::Dedupe(_) => "dedupe",
            Body::RateLimit { .. } => "rate-limit",
            Body::Sql(_) => "sql",
            Body::Use(_) => "use",
            Body::Split(_) => "split",
            Body::Broken => "step",
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct LookupBody {
    /// The Lookup object, or one made of the step's own connector.
    pub(crate) table: Named<LookupDef>,
    /// `(row's column, table's column)`.
    pub(crate) on: Vec<(Located<String>, Located<String>)>,
    /// `(table's column, new name)`; `None` takes all but the keys.
    pub(crate) select: Option<Vec<(Located<String>, String)>>,
    pub(crate) on_miss: OnMiss,
    pub(crate) result: conveyor_model::step::LookupResult,
}

#[derive(Debug, Clone)]
pub(crate) struct DedupeBody {
    pub(crate) keys: Vec<Located<String>>,
    pub(crate) within_ms: u64,
    pub(crate) event_time: Option<Located<String>>,
    pub(crate) max_keys: u64,
}
