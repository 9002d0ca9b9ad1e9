//! A channel within one process: a queue under credits in bytes, without serialization.
//!
//! Data waits for credit and for nothing else; control frames do not wait. The window follows the drain rate.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Poll, Waker};

use async_trait::async_trait;
use conveyor_epoch::GONE;
use conveyor_model::credit::{self, CreditLedger};
use conveyor_model::edge::{Inlet, Meter, Outlet};
use conveyor_model::{Batch, Clock, Error, Frame, Result};
use parking_lot::Mutex;

use crate::metrics::ChannelMetrics;

/// The window before the drain rate is known, in bytes.
const FIRST_WINDOW: u64 = 1 << 20;
/// How often the drain rate is measured.
const RATE_EVERY_US: u64 = 50_000;

/// What a batch costs on a channel: its rows, and what is kept beside them.
pub(crate) fn cost(batch: &Batch) -> u64 {
    let listed: u64 = batch.origin().segments().iter().map(|s| 64 + 8 * s.rows.len() as u64).sum();
    credit::cost(batch.rows()) + 64 * batch.rows().num_columns() as u64 + listed
}

/// Two ends of a new channel with at most `window` bytes in flight.
pub(crate) fn channel(
    window: u64,
    clock: Arc<dyn Clock>,
    metrics: Arc<ChannelMetrics>,
) -> (LocalOutlet, LocalInlet) {
    let first = FIRST_WINDOW.min(window);
    metrics.credits(first, 0);
    let state = State {
        queue: VecDeque::new(),
        ledger: CreditLedger::new(first),
        drained: 0,
        limit: window,
        largest: 0,
        rate: Rate { since_us: clock.monotonic_us(), drained: 0, bytes_per_second: 0.0 },
        sender: None,
        receiver: None,
        sender_gone: false,
        receiver_gone: false,
    };
    let shared = Arc::new(Shared { state: Mutex::new(state), clock, metrics });
    (LocalOutlet(shared.clone()), LocalInlet(shared))
}

struct Shared {
    state: Mutex<State>,
    clock: Arc<dyn Clock>,
    metrics: Arc<ChannelMetrics>,
}

struct State {
    queue: VecDeque<Frame>,
    ledger: CreditLedger,
    drained: u64,
    limit: u64,
    largest: u64,
    rate: Rate,
    sender: Option<Waker>,
    receiver: Option<Waker>,
    sender_gone: bool,
    receiver_gone: bool,
}

struct Rate {
    since_us: u64,
    drained: u64,
    bytes_per_second: f64,
}

impl Rate {
    fn measure(&mut self, drained: u64, now_us: u64) {
        let elapsed_us = now_us.saturating_sub(self.since_us);
        if elapsed_us < RATE_EVERY_US {
            return;
        }
        let now = (drained - self.drained) as f64 * 1e6 / elapsed_us as f64;
        self.bytes_per_second = (self.bytes_per_second + now) / 2.0;
        self.since_us = now_us;
        self.drained = drained;
    }
}

impl State {
    fn in_flight(&self) -> u64 {
        self.ledger.spent() - self.drained
    }

    /// Takes the first frame and refunds its credit; the second part is the sender to wake.
    fn take(&mut self, now_us: impl FnOnce() -> u64) -> (Option<Frame>, Option<Waker>) {
        let Some(frame) = self.queue.pop_front() else { return (None, None) };
        let Frame::Data { cost, .. } = &frame else { return (Some(frame), None) };
        self.drained += cost;
        self.largest = self.largest.max(*cost);
        self.rate.measure(self.drained, now_us());
        // Until the first measurement the first window stands, unless batches are larger.
        let rate = self.rate.bytes_per_second.max(FIRST_WINDOW as f64);
        let window = credit::window(rate, self.largest).min(self.limit.max(2 * self.largest));
        self.ledger.grant(self.drained + window);
        (Some(frame), self.sender.take())
    }
}

/// Sending end. Dropping it without [`Frame::End`] tells the receiver that the sender is gone.
pub(crate) struct LocalOutlet(Arc<Shared>);

