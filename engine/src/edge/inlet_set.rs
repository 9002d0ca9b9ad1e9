//! All inputs of a task: fair choice, alignment of barriers, minimum of watermarks.
//!
//! A channel that has delivered a barrier is held back until all others have, and only then: an ended channel counts
//! as aligned. A barrier of a later epoch, or an abort, gives up the alignment under way.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Context, Poll};

use conveyor_model::edge::Inlet;
use conveyor_model::{Batch, Epoch, Error, Frame, Result, Watermark, planted};
use futures::stream::{BoxStream, StreamExt, unfold};

/// What arrives at a task.
#[derive(Debug)]
pub(crate) enum Arrival {
    /// Rows.
    Data(Batch),
    /// All channels have delivered this barrier or have ended.
    Barrier(Epoch),
    /// The minimum over the channels has advanced.
    Watermark(Watermark),
    /// No channel has rows for now.
    Idle,
    /// All channels have ended.
    End,
}

struct Channel {
    name: String,
    frames: BoxStream<'static, Frame>,
    held: bool,
    ended: bool,
    idle: bool,
    watermark: Watermark,
}

/// The inputs of one task.
pub(crate) struct InletSet {
    channels: Vec<Channel>,
    next: usize,
    ready: VecDeque<Arrival>,
    aligning: Option<Epoch>,
    void: Epoch,
    watermark: Watermark,
    idle: bool,
}

impl InletSet {
    /// Joins named channels; `floor` is the watermark that must not be fallen below.
    pub(crate) fn new(inlets: impl IntoIterator<Item = (String, Box<dyn Inlet>)>, floor: Watermark) -> Self {
        let channels: Vec<Channel> = inlets
            .into_iter()
            .map(|(name, inlet)| Channel {
                name,
                // A stream keeps a call under way across polls, so no frame and no wake-up is lost.
                frames: unfold(inlet, |mut inlet| async move { inlet.next().await.map(|f| (f, inlet)) })
                    .boxed(),
                held: false,
                ended: false,
                idle: false,
                watermark: Watermark::MIN,
            })
            .collect();
        let mut ready = VecDeque::new();
        if channels.is_empty() {
            ready.push_back(Arrival::End);
        }
        Self { channels, next: 0, ready, aligning: None, void: Epoch(0), watermark: floor, idle: false }
    }

    /// The next arrival. Cancel-safe: what has been taken from a channel is kept.
    ///
    /// # Errors
    /// If a sender is gone without an end.
    pub(crate) async fn next(&mut self) -> Result<Arrival> {
        poll_fn(|context| self.poll(context)).await
    }

