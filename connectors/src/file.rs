//! Files, local and in object stores: source, sink and lookup.

mod avro;
mod blocking;
mod chunks;
mod columnar;
mod commit;
mod config;
mod connector;
mod decompress;
mod encode;
mod failure;
mod follow;
mod ipc;
mod layout;
mod listing;
mod lookup;
mod parquet;
mod partition;
mod prune;
mod reader;
mod record;
mod remote;
mod sink;
mod sink_config;
mod sink_connector;
mod source;
mod split;
mod store;
mod target;
mod text;
mod writer;

pub use connector::FileSourceConnector;
pub use lookup::FileLookup;
pub use record::record_decoder;
pub use sink_connector::{FAILPOINTS, FileSinkConnector, REMOTE_FAILPOINTS};