#[async_trait]
impl Outlet for LocalOutlet {
    async fn send(&mut self, frame: Frame) -> Result<()> {
        let mut frame = Some(frame);
        let mut waiting_since = None;
        let sent = std::future::poll_fn(|context| {
            let mut state = self.0.state.lock();
            if state.receiver_gone {
                return Poll::Ready(Err(gone()));
            }
            if let Some(Frame::Data { cost, .. }) = &frame {
                let in_flight = state.in_flight();
                if !state.ledger.try_spend(*cost, in_flight) {
                    state.sender = Some(context.waker().clone());
                    let since = *waiting_since.get_or_insert_with(|| self.0.clock.monotonic_us());
                    self.0.metrics.starving(since);
                    return Poll::Pending;
                }
            }
            state.queue.extend(frame.take());
            self.0.metrics.credits(state.ledger.available(), state.in_flight());
            let receiver = state.receiver.take();
            drop(state);
            receiver.into_iter().for_each(Waker::wake);
            Poll::Ready(Ok(()))
        })
        .await;
        if let Some(since) = waiting_since {
            self.0.metrics.starved(self.0.clock.monotonic_us().saturating_sub(since));
        }
        sent
    }
}

impl Drop for LocalOutlet {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.sender_gone = true;
        let receiver = state.receiver.take();
        drop(state);
        receiver.into_iter().for_each(Waker::wake);
    }
}

/// Receiving end.
pub(crate) struct LocalInlet(Arc<Shared>);

#[async_trait]
impl Inlet for LocalInlet {
    async fn next(&mut self) -> Option<Frame> {
        std::future::poll_fn(|context| {
            let mut state = self.0.state.lock();
            let (frame, sender) = state.take(|| self.0.clock.monotonic_us());
            if frame.is_none() && !state.sender_gone {
                state.receiver = Some(context.waker().clone());
                return Poll::Pending;
            }
            self.0.metrics.credits(state.ledger.available(), state.in_flight());
            drop(state);
            sender.into_iter().for_each(Waker::wake);
            Poll::Ready(frame)
        })
        .await
    }
}

impl Drop for LocalInlet {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.receiver_gone = true;
        state.queue.clear();
        let sender = state.sender.take();
        drop(state);
        sender.into_iter().for_each(Waker::wake);
    }
}

fn gone() -> Error {
    Error::runtime(GONE, "the receiving task is gone")
}

#[cfg(test)]
mod tests {
    use conveyor_model::Epoch;
    use futures::FutureExt;

    use super::*;
    use crate::testing::{ManualClock, numbers};

    fn open(window: u64) -> (LocalOutlet, LocalInlet, Arc<ManualClock>, Arc<ChannelMetrics>) {
        let clock = Arc::new(ManualClock::default());
        let metrics = Arc::new(ChannelMetrics::default());
        let (outlet, inlet) = channel(window, clock.clone(), metrics.clone());
        (outlet, inlet, clock, metrics)
    }

    fn data(cost: u64) -> Frame {
        Frame::Data { batch: numbers("s", "a", 0..1), cost }
    }

    #[test]
    fn data_waits_for_credit_and_control_does_not() {
        let (mut outlet, mut inlet, clock, metrics) = open(100);
        outlet.send(data(60)).now_or_never().unwrap().unwrap();
        {
            let mut blocked = Box::pin(outlet.send(data(60)));
            assert!(blocked.as_mut().now_or_never().is_none());
            clock.advance(5_000);
            assert!(matches!(inlet.next().now_or_never(), Some(Some(Frame::Data { cost: 60, .. }))));
            blocked.now_or_never().expect("taking a frame refunds its credit").unwrap();
        }
        assert_eq!(metrics.starved_us(clock.monotonic_us()), 5_000);
        outlet.send(Frame::Barrier(Epoch(1))).now_or_never().expect("control frames do not wait").unwrap();
        assert!(matches!(inlet.next().now_or_never(), Some(Some(Frame::Data { .. }))));
        assert!(matches!(inlet.next().now_or_never(), Some(Some(Frame::Barrier(Epoch(1))))));
        assert!(inlet.next().now_or_never().is_none());
    }

    #[test]
    fn each_end_learns_that_the_other_is_gone() {
        let (mut outlet, inlet, ..) = open(100);
        drop(inlet);
        assert_eq!(outlet.send(data(1)).now_or_never().unwrap().unwrap_err().code(), GONE);
        let (mut outlet, mut inlet, ..) = open(100);
        outlet.send(data(1)).now_or_never().unwrap().unwrap();
        drop(outlet);
        assert!(matches!(inlet.next().now_or_never(), Some(Some(_))), "what was sent arrives");
        assert!(matches!(inlet.next().now_or_never(), Some(None)));
    }

    #[test]
    fn the_window_grows_with_the_rate_up_to_its_limit() {
        let (mut outlet, mut inlet, clock, metrics) = open(8 << 20);
        for _ in 0..10 {
            outlet.send(data(500_000)).now_or_never().unwrap().unwrap();
            clock.advance(60_000);
            inlet.next().now_or_never().unwrap().unwrap();
        }
        let (available, _) = metrics.credit();
        assert!(available > 4 << 20 && available <= 8 << 20, "{available}");
    }
}
