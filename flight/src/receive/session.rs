//! One sending process, as a receiver sees it: all its channels, and which of them it must hear about.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Weak};
use std::time::Duration;

use conveyor_proto::v1;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::channel::Channel;
use super::state::News;

/// See the module.
#[derive(Default)]
pub(crate) struct Session {
    inner: Mutex<Inner>,
    /// Something has become due.
    changed: Notify,
}

#[derive(Default)]
struct Inner {
    channels: HashMap<u64, Weak<Channel>>,
    dirty: BTreeSet<u64>,
    due: Option<News>,
    stream: CancellationToken,
}

impl Session {
    /// A channel of this sender.
    pub(crate) fn join(&self, key: u64, channel: &Arc<Channel>) {
        let mut inner = self.inner.lock();
        inner.channels.retain(|_, c| c.strong_count() > 0);
        inner.channels.insert(key, Arc::downgrade(channel));
    }

    /// The sender must hear of this channel.
    pub(crate) fn mark(&self, key: u64, news: News) {
        let mut inner = self.inner.lock();
        inner.dirty.insert(key);
        let changed = inner.due < Some(news);
        inner.due = inner.due.max(Some(news));
        drop(inner);
        if changed {
            self.changed.notify_one();
        }
    }

    /// A stream of credits begins: older ones are over, and everything is said again on this one.
    pub(crate) fn begin_stream(&self) -> CancellationToken {
        let stop = CancellationToken::new();
        let mut inner = self.inner.lock();
        std::mem::replace(&mut inner.stream, stop.clone()).cancel();
        inner.dirty = inner.channels.keys().copied().collect();
        inner.due = Some(News::Now);
        drop(inner);
        self.changed.notify_one();
        stop
    }

    /// Waits until the sender must hear something, and returns it. What nobody waits for is held back for `delay` at most.
    ///
    /// Cancel-safe: it is taken at the end.
    pub(crate) async fn news(&self, delay: Duration) -> Vec<v1::EdgeCredit> {
        loop {
            let due = self.inner.lock().due;
            match due {
                Some(News::Now) => {}
                Some(_) => {
                    tokio::select! {
                        () = tokio::time::sleep(delay) => {}
                        () = self.changed.notified() => continue,
                    }
                }
                None => {
                    self.changed.notified().await;
                    continue;
                }
            }
            let credits = self.take();
            if !credits.is_empty() {
                return credits;
            }
        }
    }

    fn take(&self) -> Vec<v1::EdgeCredit> {
        let channels: Vec<Arc<Channel>> = {
            let mut inner = self.inner.lock();
            inner.due = None;
            let dirty = std::mem::take(&mut inner.dirty);
            dirty.iter().filter_map(|key| inner.channels.get(key)?.upgrade()).collect()
        };
        channels.iter().map(|channel| channel.announce()).collect()
    }
}
