//! Steps: what happens to rows between sources and sinks, in the form that a plan carries.
//!
//! Expressions are SQL text that the planner has typed against the step's input; the engine compiles the same text
//! against the same schema.

use arrow_schema::{DataType, FieldRef, SchemaRef};
use serde::{Deserialize, Serialize};

use crate::secret::SecretRef;

/// A step of a plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// Stable id, unique in the plan: state and dead letters are found by it after an edit.
    pub id: String,
    /// Name shown to people.
    pub name: String,
    /// What it does.
    pub op: Op,
    /// Schema of its input.
    pub input: SchemaRef,
    /// Schema of its output; the engine's operator must produce exactly this.
    pub output: SchemaRef,
}

/// A named expression: `name` is the output column, replaced in place where the input has it, appended otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NamedExpr {
    /// Output column.
    pub name: String,
    /// SQL over the step's input columns.
    pub expr: String,
}

/// What a step does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Op {
    /// Keeps the rows for which a boolean expression is true (not null, not false).
    Filter {
        /// Boolean SQL.
        expr: String,
    },
    /// Adds or replaces columns. All expressions see the step's input, not each other.
    Compute {
        /// The columns.
        columns: Vec<NamedExpr>,
    },
    /// Picks, orders and renames columns: select, drop and rename become this.
    Project {
        /// `(output name, input column)`, in output order.
        columns: Vec<(String, String)>,
    },
    /// Changes column types; a value that does not fit is a dead letter.
    Cast {
        /// The columns.
        columns: Vec<CastColumn>,
    },
    /// Hides personal data.
    Mask {
        /// The columns.
        columns: Vec<MaskColumn>,
        /// Key of `hash` and `tokenize`; without one, `hash` is plain SHA-256.
        key: Option<SecretRef>,
    },
    /// Takes a text column apart.
    Parse(Parse),
    /// Lifts the fields of struct columns to the top, or makes one row of each list element.
    Flatten(Flatten),
    /// Checks rules; a row that breaks one goes to the dead letters, is dropped, or stops the pipeline.
    Validate {
        /// Checked in this order; the first broken one names the error.
        rules: Vec<Rule>,
        /// What happens to the row.
        on_fail: OnFail,
    },
    /// Enriches rows from a table.
    Lookup(LookupStep),
    /// Keeps the first row of each key within an event-time window.
    Dedupe(Dedupe),
    /// Lets rows pass at a bounded rate, for the whole step, not for each subtask.
    RateLimit {
        /// Rows per second.
        rows_per_second: f64,
        /// Rows that may pass at once after a quiet time.
        burst: u64,
    },
    /// A stateless SELECT over the input, which is called `input`: projection, WHERE, UNNEST.
    Sql {
        /// The query.
        query: String,
    },
    /// Merges its inputs in event-time order: rows are held until the watermark passes them.
    MergeByTime {
        /// Event-time column.
        column: String,
        /// Most bytes held; beyond that the earliest rows go on.
        max_bytes: u64,
    },
}

impl Op {
    /// The word used in manifests, plans and metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            Op::Filter { .. } => "filter",
            Op::Compute { .. } => "compute",
            Op::Project { .. } => "select",
            Op::Cast { .. } => "cast",
            Op::Mask { .. } => "mask",
            Op::Parse(_) => "parse",
            Op::Flatten(_) => "flatten",
            Op::Validate { .. } => "validate",
            Op::Lookup(_) => "lookup",
            Op::Dedupe(_) => "dedupe",
            Op::RateLimit { .. } => "rate_limit",
            Op::Sql { .. } => "sql",
            Op::MergeByTime { .. } => "merge",
        }
    }

    /// The lookup table that the step reads.
    pub fn lookup_table(&self) -> Option<&str> {
        match self {
            Op::Lookup(lookup) => Some(&lookup.table),
            _ => None,
        }
    }

    /// Whether the step keeps something between batches that a restart must restore.
    pub fn is_stateful(&self) -> bool {
        matches!(self, Op::Dedupe(_) | Op::MergeByTime { .. })
    }
}

