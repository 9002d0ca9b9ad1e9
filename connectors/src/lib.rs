//! The built-in connectors: sources, sinks and lookups that touch the world, one module and one cargo feature each.
//!
//! [`registry`] gives all of them by role and name. `conformance` (a feature of that name) is the suite that they all pass, and that connectors
//! of third parties can be run through too.

#[cfg(feature = "blackhole")]
pub mod blackhole;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
#[cfg(feature = "console")]
pub mod console;
#[cfg(feature = "file")]
pub mod file;
#[cfg(feature = "flight")]
pub mod flight;
pub mod format;
#[cfg(feature = "generator")]
pub mod generator;
#[cfg(any(feature = "blackhole", feature = "console", feature = "file", feature = "stdio"))]
mod plain;
pub mod predicate;
pub mod secret;
#[cfg(any(
    feature = "blackhole",
    feature = "console",
    feature = "file",
    feature = "flight",
    feature = "generator",
    feature = "stdio"
))]
mod settings;
#[cfg(feature = "stdio")]
pub mod stdio;
#[cfg(test)]
#[cfg(all(
    feature = "blackhole",
    feature = "console",
    feature = "file",
    feature = "generator",
    feature = "stdio"
))]
mod tests;

use std::sync::Arc;

use conveyor_model::connector::Registry;

pub use secret::EnvSecrets;

/// All connectors that this build has.
pub fn registry() -> Registry {
    let mut registry = Registry::default();
    #[cfg(feature = "file")]
    {
        registry.sources.insert("file", Arc::new(file::FileSourceConnector::default()));
        registry.sinks.insert("file", Arc::new(file::FileSinkConnector::default()));
        registry.lookups.insert("file", Arc::new(file::FileLookup::default()));
    }
    #[cfg(feature = "stdio")]
    {
        registry.sources.insert("stdin", Arc::new(stdio::Stdin::default()));
        registry.sinks.insert("stdout", Arc::new(stdio::Stdout::default()));
    }
    #[cfg(feature = "console")]
    registry.sinks.insert("console", Arc::new(console::Console::default()));
    #[cfg(feature = "generator")]
    registry.sources.insert("generator", Arc::new(generator::Generator));
    #[cfg(feature = "flight")]
    registry.sources.insert("flight", Arc::new(flight::FlightSource::default()));
    #[cfg(feature = "blackhole")]
    registry.sinks.insert("blackhole", Arc::new(blackhole::Blackhole));
    registry
}
