//! Tests of the crate from outside, in one binary.

mod bounds;
mod common;
mod hostile;
mod laws;
mod surface;
