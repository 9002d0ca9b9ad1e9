//! The planner from outside: text in, findings, plans and pictures out.

mod diagnostics;
mod diffs;
mod laws;
mod plans;
mod schema;
mod support;
