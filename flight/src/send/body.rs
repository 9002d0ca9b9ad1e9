//! The request body of a stream: what is sent is taken from the channel when the connection has room for it.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame};
use tonic::Status;

use super::state::{Next, Shared};
use crate::error::Failure;
use crate::frame::FrameWriter;

/// The frames of a channel, as one stream sends them.
pub(crate) struct FrameBody {
    shared: Arc<Shared>,
    link: u64,
    writer: FrameWriter,
    pieces: VecDeque<Bytes>,
    most_bytes: usize,
    over: bool,
}

type Piece = Poll<Option<Result<Frame<Bytes>, Status>>>;

impl FrameBody {
    /// `hello` goes first; frames follow once the channel says that `link` is open.
    pub(crate) fn new(
        shared: Arc<Shared>,
        link: u64,
        hello: Bytes,
        writer: FrameWriter,
        most_bytes: usize,
    ) -> Self {
        Self { shared, link, writer, pieces: [hello].into(), most_bytes, over: false }
    }

    /// Ends the stream; the receiver hears of a failure of this end.
    fn over(&mut self) -> Piece {
        let failure = self.shared.update(|state| state.failure().cloned());
        if self.over {
            return Poll::Ready(None);
        }
        self.over = true;
        Poll::Ready(failure.map(|f| Ok(Frame::data(FrameWriter::aborted(f.why())))))
    }

    fn fail(&mut self, failure: Failure) -> Piece {
        self.shared.fail(failure);
        self.over()
    }
}

impl Body for FrameBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Piece {
        if let Some(piece) = self.pieces.pop_front() {
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        let link = self.link;
        match self.shared.update(|state| state.next(link, context.waker())) {
            Next::Wait => Poll::Pending,
            Next::Over => self.over(),
            Next::Item(sequence, item) => {
                match self.writer.write(sequence, &item) {
                    Ok(pieces) => self.pieces = pieces,
                    Err(e) => return self.fail(Failure::Protocol(format!("rows cannot be encoded: {e}"))),
                }
                let length: usize = self.pieces.iter().map(Bytes::len).sum();
                if length > self.most_bytes {
                    let what = format!("a batch of {length} bytes is larger than a message may be");
                    return self.fail(Failure::Protocol(what));
                }
                Poll::Ready(self.pieces.pop_front().map(|piece| Ok(Frame::data(piece))))
            }
        }
    }
}

/// A body of one message that stays open.
pub(crate) struct Held(Option<Bytes>);

impl Held {
    pub(crate) fn new(hello: Bytes) -> Self {
        Self(Some(hello))
    }
}

impl Body for Held {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        match self.0.take() {
            Some(hello) => Poll::Ready(Some(Ok(Frame::data(hello)))),
            None => Poll::Pending,
        }
    }
}