    /// Gives up the alignment of `epoch` and of all before it.
    pub(crate) fn abort(&mut self, epoch: Epoch) {
        self.void = self.void.max(epoch);
        if self.aligning.is_some_and(|e| e <= epoch) {
            self.release();
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<Arrival>> {
        loop {
            if let Some(arrival) = self.ready.pop_front() {
                return Poll::Ready(Ok(arrival));
            }
            match self.poll_channels(context) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Takes one frame from the first channel in turn that has one.
    fn poll_channels(&mut self, context: &mut Context<'_>) -> Poll<Result<()>> {
        let n = self.channels.len();
        for at in (self.next..n).chain(0..self.next) {
            let channel = &mut self.channels[at];
            if (channel.held && !planted("barrier-unaligned")) || channel.ended {
                continue;
            }
            match channel.frames.poll_next_unpin(context) {
                Poll::Pending => {}
                Poll::Ready(Some(frame)) => {
                    self.next = (at + 1) % n;
                    self.take(at, frame);
                    return Poll::Ready(Ok(()));
                }
                Poll::Ready(None) => {
                    return Poll::Ready(Err(Error::runtime(
                        conveyor_epoch::GONE,
                        format!("the sending task of {} is gone", channel.name),
                    )));
                }
            }
        }
        Poll::Pending
    }

    fn take(&mut self, at: usize, frame: Frame) {
        let channel = &mut self.channels[at];
        channel.idle = matches!(frame, Frame::Idle);
        match frame {
            Frame::Data { batch, .. } => {
                self.idle = false;
                self.ready.push_back(Arrival::Data(batch));
            }
            Frame::Barrier(epoch) => self.barrier(at, epoch),
            Frame::Watermark(watermark) => {
                channel.watermark = channel.watermark.max(watermark);
                self.advance();
            }
            Frame::Idle => self.advance(),
            Frame::End => {
                channel.ended = true;
                self.align();
                self.advance();
                if self.channels.iter().all(|c| c.ended) {
                    self.ready.push_back(Arrival::End);
                }
            }
        }
    }

    fn barrier(&mut self, at: usize, epoch: Epoch) {
        if epoch <= self.void || self.aligning.is_some_and(|current| epoch < current) {
            return;
        }
        if self.aligning.is_some_and(|current| epoch > current) {
            self.release();
        }
        self.aligning = Some(epoch);
        self.channels[at].held = true;
        self.align();
    }

    fn align(&mut self) {
        let Some(epoch) = self.aligning else { return };
        if self.channels.iter().all(|c| c.held || c.ended) {
            self.release();
            self.void = epoch;
            self.ready.push_back(Arrival::Barrier(epoch));
        }
    }

    fn release(&mut self) {
        self.aligning = None;
        self.channels.iter_mut().for_each(|c| c.held = false);
    }

    /// Tells of a higher minimum, or that all channels are idle.
    fn advance(&mut self) {
        // A channel at its very end holds nothing back, but does not speak for idle ones either.
        let open = || self.channels.iter().filter(|c| c.watermark < Watermark::MAX);
        let least = if open().next().is_none() {
            Some(Watermark::MAX)
        } else {
            open().filter(|c| !c.idle).map(|c| c.watermark).min()
        };
        match least {
            Some(least) if least > self.watermark => {
                self.watermark = least;
                self.idle = false;
                self.ready.push_back(Arrival::Watermark(least));
            }
            None if !self.idle => {
                self.idle = true;
                self.ready.push_back(Arrival::Idle);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use conveyor_model::edge::Outlet;
    use futures::FutureExt;

    use super::*;
    use crate::edge::local::{LocalOutlet, channel};
    use crate::metrics::ChannelMetrics;
    use crate::testing::{ManualClock, numbers};

    fn open(n: usize) -> (Vec<LocalOutlet>, InletSet) {
        let (outlets, inlets): (Vec<_>, Vec<_>) = (0..n)
            .map(|i| {
                let (outlet, inlet) =
                    channel(1 << 20, Arc::new(ManualClock::default()), Arc::new(ChannelMetrics::default()));
                (outlet, (format!("c{i}"), Box::new(inlet) as Box<dyn Inlet>))
            })
            .unzip();
        (outlets, InletSet::new(inlets, Watermark::MIN))
    }

    fn send(outlet: &mut LocalOutlet, frame: Frame) {
        outlet.send(frame).now_or_never().unwrap().unwrap();
    }

    fn rows(split: &str) -> Frame {
        Frame::Data { batch: numbers("s", split, 0..1), cost: 64 }
    }

    fn arrivals(set: &mut InletSet) -> Vec<String> {
        let mut all = Vec::new();
        while let Some(arrival) = set.next().now_or_never() {
            all.push(match arrival {
                Ok(Arrival::Data(batch)) => format!("data {}", batch.origin().get(0).split),
                Ok(Arrival::Barrier(epoch)) => format!("barrier {epoch}"),
                Ok(Arrival::Watermark(mark)) => format!("watermark {}", mark.0),
                Ok(Arrival::Idle) => "idle".into(),
                Ok(Arrival::End) => "end".into(),
                Err(error) => {
                    all.push(error.code().into());
                    return all;
                }
            });
        }
        all
    }

    #[test]
    fn a_channel_waits_behind_its_barrier_for_the_others() {
        let (mut out, mut set) = open(2);
        send(&mut out[0], Frame::Barrier(Epoch(1)));
        send(&mut out[0], rows("after"));
        send(&mut out[1], rows("before"));
        assert_eq!(arrivals(&mut set), ["data before"]);
        send(&mut out[1], Frame::Barrier(Epoch(1)));
        assert_eq!(arrivals(&mut set), ["barrier 1", "data after"]);
    }

    #[test]
    fn an_end_aligns_and_the_last_one_ends_the_set() {
        let (mut out, mut set) = open(2);
        send(&mut out[0], Frame::Barrier(Epoch(3)));
        send(&mut out[1], Frame::End);
        assert_eq!(arrivals(&mut set), ["barrier 3"]);
        send(&mut out[0], Frame::End);
        assert_eq!(arrivals(&mut set), ["end"]);
    }

    #[test]
    fn an_abort_or_a_later_barrier_gives_up_the_alignment() {
        let (mut out, mut set) = open(2);
        send(&mut out[0], Frame::Barrier(Epoch(1)));
        send(&mut out[0], rows("a"));
        assert_eq!(arrivals(&mut set), Vec::<String>::new());
        set.abort(Epoch(1));
        assert_eq!(arrivals(&mut set), ["data a"]);
        send(&mut out[1], Frame::Barrier(Epoch(1)));
        send(&mut out[1], rows("b"));
        assert_eq!(arrivals(&mut set), ["data b"], "the aborted barrier holds nothing back");
        send(&mut out[0], Frame::Barrier(Epoch(2)));
        send(&mut out[0], rows("c"));
        assert_eq!(arrivals(&mut set), Vec::<String>::new());
        send(&mut out[1], Frame::Barrier(Epoch(3)));
        assert_eq!(arrivals(&mut set), ["data c"]);
        send(&mut out[0], Frame::Barrier(Epoch(3)));
        assert_eq!(arrivals(&mut set), ["barrier 3"]);
    }

    #[test]
    fn the_watermark_is_the_minimum_over_channels_that_are_not_idle() {
        let (mut out, mut set) = open(2);
        send(&mut out[0], Frame::Watermark(Watermark(10)));
        assert_eq!(arrivals(&mut set), Vec::<String>::new());
        send(&mut out[1], Frame::Idle);
        assert_eq!(arrivals(&mut set), ["watermark 10"]);
        send(&mut out[1], Frame::Watermark(Watermark(5)));
        assert_eq!(arrivals(&mut set), Vec::<String>::new(), "never back");
        send(&mut out[0], Frame::Idle);
        send(&mut out[1], Frame::Idle);
        assert_eq!(arrivals(&mut set), ["idle"]);
        send(&mut out[0], Frame::Watermark(Watermark::MAX));
        send(&mut out[0], Frame::End);
        send(&mut out[1], Frame::Watermark(Watermark(7)));
        assert_eq!(
            arrivals(&mut set),
            Vec::<String>::new(),
            "an ended channel does not speak for the others"
        );
        send(&mut out[1], Frame::Watermark(Watermark(70)));
        assert_eq!(arrivals(&mut set), ["watermark 70"]);
    }

    #[test]
    fn channels_take_turns() {
        let (mut out, mut set) = open(2);
        for _ in 0..2 {
            send(&mut out[0], rows("a"));
            send(&mut out[1], rows("b"));
        }
        assert_eq!(arrivals(&mut set), ["data a", "data b", "data a", "data b"]);
    }

    #[test]
    fn a_lost_sender_is_an_error() {
        let (mut out, mut set) = open(2);
        out.pop();
        assert_eq!(arrivals(&mut set), [conveyor_epoch::GONE]);
    }
}
