//! From the checked JSON of a manifest to a connector's own settings.

use conveyor_model::{Error, Result};
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// Reads a connector's settings. The planner has checked them before against the connector's spec; what is wrong
/// here came past it, and is still an error rather than a panic.
///
/// # Errors
/// `BadInput` with the name of the field.
pub(crate) fn parse<T: DeserializeOwned>(connector: &str, config: &serde_json::Value) -> Result<T> {
    let config =
        if config.is_null() { serde_json::Value::Object(Default::default()) } else { config.clone() };
    serde_json::from_value(config).map_err(|e| {
        Error::bad_input("settings-invalid", format!("the settings of connector `{connector}` are not valid"))
            .because(e)
    })
}

/// One text or a list of texts.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(crate) enum OneOrMany {
    /// One.
    One(String),
    /// Several.
    Many(Vec<String>),
}

impl OneOrMany {
    /// All of them.
    pub(crate) fn into_vec(self) -> Vec<String> {
        match self {
            OneOrMany::One(text) => vec![text],
            OneOrMany::Many(texts) => texts,
        }
    }
}
