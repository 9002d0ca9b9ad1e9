//! A channel's receiving side, shared by its inlet, the stream of the moment and the session of its sender.

use std::sync::Arc;
use std::task::{Context, Poll};

use conveyor_model::Clock;
use conveyor_model::edge::ChannelSpec;
use conveyor_proto::v1;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::session::Session;
use super::state::{Admission, News, ReceiveState, Taken};
use crate::error::Failure;
use crate::frame::Item;

/// Who sends.
#[derive(Clone)]
struct Sender {
    session: Arc<Session>,
    key: u64,
    /// Ends the stream of the moment.
    stop: CancellationToken,
}

/// See the module.
pub(crate) struct Channel {
    pub(crate) spec: ChannelSpec,
    clock: Arc<dyn Clock>,
    state: Mutex<ReceiveState>,
    sender: Mutex<Option<Sender>>,
}

/// A stream that fills the channel. Dropping it tells the reader that the connection is lost.
pub(crate) struct Link {
    channel: Arc<Channel>,
    number: u64,
    /// Ends when the channel is over, or another stream has taken over.
    pub(crate) stop: CancellationToken,
}

impl Channel {
    pub(crate) fn new(spec: ChannelSpec, clock: Arc<dyn Clock>) -> Self {
        let state = Mutex::new(ReceiveState::new(spec.window_bytes, clock.monotonic_us()));
        let channel = Self { spec, clock, state, sender: Mutex::new(None) };
        channel.update(|_| ());
        channel
    }

    /// Changes the state; tells the meter, and the sender where it must hear of it. `wake` says whether it concerns the reader.
    fn update<T>(&self, change: impl FnOnce(&mut ReceiveState) -> T) -> T {
        let mut state = self.state.lock();
        let result = change(&mut state);
        let news = state.news();
        let tell = (news > state.pending).then_some(news);
        state.pending = state.pending.max(news);
        let (available, in_flight) = state.credits();
        drop(state);
        self.spec.meter.credits(available, in_flight);
        if let Some(news) = tell {
            self.tell(news);
        }
        result
    }

    fn update_and_wake<T>(&self, change: impl FnOnce(&mut ReceiveState) -> T) -> T {
        let (result, reader) = self.update(|state| (change(state), state.reader.take()));
        reader.into_iter().for_each(std::task::Waker::wake);
        result
    }

    fn tell(&self, news: News) {
        let sender = self.sender.lock().as_ref().map(|s| (s.session.clone(), s.key));
        if let Some((session, key)) = sender {
            session.mark(key, news);
        }
    }

    /// A sender opens a stream.
    ///
    /// # Errors
    /// `Fenced` if another process has the channel: frames that came from it cannot be told from those of the new one.
    pub(crate) fn link(
        self: &Arc<Self>,
        session: &Arc<Session>,
        opened: &v1::EdgeChannel,
    ) -> Result<Link, Failure> {
        let stop = CancellationToken::new();
        {
            let mut sender = self.sender.lock();
            if let Some(old) = &*sender {
                if !Arc::ptr_eq(&old.session, session) || old.key != opened.key {
                    return Err(Failure::Fenced("another process sends on this channel".into()));
                }
                old.stop.cancel();
            }
            *sender = Some(Sender { session: session.clone(), key: opened.key, stop: stop.clone() });
        }
        session.join(opened.key, self);
        let number = self.update_and_wake(|state| state.begin_link(opened.window_bytes));
        let link = Link { channel: self.clone(), number, stop };
        // It may have failed before the sender was known.
        match self.failure() {
            Some(failure) => Err(failure),
            None => Ok(link),
        }
    }

    /// Where the receiver stands, as the sender hears it now.
    pub(crate) fn announce(&self) -> v1::EdgeCredit {
        let key = self.sender.lock().as_ref().map_or(0, |s| s.key);
        self.state.lock().announce(key)
    }

    pub(crate) fn failure(&self) -> Option<Failure> {
        self.state.lock().failure().cloned()
    }

    /// The channel is over: the reader gets nothing more, the sender hears why.
    pub(crate) fn fail(&self, failure: Failure) {
        if self.update_and_wake(|state| state.fail(failure.clone())) {
            tracing::debug!(channel = %self.spec.id, ?failure, "a channel is over");
        }
        let stop = self.sender.lock().as_ref().map(|s| s.stop.clone());
        stop.into_iter().for_each(|s| s.cancel());
    }

    /// The next item for the reader, who is woken when there is more to say than `known`.
    pub(crate) fn poll_take(&self, context: &Context<'_>, known: Option<u64>) -> Poll<Taken> {
        self.update(|state| match state.take(|| self.clock.monotonic_us()) {
            Taken::Wait(lost) if lost == known => {
                state.reader = Some(context.waker().clone());
                Poll::Pending
            }
            taken => Poll::Ready(taken),
        })
    }
}

impl Link {
    /// Whether a frame is to be read.
    ///
    /// # Errors
    /// As [`ReceiveState::admit`].
    pub(crate) fn admit(&self, sequence: u64, cost: u64) -> Result<Admission, Failure> {
        self.channel.state.lock().admit(self.number, sequence, cost)
    }

    /// Queues an admitted item for the reader; whether it was still wanted.
    pub(crate) fn push(&self, item: Item) -> bool {
        self.channel.update_and_wake(|state| state.push(self.number, item))
    }

    pub(crate) fn channel(&self) -> &Channel {
        &self.channel
    }

    /// Whether all was received.
    pub(crate) fn is_complete(&self) -> bool {
        self.channel.state.lock().is_complete()
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        let now_us = self.channel.clock.monotonic_us();
        self.channel.update_and_wake(|state| state.end_link(self.number, now_us));
    }
}
