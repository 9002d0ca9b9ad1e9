//! What a sidecar is still to be told: the newest word on each pipeline, however slowly it reads.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use conveyor_model::{Incarnation, PipelineId};
use conveyor_proto::v1;
use conveyor_proto::v1::router_message::Message;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// The newest word on a pipeline.
#[derive(Debug, Clone)]
enum Word {
    Deploy(Box<v1::Deploy>),
    Update(v1::Update),
    Stop(Incarnation),
}

#[derive(Debug, Default)]
struct Waiting {
    welcome: Option<v1::Welcome>,
    pong: Option<u64>,
    words: BTreeMap<PipelineId, Word>,
    /// Pipelines of `words` in the order in which they are told.
    order: VecDeque<PipelineId>,
    drained: bool,
    closed: bool,
}

/// Messages on their way to one sidecar. It holds one a pipeline at most, because only the newest counts.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    waiting: Mutex<Waiting>,
    notify: Notify,
}

impl Outbox {
    pub(crate) fn welcome(&self, welcome: v1::Welcome) {
        self.change(|w| w.welcome = Some(welcome));
    }

    pub(crate) fn pong(&self, sequence: u64) {
        self.change(|w| w.pong = Some(sequence));
    }

    pub(crate) fn drained(&self) {
        self.change(|w| w.drained = true);
    }

    /// Run a member. It replaces what was to be said of the pipeline before.
    pub(crate) fn deploy(&self, pipeline: &PipelineId, deploy: v1::Deploy) {
        self.put(pipeline, Word::Deploy(Box::new(deploy)));
    }

    /// The newest progress of a member; one whose deployment has not been told yet takes it along.
    pub(crate) fn update(
        &self,
        pipeline: &PipelineId,
        incarnation: Incarnation,
        progress: v1::ProgressUpdate,
    ) {
        self.change(|w| {
            match w.words.get_mut(pipeline) {
                Some(Word::Deploy(deploy)) if deploy.incarnation == incarnation.0 => {
                    deploy.progress = Some(progress);
                    return;
                }
                Some(Word::Deploy(deploy)) if deploy.incarnation > incarnation.0 => return,
                // A member that is to end needs no news, and older ones end with it.
                Some(Word::Stop(stop)) if *stop >= incarnation => return,
                _ => {}
            }
            let update = v1::Update {
                pipeline: Some(pipeline.into()),
                incarnation: incarnation.0,
                progress: Some(progress),
            };
            w.put(pipeline, Word::Update(update));
        });
    }

    /// End a member, and those of older incarnations.
    pub(crate) fn stop(&self, pipeline: &PipelineId, incarnation: Incarnation) {
        self.change(|w| match w.words.get(pipeline) {
            Some(Word::Deploy(deploy)) if deploy.incarnation > incarnation.0 => {}
            Some(Word::Update(update)) if update.incarnation > incarnation.0 => {}
            _ => w.put(pipeline, Word::Stop(incarnation)),
        });
    }

    /// Nothing more will be said: the stream ends.
    pub(crate) fn close(&self) {
        self.change(|w| w.closed = true);
    }

    /// The next message; `None` when the outbox is closed. Cancel-safe.
    pub(crate) async fn next(&self) -> Option<Message> {
        loop {
            let notified = self.notify.notified();
            {
                let mut waiting = self.waiting.lock();
                if waiting.closed {
                    return None;
                }
                if let Some(message) = waiting.take() {
                    return Some(message);
                }
            }
            notified.await;
        }
    }

    fn put(&self, pipeline: &PipelineId, word: Word) {
        self.change(|w| w.put(pipeline, word));
    }

    fn change(&self, change: impl FnOnce(&mut Waiting)) {
        change(&mut self.waiting.lock());
        self.notify.notify_one();
    }
}

impl Waiting {
    fn put(&mut self, pipeline: &PipelineId, word: Word) {
        if self.words.insert(pipeline.clone(), word).is_none() {
            self.order.push_back(pipeline.clone());
        }
    }

