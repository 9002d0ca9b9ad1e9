//! What a receiver knows of its channel: which frame comes next, what was granted, what waits for the reader. Pure, but for the
//! waker.

use std::collections::VecDeque;
use std::task::Waker;

use conveyor_model::Frame;
use conveyor_model::credit::MAX_WINDOW;
use conveyor_model::planted;
use conveyor_proto::v1;

use crate::error::Failure;
use crate::frame::Item;
use crate::window::Window;

/// How soon the sender must hear of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum News {
    /// There is none.
    Old,
    /// Some time: nobody waits for it.
    Later,
    /// Now: the sender may be out of credit soon.
    Now,
}

/// What becomes of a frame.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// It is the next one.
    Take,
    /// It was here before.
    Drop,
    /// Another stream has taken over.
    Stale,
}

/// What a reader gets.
#[derive(Debug)]
pub(crate) enum Taken {
    /// The next item.
    Item(Item),
    /// Nothing yet; the sender has been without a connection since then, in microseconds.
    Wait(Option<u64>),
    /// Nothing more.
    Over,
}

/// A channel's receiving side.
pub(crate) struct ReceiveState {
    queue: VecDeque<Item>,
    next: u64,
    received: u64,
    window: Window,
    announced: v1::EdgeCredit,
    pub(crate) pending: News,
    link: u64,
    lost_us: Option<u64>,
    last: bool,
    taken_last: bool,
    failure: Option<Failure>,
    pub(crate) reader: Option<Waker>,
}

impl ReceiveState {
    pub(crate) fn new(limit: u64, now_us: u64) -> Self {
        Self {
            queue: VecDeque::new(),
            next: 0,
            received: 0,
            window: Window::new(limit.min(MAX_WINDOW), now_us),
            announced: v1::EdgeCredit::default(),
            pending: News::Old,
            link: 0,
            lost_us: None,
            last: false,
            taken_last: false,
            failure: None,
            reader: None,
        }
    }

    /// A stream of the sender begins; older ones are over. Its number is returned.
    pub(crate) fn begin_link(&mut self, window_limit: u64) -> u64 {
        self.window.limit_to(window_limit);
        self.lost_us = None;
        self.link += 1;
        self.link
    }

    /// The stream is gone.
    pub(crate) fn end_link(&mut self, link: u64, now_us: u64) {
        if self.link == link {
            self.lost_us = Some(now_us);
        }
    }

    /// Whether a frame is to be read.
    ///
    /// # Errors
    /// If the sender breaks the protocol: a gap, a frame behind the last one, more than was granted.
    pub(crate) fn admit(&self, link: u64, sequence: u64, cost: u64) -> Result<Admission, Failure> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        if link != self.link {
            return Ok(Admission::Stale);
        }
        if sequence < self.next && !planted("resent-twice") {
            return Ok(Admission::Drop);
        }
        if sequence > self.next && !planted("resent-twice") {
            let what = format!("frame {sequence} came where {} was expected", self.next);
            return Err(Failure::Protocol(what));
        }
        if self.last {
            return Err(Failure::protocol("a frame came behind the last one"));
        }
        let overrun = self.received.saturating_add(cost) > self.window.granted();
        if overrun && cost > 0 && self.in_flight() > 0 {
            return Err(Failure::Protocol(format!(
                "the sender has spent {} bytes of {} granted",
                self.received.saturating_add(cost),
                self.window.granted()
            )));
        }
        Ok(Admission::Take)
    }

    /// Queues an admitted item; whether it was still wanted.
    pub(crate) fn push(&mut self, link: u64, item: Item) -> bool {
        if link != self.link || self.failure.is_some() {
            return false;
        }
        self.next += 1;
        self.received = self.received.saturating_add(item.cost());
        self.last |= item.is_last();
        self.queue.push_back(item);
        true
    }

    /// Takes what the reader gets next, and refunds it.
    pub(crate) fn take(&mut self, now_us: impl FnOnce() -> u64) -> Taken {
        if self.failure.is_some() || self.taken_last {
            return Taken::Over;
        }
        let Some(item) = self.queue.pop_front() else {
            return Taken::Wait(self.lost_us.filter(|_| !self.last));
        };
        if let Item::Frame(Frame::Data { cost, .. }) = &item {
            self.window.refund(*cost, now_us());
        }
        self.taken_last = item.is_last();
        Taken::Item(item)
    }

    /// Where the receiver stands.
    pub(crate) fn credit(&self, key: u64) -> v1::EdgeCredit {
        v1::EdgeCredit {
            key,
            granted: self.window.granted(),
            refunded: self.window.refunded(),
            received_next: self.next,
        }
    }

    /// Where the receiver stands, as the sender hears it now.
    pub(crate) fn announce(&mut self, key: u64) -> v1::EdgeCredit {
        self.announced = self.credit(key);
        self.pending = News::Old;
        self.announced
    }

    /// How soon the sender must hear of where the receiver stands.
    pub(crate) fn news(&self) -> News {
        let now = self.credit(self.announced.key);
        if now == self.announced {
            return News::Old;
        }
        let gained = now.granted - self.announced.granted;
        let window = now.granted - now.refunded;
        // The sender's last batches may be on their way: what it can spend is what it has heard of, less what has come.
        let known = self.announced.granted.saturating_sub(self.received);
        if gained > 0 && (gained >= window / 8 || known < 2 * self.window.largest()) {
            return News::Now;
        }
        News::Later
    }

    /// The channel is over. Returns whether that is new.
    pub(crate) fn fail(&mut self, failure: Failure) -> bool {
        let new = self.failure.is_none() && !self.taken_last;
        self.failure.get_or_insert(failure);
        self.queue.clear();
        new
    }

    pub(crate) fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref()
    }

    /// Whether all was received.
    pub(crate) fn is_complete(&self) -> bool {
        self.last
    }

    /// Bytes left of the grant, and bytes that wait for the reader.
    pub(crate) fn credits(&self) -> (u64, u64) {
        (self.window.granted().saturating_sub(self.received), self.in_flight())
    }

    fn in_flight(&self) -> u64 {
        self.received - self.window.refunded()
    }
}
