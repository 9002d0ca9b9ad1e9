//! SQL expressions over Arrow rows: text to typed to vectorized, with the failing rows named.
//!
//! [`Expr`] is one expression, [`Select`] a stateless `SELECT` over one table, [`query`] full read-only SQL over a few
//! streamed tables, [`cast`] a strict cast of one column. The dialect and the functions are DataFusion's, with these
//! differences:
//!
//! - Column names are case sensitive, as they are written in the data; function names are not.
//! - Integer `+`, `-` and `*` that overflow fail instead of wrapping around.
//! - Text that comes out is `Utf8View`, a point in time is `Timestamp(Microsecond, "UTC")`.
//! - A value that a function makes has at most 8 MiB; a larger one fails its row.
//! - Functions whose result is not determined by the row (`random()`, `uuid()`, `now()`) are refused.
//!
//! A row that fails never takes its batch with it: see [`Evaluated`]. Nothing here knows of pipelines.

mod arith;
mod bisect;
mod bounded;
mod cast;
mod checked;
mod compile;
mod error;
mod expr;
mod functions;
mod growth;
mod parse;
mod pushdown;
mod query;
mod select;
mod size;

pub use bounded::TooMuch;
pub use cast::{can_cast, cast};
pub use error::{ExprError, nearest};
pub use expr::{Evaluated, Expr};
pub use query::query;
pub use select::{Select, Selected};
