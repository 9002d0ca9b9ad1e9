//! Dead letters as Parquet files that any tool reads, staged with their epoch and published after its commit.
//!
//! Published files are Hive-partitioned: `pipeline=<namespace>.<name>/operator=<id>/date=<yyyy-mm-dd>/part-….parquet`. The
//! columns are in [`schema`]; none has the name of a partition key.

mod file;
mod group;
mod json;
mod purge;
mod reader;
mod replayed;
pub mod schema;
mod store;
mod writer;

pub use json::retype;
pub use reader::{DeadLetterFile, DeadLetterReader, Summary};
pub use replayed::LetterId;
pub use store::{Attempts, DeadLetterStore, location};
