//! The receiving end of a channel from another process.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use conveyor_model::edge::Inlet;
use conveyor_model::{Clock, Frame};

use super::channel::Channel;
use super::registry::{Registry, gone};
use super::state::Taken;
use crate::error::Failure;
use crate::frame::Item;

/// Dropping it tells the sender that the receiver is gone.
pub(crate) struct FlightInlet {
    channel: Arc<Channel>,
    registry: Arc<Registry>,
    clock: Arc<dyn Clock>,
    gone_after: Duration,
}

impl FlightInlet {
    pub(crate) fn new(
        channel: Arc<Channel>,
        registry: Arc<Registry>,
        clock: Arc<dyn Clock>,
        gone_after: Duration,
    ) -> Self {
        Self { channel, registry, clock, gone_after }
    }

    /// Waits until the sender has been without a connection for too long.
    async fn gone(&self, lost_us: Option<u64>) {
        let Some(lost_us) = lost_us else { return std::future::pending().await };
        let gone = Duration::from_micros(self.clock.monotonic_us().saturating_sub(lost_us));
        tokio::time::sleep(self.gone_after.saturating_sub(gone)).await;
    }
}

#[async_trait]
impl Inlet for FlightInlet {
    /// Cancel-safe: a frame leaves the queue only when it is returned.
    async fn next(&mut self) -> Option<Frame> {
        let mut lost = None;
        loop {
            let taken = tokio::select! {
                biased;
                taken = poll_fn(|context| self.channel.poll_take(context, lost)) => taken,
                () = self.gone(lost) => {
                    self.channel.fail(Failure::Closed("the sender has been without a connection for too long".into()));
                    Taken::Over
                }
            };
            match taken {
                Taken::Item(Item::Frame(frame)) => return Some(frame),
                Taken::Item(Item::Closed) | Taken::Over => return None,
                Taken::Wait(since) => lost = since,
            }
        }
    }
}

impl Drop for FlightInlet {
    fn drop(&mut self) {
        self.registry.remove(&self.channel);
        self.channel.fail(gone());
    }
}
