//! References to secrets. The value itself is never held here, so it cannot reach a plan, a log or an error.

use serde::{Deserialize, Serialize};

/// `{secret: {env: NAME}}` or `{secret: {file: PATH}}`; resolved only by the component that uses it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretRef {
    /// Where the value lies.
    pub secret: SecretPlace,
}

/// Where a secret's value lies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SecretPlace {
    /// An environment variable.
    Env(String),
    /// A file; a trailing newline is dropped.
    File(String),
}

/// Turns references into values, in the process that uses them. Implemented where files and the environment may be read.
pub trait Secrets: Send + Sync {
    /// The value.
    ///
    /// # Errors
    /// `BadInput` with the reference (never the value) if it is absent or unreadable.
    fn resolve(&self, reference: &SecretRef) -> crate::Result<Vec<u8>>;
}
