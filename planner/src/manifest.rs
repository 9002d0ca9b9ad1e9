//! Manifests to objects: the tables that say what is allowed, the check against them, and the reading.

pub(crate) mod check;
pub(crate) mod defs;
pub(crate) mod read;
pub(crate) mod shape;
pub(crate) mod steps;
pub(crate) mod tables;