    fn take(&mut self) -> Option<Message> {
        if let Some(welcome) = self.welcome.take() {
            return Some(Message::Welcome(welcome));
        }
        // In front of the rest: it is what the sidecar knows of its lease.
        if let Some(sequence) = self.pong.take() {
            return Some(Message::Pong(v1::Pong { sequence }));
        }
        if let Some(id) = self.order.pop_front() {
            let word = self.words.remove(&id).expect("what has an order has a word");
            return Some(match word {
                Word::Deploy(deploy) => Message::Deploy(*deploy),
                Word::Update(update) => Message::Update(update),
                Word::Stop(incarnation) => {
                    Message::Stop(v1::Stop { pipeline: Some((&id).into()), incarnation: incarnation.0 })
                }
            });
        }
        std::mem::take(&mut self.drained).then_some(Message::Drained(v1::Done {}))
    }
}

/// The outboxes of all sidecars that are attached, by sidecar.
#[derive(Clone, Default)]
pub(crate) struct Outboxes(Arc<Mutex<BTreeMap<String, Arc<Outbox>>>>);

impl Outboxes {
    /// Puts a sidecar's outbox in the place of the one of its earlier stream, which ends.
    pub(crate) fn insert(&self, sidecar: &str, outbox: Arc<Outbox>) {
        if let Some(old) = self.0.lock().insert(sidecar.to_owned(), outbox) {
            old.close();
        }
    }

    pub(crate) fn get(&self, sidecar: &str) -> Option<Arc<Outbox>> {
        self.0.lock().get(sidecar).cloned()
    }

    pub(crate) fn remove(&self, sidecar: &str) {
        if let Some(old) = self.0.lock().remove(sidecar) {
            old.close();
        }
    }

    /// Ends all streams.
    pub(crate) fn close(&self) {
        for outbox in std::mem::take(&mut *self.0.lock()).into_values() {
            outbox.close();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deploy(incarnation: u64) -> v1::Deploy {
        v1::Deploy { incarnation, ..v1::Deploy::default() }
    }

    fn progress(inject: u64) -> v1::ProgressUpdate {
        v1::ProgressUpdate { inject, ..v1::ProgressUpdate::default() }
    }

    fn all(outbox: &Outbox) -> Vec<Message> {
        std::iter::from_fn(|| outbox.waiting.lock().take()).collect()
    }

    #[test]
    fn only_the_newest_word_waits() {
        let outbox = Outbox::default();
        let id = PipelineId::new("default", "p");
        outbox.pong(1);
        outbox.pong(2);
        outbox.deploy(&id, deploy(3));
        outbox.update(&id, Incarnation(3), progress(7));
        let told = all(&outbox);
        assert!(matches!(&told[0], Message::Pong(v1::Pong { sequence: 2 })));
        let Message::Deploy(one) = &told[1] else { panic!("{told:?}") };
        assert_eq!((one.progress.as_ref().map(|p| p.inject), told.len()), (Some(7), 2));

        outbox.update(&id, Incarnation(3), progress(8));
        outbox.update(&id, Incarnation(3), progress(9));
        outbox.stop(&id, Incarnation(3));
        outbox.update(&id, Incarnation(3), progress(10));
        assert!(matches!(&all(&outbox)[..], [Message::Stop(v1::Stop { incarnation: 3, .. })]));

        // An older stop does not undo a newer start.
        outbox.deploy(&id, deploy(4));
        outbox.stop(&id, Incarnation(3));
        outbox.update(&id, Incarnation(3), progress(11));
        let told = all(&outbox);
        assert!(matches!(&told[..], [Message::Deploy(d)] if d.incarnation == 4 && d.progress.is_none()));
    }

    #[tokio::test]
    async fn a_closed_outbox_ends_the_stream() {
        let boxes = Outboxes::default();
        let (old, new) = (Arc::new(Outbox::default()), Arc::new(Outbox::default()));
        boxes.insert("a", old.clone());
        boxes.insert("a", new.clone());
        assert!(old.next().await.is_none(), "the earlier stream has ended");
        new.drained();
        assert!(matches!(new.next().await, Some(Message::Drained(_))));
        boxes.close();
        assert!(new.next().await.is_none());
    }
}
