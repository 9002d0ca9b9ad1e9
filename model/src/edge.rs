//! The two ends of a channel. A local edge and, later, an Arrow Flight edge implement them.

use async_trait::async_trait;

use crate::{Frame, Result};

/// Sending end of one channel.
#[async_trait]
pub trait Outlet: Send {
    /// Sends a frame. Data waits for credit and for nothing else; control frames do not wait.
    ///
    /// # Errors
    /// When the receiver is gone: the task must stop, its incarnation is over.
    async fn send(&mut self, frame: Frame) -> Result<()>;
}

/// Receiving end of one channel. Taking a data frame refunds its credit.
#[async_trait]
pub trait Inlet: Send {
    /// The next frame, or `None` when the sender is gone without [`Frame::End`]. Cancel-safe.
    async fn next(&mut self) -> Option<Frame>;
}
