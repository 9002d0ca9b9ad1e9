//! What a sender knows of its channel: credit, and the frames that have not arrived yet. Pure, but for the wakers.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;

use conveyor_model::Clock;
use conveyor_model::credit::MAX_WINDOW;
use conveyor_model::edge::{ChannelSpec, Meter};
use conveyor_model::planted;
use conveyor_proto::v1;
use parking_lot::Mutex;

use crate::error::Failure;
use crate::frame::Item;
use crate::window::FIRST_WINDOW;

/// A channel's sending side, shared by its outlet, its driver and the stream of the moment.
pub(crate) struct Shared {
    pub(crate) spec: ChannelSpec,
    pub(crate) key: u64,
    pub(crate) clock: Arc<dyn Clock>,
    state: Mutex<SendState>,
}

impl Shared {
    pub(crate) fn new(spec: ChannelSpec, key: u64, clock: Arc<dyn Clock>) -> Self {
        let state = Mutex::new(SendState::new(spec.window_bytes));
        let shared = Self { spec, key, clock, state };
        shared.update(|_| ());
        shared
    }

    /// Changes the state, tells the meter and wakes whom it concerns.
    pub(crate) fn update<T>(&self, change: impl FnOnce(&mut SendState) -> T) -> T {
        let mut state = self.state.lock();
        let result = change(&mut state);
        let (available, in_flight) = (state.available(), state.in_flight());
        let wakers = [
            state.wake_sender.then(|| state.sender.take()).flatten(),
            state.wake_stream.then(|| state.stream.take()).flatten(),
            state.wake_driver.then(|| state.driver.take()).flatten(),
        ];
        (state.wake_sender, state.wake_stream, state.wake_driver) = (false, false, false);
        drop(state);
        self.meter().credits(available, in_flight);
        wakers.into_iter().flatten().for_each(Waker::wake);
        result
    }

    pub(crate) fn meter(&self) -> &dyn Meter {
        &*self.spec.meter
    }

    pub(crate) fn fail(&self, failure: Failure) {
        self.update(|state| state.fail(failure));
    }
}

/// Credit and unconfirmed frames.
pub(crate) struct SendState {
    limit: u64,
    largest: u64,
    granted: u64,
    spent: u64,
    refunded: u64,
    /// Frames that the receiver has not confirmed; the first has the sequence number `first`.
    frames: VecDeque<Item>,
    first: u64,
    /// Sequence number of the frame that the stream takes next.
    cursor: u64,
    /// Which stream may take frames; others are over.
    link: u64,
    linked: bool,
    last_sent: bool,
    failure: Option<Failure>,
    sender: Option<Waker>,
    stream: Option<Waker>,
    driver: Option<Waker>,
    wake_sender: bool,
    wake_stream: bool,
    wake_driver: bool,
}

/// What a stream does next.
pub(crate) enum Next {
    /// Send this.
    Item(u64, Item),
    /// Wait.
    Wait,
    /// Nothing follows, or another stream has taken over.
    Over,
}

impl SendState {
    fn new(limit: u64) -> Self {
        Self {
            limit: limit.min(MAX_WINDOW),
            largest: 0,
            granted: FIRST_WINDOW.min(limit),
            spent: 0,
            refunded: 0,
            frames: VecDeque::new(),
            first: 0,
            cursor: 0,
            link: 0,
            linked: false,
            last_sent: false,
            failure: None,
            sender: None,
            stream: None,
            driver: None,
            wake_sender: false,
            wake_stream: false,
            wake_driver: false,
        }
    }

    /// Bytes sent that are not refunded.
    pub(crate) fn in_flight(&self) -> u64 {
        self.spent - self.refunded
    }

    /// Bytes that may be sent now. Whatever is granted, no more than the channel's window is in flight, or two batches.
    pub(crate) fn available(&self) -> u64 {
        if planted("credit-deltas") {
            return self.granted.saturating_sub(self.spent);
        }
        let bound = self.refunded + self.limit.max(2 * self.largest);
        self.granted.min(bound).saturating_sub(self.spent)
    }

