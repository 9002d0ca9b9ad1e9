//! The planner from outside: text in, findings, plans and pictures out.

mod plans;
mod support;
