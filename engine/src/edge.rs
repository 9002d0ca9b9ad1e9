//! Edges: how frames get from one task to another.

pub(crate) mod fan_out;
pub(crate) mod inlet_set;
pub(crate) mod local;
