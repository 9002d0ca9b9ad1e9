//! All channels that this process receives, and which incarnations are over.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Weak};

use conveyor_model::edge::{ChannelId, ChannelSpec};
use conveyor_model::{Clock, Incarnation, PipelineId};
use parking_lot::Mutex;
use tonic::Status;

use super::channel::Channel;
use super::session::Session;
use crate::error::{Failure, not_yet};

/// See the module.
#[derive(Default)]
pub(crate) struct Registry {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    channels: HashMap<ChannelId, Arc<Channel>>,
    /// Channels of the newest incarnations whose inlets are gone.
    gone: HashSet<ChannelId>,
    /// The newest incarnation that is known of each pipeline: older ones are over.
    floors: HashMap<PipelineId, Incarnation>,
    sessions: HashMap<String, Weak<Session>>,
}

impl Registry {
    /// Takes note of an incarnation; channels of older ones are over.
    ///
    /// # Errors
    /// `Fenced` if there is a newer one.
    pub(crate) fn raise(&self, pipeline: &PipelineId, to: Incarnation) -> Result<(), Failure> {
        let old: Vec<Arc<Channel>> = {
            let mut inner = self.inner.lock();
            let floor = inner.floors.entry(pipeline.clone()).or_default();
            if *floor > to {
                return Err(fenced(to, *floor));
            }
            if *floor == to {
                return Ok(());
            }
            *floor = to;
            let is_old = |id: &ChannelId| id.pipeline == *pipeline && id.incarnation < to;
            inner.gone.retain(|id| !is_old(id));
            inner.channels.extract_if(|id, _| is_old(id)).map(|(_, channel)| channel).collect()
        };
        old.iter().for_each(|channel| channel.fail(fenced(channel.spec.id.incarnation, to)));
        Ok(())
    }

    /// Makes a channel of this process.
    ///
    /// # Errors
    /// `Fenced` if it is there already, or one of a newer incarnation.
    pub(crate) fn add(&self, spec: ChannelSpec, clock: Arc<dyn Clock>) -> Result<Arc<Channel>, Failure> {
        self.raise(&spec.id.pipeline, spec.id.incarnation)?;
        let id = spec.id.clone();
        let channel = Arc::new(Channel::new(spec, clock));
        let mut inner = self.inner.lock();
        // A newer incarnation may have come between the two steps.
        if let Some(&floor) = inner.floors.get(&id.pipeline).filter(|floor| **floor > id.incarnation) {
            return Err(fenced(id.incarnation, floor));
        }
        if inner.channels.contains_key(&id) {
            return Err(Failure::Fenced("this process has the channel already".into()));
        }
        inner.gone.remove(&id);
        inner.channels.insert(id, channel.clone());
        Ok(channel)
    }

    /// The inlet of this channel is gone.
    pub(crate) fn remove(&self, channel: &Arc<Channel>) {
        let mut inner = self.inner.lock();
        if inner.channels.get(&channel.spec.id).is_some_and(|c| Arc::ptr_eq(c, channel)) {
            inner.channels.remove(&channel.spec.id);
            inner.gone.insert(channel.spec.id.clone());
        }
    }

    /// The channel that a sender opens.
    ///
    /// # Errors
    /// That it is over, or not there yet.
    pub(crate) fn find(&self, id: &ChannelId) -> Result<Arc<Channel>, Status> {
        let inner = self.inner.lock();
        if let Some(&floor) = inner.floors.get(&id.pipeline).filter(|floor| **floor > id.incarnation) {
            return Err(fenced(id.incarnation, floor).to_status());
        }
        if inner.gone.contains(id) {
            return Err(gone().to_status());
        }
        inner.channels.get(id).cloned().ok_or_else(not_yet)
    }

    /// The sending process `boot`.
    pub(crate) fn session(&self, boot: &str) -> Arc<Session> {
        let mut inner = self.inner.lock();
        if let Some(session) = inner.sessions.get(boot).and_then(Weak::upgrade) {
            return session;
        }
        inner.sessions.retain(|_, session| session.strong_count() > 0);
        let session = Arc::new(Session::default());
        inner.sessions.insert(boot.to_owned(), Arc::downgrade(&session));
        session
    }

    /// Ends all channels.
    pub(crate) fn close(&self) {
        let all: Vec<Arc<Channel>> = self.inner.lock().channels.drain().map(|(_, c)| c).collect();
        all.iter().for_each(|channel| channel.fail(Failure::Closed("the receiving process stops".into())));
    }
}

/// What a sender hears when the inlet was dropped.
pub(super) fn gone() -> Failure {
    Failure::Closed("the receiving task is gone".into())
}

pub(crate) fn fenced(old: Incarnation, new: Incarnation) -> Failure {
    Failure::Fenced(format!("incarnation {old} is over: incarnation {new} is known here"))
}
