//! The sending end of a channel to another process.

use std::sync::Arc;
use std::task::Poll;

use async_trait::async_trait;
use conveyor_model::edge::Outlet;
use conveyor_model::{Frame, Result};

use super::state::Shared;
use crate::frame::Item;

/// Dropping it without [`Frame::End`] tells the receiver, behind all that was sent, that the sender is gone.
pub(crate) struct FlightOutlet(Arc<Shared>);

impl FlightOutlet {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self(shared)
    }
}

#[async_trait]
impl Outlet for FlightOutlet {
    async fn send(&mut self, frame: Frame) -> Result<()> {
        let mut item = Some(Item::Frame(frame));
        let mut waiting_since = None;
        let sent = std::future::poll_fn(|context| {
            self.0.update(|state| {
                if let Some(failure) = state.failure() {
                    return Poll::Ready(Err(failure.to_error(&self.0.spec.id)));
                }
                match item.take().map(|item| state.push(item)) {
                    Some(Err(back)) => item = Some(back),
                    _ => return Poll::Ready(Ok(())),
                }
                state.wait_for_credit(context.waker());
                let since = *waiting_since.get_or_insert_with(|| self.0.clock.monotonic_us());
                self.0.meter().starving(since);
                Poll::Pending
            })
        })
        .await;
        if let Some(since) = waiting_since {
            self.0.meter().starved(self.0.clock.monotonic_us().saturating_sub(since));
        }
        sent
    }
}

impl Drop for FlightOutlet {
    fn drop(&mut self) {
        self.0.update(|state| {
            if !state.is_closing() && state.failure().is_none() {
                // It costs nothing, so it is always taken.
                let _ = state.push(Item::Closed);
            }
        });
    }
}
