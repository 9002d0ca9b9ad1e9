//! How a connector describes itself: enough to check a manifest at a line and column, to make the JSON Schema, and to
//! open it by name.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::lookup::LookupConnector;
use crate::sink::SinkConnector;
use crate::source::SourceConnector;

/// A connector's name and settings in one role (source, sink or lookup).
#[derive(Debug)]
pub struct ConnectorSpec {
    /// The key in the manifest: `file`, `generator`.
    pub name: &'static str,
    /// One sentence for `schema` and the docs.
    pub doc: &'static str,
    /// Its settings.
    pub fields: &'static [FieldSpec],
}

/// One setting.
#[derive(Debug)]
pub struct FieldSpec {
    /// Name in camel case.
    pub name: &'static str,
    /// What values it takes.
    pub kind: FieldKind,
    /// Whether it must be there.
    pub required: bool,
    /// The value when it is absent, as it would be written in YAML; for people, the connector applies it.
    pub default: Option<&'static str>,
    /// One sentence.
    pub doc: &'static str,
}

/// Values that a setting takes, and the JSON that the connector receives for them.
#[derive(Debug)]
pub enum FieldKind {
    /// Text.
    Text,
    /// A local path or an object-store URL, text.
    Path,
    /// `true` or `false`.
    Bool,
    /// An integer within bounds (inclusive).
    Integer {
        /// Least value.
        min: i64,
        /// Greatest value.
        max: i64,
    },
    /// A number.
    Number,
    /// `250ms`, `10s`, `5m`, `1h`: arrives as an integer in milliseconds.
    Duration,
    /// `64KiB`, `128MB` or a plain number: arrives as an integer in bytes.
    Size,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// A list.
    List(&'static FieldKind),
    /// A mapping from any key.
    Map(&'static FieldKind),
    /// A nested mapping with these settings.
    Object(&'static [FieldSpec]),
    /// `{secret: {env: NAME}}` or `{secret: {file: PATH}}`: arrives as `SecretRef`.
    Secret,
}

/// The connectors that a process has, by role and name.
#[derive(Clone, Default)]
pub struct Registry {
    /// Sources.
    pub sources: BTreeMap<&'static str, Arc<dyn SourceConnector>>,
    /// Sinks.
    pub sinks: BTreeMap<&'static str, Arc<dyn SinkConnector>>,
    /// Lookups.
    pub lookups: BTreeMap<&'static str, Arc<dyn LookupConnector>>,
}
