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
mod follow;
mod guard;
mod ipc;
mod join;
mod layout;
mod listing;
mod lookup;
mod parquet;
mod partition;
mod prune;
mod reader;
mod record;
mod sink;
mod sink_config;
mod sink_connector;
mod source;
mod split;
mod store;
mod target;
mod text;

pub use connector::FileSourceConnector;
pub use guard::decoder_running;
pub use lookup::FileLookup;
pub use record::record_decoder;
pub use sink_connector::{FAILPOINTS, FileSinkConnector};
