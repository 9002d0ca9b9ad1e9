//! The built-in connectors: sources, sinks and lookups that touch the world.

#[cfg(feature = "file")]
pub mod file;
pub mod format;
pub mod predicate;
pub mod secret;
mod settings;

use std::sync::Arc;

use conveyor_model::connector::Registry;

/// All connectors that this build has.
pub fn registry() -> Registry {
    let mut registry = Registry::default();
    #[cfg(feature = "file")]
    {
        registry.sources.insert("file", Arc::new(file::FileSourceConnector::default()));
        registry.sinks.insert("file", Arc::new(file::FileSinkConnector::default()));
    }
    registry
}