    /// Queues a frame if there is credit for it; a batch larger than the window goes when nothing is in flight.
    pub(crate) fn push(&mut self, item: Item) -> Result<(), Item> {
        let cost = item.cost();
        if cost > 0 && cost > self.available() && self.in_flight() > 0 {
            return Err(item);
        }
        self.spent += cost;
        self.largest = self.largest.max(cost);
        self.last_sent |= item.is_last();
        self.frames.push_back(item);
        self.wake_stream = true;
        Ok(())
    }

    /// Takes note of where the receiver stands; what is older than what is known changes nothing.
    ///
    /// # Errors
    /// If the receiver claims what cannot be.
    pub(crate) fn credit(&mut self, credit: &v1::EdgeCredit) -> Result<(), Failure> {
        if self.failure.is_some() {
            return Ok(());
        }
        let next = self.first + self.frames.len() as u64;
        if credit.received_next > next || credit.refunded > self.spent {
            return Err(Failure::protocol("the receiver confirms what was never sent"));
        }
        let window = MAX_WINDOW.max(2 * self.largest);
        if credit.granted > self.refunded.max(credit.refunded).saturating_add(window) {
            return Err(Failure::protocol("the receiver grants more than any window"));
        }
        self.refunded = self.refunded.max(credit.refunded);
        self.granted = if planted("credit-deltas") {
            self.granted.saturating_add(credit.granted)
        } else {
            self.granted.max(credit.granted)
        };
        let confirms = self.linked || !planted("resent-twice");
        while confirms && self.first < credit.received_next {
            self.frames.pop_front();
            self.first += 1;
        }
        self.cursor = self.cursor.max(self.first);
        self.wake_sender = true;
        self.wake_driver = self.all_received();
        Ok(())
    }

    /// Whether the receiver has everything up to the last frame.
    pub(crate) fn all_received(&self) -> bool {
        self.last_sent && self.frames.is_empty()
    }

    /// A new stream is about to be opened; older ones take no more frames. Its number is returned.
    pub(crate) fn begin_link(&mut self) -> u64 {
        self.link += 1;
        self.linked = false;
        self.wake_stream = true;
        self.link
    }

    /// The stream is open and goes on with the first frame that did not arrive.
    pub(crate) fn linked(&mut self, link: u64) {
        if self.link == link {
            self.linked = true;
            self.cursor = self.first;
            self.wake_stream = true;
        }
    }

    /// What the stream `link` sends next.
    pub(crate) fn next(&mut self, link: u64, waker: &Waker) -> Next {
        if self.link != link || self.failure.is_some() || self.all_received() {
            return Next::Over;
        }
        let at = (self.cursor - self.first) as usize;
        match self.frames.get(at).filter(|_| self.linked) {
            Some(item) => {
                let sequence = self.cursor;
                self.cursor += 1;
                Next::Item(sequence, item.clone())
            }
            None => {
                self.stream = Some(waker.clone());
                Next::Wait
            }
        }
    }

    /// The channel is over.
    pub(crate) fn fail(&mut self, failure: Failure) {
        // The first reason is the one that counts; what follows are its echoes.
        self.failure.get_or_insert(failure);
        self.frames.clear();
        (self.wake_sender, self.wake_stream, self.wake_driver) = (true, true, true);
    }

    pub(crate) fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref()
    }

    /// Whether the end was sent already.
    pub(crate) fn is_closing(&self) -> bool {
        self.last_sent
    }

    /// Whether the driver has no more to do; if it has, it is woken when that changes.
    pub(crate) fn is_over(&mut self, waker: &Waker) -> bool {
        let over = self.failure.is_some() || self.all_received();
        if !over {
            self.driver = Some(waker.clone());
        }
        over
    }

    pub(crate) fn wait_for_credit(&mut self, waker: &Waker) {
        self.sender = Some(waker.clone());
    }
}
