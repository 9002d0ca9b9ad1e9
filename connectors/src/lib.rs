//! The built-in connectors: sources, sinks and lookups that touch the world.

pub mod format;
