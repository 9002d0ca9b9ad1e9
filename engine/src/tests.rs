//! Whole pipelines against fakes: commits, restarts, faults, laws.

mod faults;
mod laws;
mod stops;
