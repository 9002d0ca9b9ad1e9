//! Whole-system tests: the built `conveyorctl` against an independent oracle, under `kill -9`, and the house's own rules.
//!
//! Nothing here knows the inside of a crate. What a test needs from outside the workspace (DuckDB, servers of object
//! stores) is installed once into a folder under cargo's target directory, and a test that cannot get it fails and says why.

pub mod binary;
pub mod bounded;
pub mod cluster;
pub mod examples;
pub mod failure;
pub mod kill;
pub mod matrix;
pub mod oracle;
pub mod partitions;
pub mod python;
pub mod report;
pub mod servers;
pub mod source_text;
pub mod traffic;
pub mod workspace;