/// One column of a cast.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CastColumn {
    /// The column.
    pub name: String,
    /// Its new type.
    pub to: DataType,
}

/// One column of a mask.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MaskColumn {
    /// The column.
    pub name: String,
    /// How it is hidden.
    pub method: MaskMethod,
}

/// How a value is hidden. Null stays null.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MaskMethod {
    /// Text becomes this word, other types null.
    Redact {
        /// `***` by default.
        with: String,
    },
    /// SHA-256 (HMAC with a key) in hex of the value's text: equal values stay equal.
    Hash,
    /// All but the last `keep` characters become `*`; a value of no more than that is hidden whole.
    Partial {
        /// Characters that stay.
        keep: u32,
    },
    /// Null.
    Nullify,
    /// `tok_` and 22 characters of keyed HMAC-SHA-256: equal values stay equal, and nobody without the key can test a guess.
    Tokenize,
}

/// Takes a text column apart.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Parse {
    /// The text column.
    pub column: String,
    /// How it is written.
    pub format: ParseFormat,
    /// Columns that come out, in order; they replace columns of the same name, others are appended.
    pub fields: Vec<FieldRef>,
    /// Whether the text column stays.
    pub keep: bool,
}

/// How a text column is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ParseFormat {
    /// A JSON object; fields by name, missing is null.
    Json,
    /// One CSV record; fields by place.
    Csv {
        /// One ASCII character.
        delimiter: char,
    },
    /// Named groups of a regular expression.
    Regex {
        /// The pattern.
        pattern: String,
    },
    /// `a=1 b="x y"`.
    KeyValue {
        /// Between pairs.
        pair: String,
        /// Between key and value.
        separator: String,
    },
}

/// Flattens structs or explodes a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Flatten {
    /// Struct columns become columns `parent<separator>child`, at all depths.
    Structs {
        /// Which struct columns; empty means all.
        columns: Vec<String>,
        /// `_` by default.
        separator: String,
    },
    /// One row for each element of a list column; a null or empty list gives one row with null.
    Explode {
        /// The list column; the element takes its name.
        column: String,
    },
}

/// One rule of a validate step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    /// Name, part of the dead letter's message.
    pub name: String,
    /// Boolean SQL; false breaks the rule, null does not.
    pub expr: String,
}

/// What happens to a row that breaks a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFail {
    /// To the dead letters.
    Dlq,
    /// Dropped on purpose, and counted.
    Drop,
    /// The pipeline stops.
    Fail,
}

/// What happens to a row without a match.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnMiss {
    /// Kept, with nulls.
    Keep,
    /// Dropped on purpose, and counted.
    Drop,
    /// To the dead letters.
    Dlq,
    /// The pipeline stops.
    Fail,
}

/// How the looked-up columns join the row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LookupResult {
    /// As columns beside the row's own, replacing those of the same name.
    Merge,
    /// As one struct column of this name.
    Nest(String),
    /// As columns with this prefix.
    Prefix(String),
}

/// Enriches rows from a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LookupStep {
    /// Name of the lookup in the plan.
    pub table: String,
    /// `(row's column, table's column)`: all must be equal. Null matches nothing.
    pub on: Vec<(String, String)>,
    /// `(output name before prefix, table's column)`.
    pub select: Vec<(String, String)>,
    /// Rows without a match.
    pub on_miss: OnMiss,
    /// How the columns join the row.
    pub result: LookupResult,
}

/// Keeps the first row of each key within an event-time window.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Dedupe {
    /// Key columns; null is a value like others here.
    pub keys: Vec<String>,
    /// Event-time column, microseconds UTC.
    pub event_time: String,
    /// A row is a duplicate if an equal key was let through at most this much earlier or later in event time. Keys whose
    /// window has passed the watermark are forgotten.
    pub within_ms: u64,
    /// Most keys remembered in one subtask; beyond that the pipeline stops, since forgetting early would let duplicates through.
    pub max_keys: u64,
}
