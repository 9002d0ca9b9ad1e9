//! The messages that open streams.

use conveyor_model::edge::ChannelId;
use conveyor_model::{Incarnation, PipelineId};
use conveyor_proto::v1;
use v1::edge_hello::Purpose;

/// Version of the protocol between processes.
pub(crate) const VERSION: u32 = 1;

/// First message of a stream.
pub(crate) fn hello(boot: &str, purpose: Purpose) -> v1::EdgeHello {
    v1::EdgeHello { version: VERSION, boot: boot.to_owned(), purpose: Some(purpose) }
}

/// Which channel a sender opens.
///
/// # Errors
/// If it names no pipeline.
pub(crate) fn channel_id(channel: &v1::EdgeChannel) -> Result<ChannelId, String> {
    let pipeline = channel.pipeline.as_ref().ok_or("a channel without a pipeline")?;
    Ok(ChannelId {
        pipeline: PipelineId::new(pipeline.namespace.clone(), pipeline.name.clone()),
        incarnation: Incarnation(channel.incarnation),
        edge: channel.edge,
        from: channel.from,
        to: channel.to,
    })
}
