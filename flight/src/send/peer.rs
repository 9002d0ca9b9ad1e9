//! Other processes that this one sends to: a connection for data, and one for the credits that come back.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use conveyor_model::{Error, Incarnation, PipelineId, Result};
use conveyor_proto::v1;
use futures::FutureExt;
use futures::future::{BoxFuture, Shared as SharedFuture};
use parking_lot::Mutex;
use prost::Message;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tonic::transport::Channel;

use super::body::Held;
use super::call::exchange;
use super::state::Shared;
use crate::error::{Failure, chain};
use crate::receive::fenced;
use crate::settings::{Components, Lane, Settings};
use crate::{message, wire};

type Outlets = Arc<Mutex<HashMap<u64, Weak<Shared>>>>;
type Dialing = SharedFuture<BoxFuture<'static, Result<Channel, Arc<Error>>>>;

/// All of them, by address.
pub(crate) struct Peers {
    components: Components,
    settings: Arc<Settings>,
    tasks: TaskTracker,
    stop: CancellationToken,
    peers: Mutex<HashMap<String, Weak<Peer>>>,
}

impl Peers {
    pub(crate) fn new(
        components: Components,
        settings: Arc<Settings>,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        Self { components, settings, tasks, stop, peers: Mutex::default() }
    }

    /// The process that listens at `address`.
    pub(crate) fn get(&self, address: &str) -> Arc<Peer> {
        let mut peers = self.peers.lock();
        peers.retain(|_, peer| peer.strong_count() > 0);
        if let Some(peer) = peers.get(address).and_then(Weak::upgrade) {
            return peer;
        }
        let stop = self.stop.child_token();
        let outlets = Outlets::default();
        let credits = Credits {
            address: address.to_owned(),
            components: self.components.clone(),
            settings: self.settings.clone(),
            outlets: outlets.clone(),
        };
        self.tasks.spawn(stop.clone().run_until_cancelled_owned(credits.run()));
        let peer = Arc::new(Peer {
            address: address.to_owned(),
            components: self.components.clone(),
            outlets,
            dialing: Mutex::new((0, None)),
            _stop: stop.drop_guard(),
        });
        peers.insert(address.to_owned(), Arc::downgrade(&peer));
        peer
    }

    /// Ends the channels of a pipeline's incarnations before `newest`.
    pub(crate) fn fence(&self, pipeline: &PipelineId, newest: Incarnation) {
        let peers: Vec<Arc<Peer>> = self.peers.lock().values().filter_map(Weak::upgrade).collect();
        for shared in peers.iter().flat_map(|peer| live(&peer.outlets)) {
            let id = &shared.spec.id;
            if id.pipeline == *pipeline && id.incarnation < newest {
                shared.fail(fenced(id.incarnation, newest));
            }
        }
    }
}

fn live(outlets: &Outlets) -> Vec<Arc<Shared>> {
    outlets.lock().values().filter_map(Weak::upgrade).collect()
}

/// One other process. Its connections are closed when its last channel is gone.
pub(crate) struct Peer {
    address: String,
    components: Components,
    outlets: Outlets,
    /// How many connections there were before, and the one of the moment.
    dialing: Mutex<(u64, Option<Dialing>)>,
    _stop: DropGuard,
}

impl Peer {
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Credits for this channel are to reach it.
    pub(crate) fn remember(&self, shared: &Arc<Shared>) {
        self.outlets.lock().insert(shared.key, Arc::downgrade(shared));
    }

    pub(crate) fn forget(&self, key: u64) {
        self.outlets.lock().remove(&key);
    }

    /// The connection for data, which all channels share, and its number.
    pub(crate) async fn channel(&self) -> Result<(u64, Channel), Arc<Error>> {
        let (number, dialing) = {
            let (number, dialing) = &mut *self.dialing.lock();
            (*number, dialing.get_or_insert_with(|| self.dial()).clone())
        };
        match dialing.await {
            Ok(channel) => Ok((number, channel)),
            Err(error) => {
                self.broken(number);
                Err(error)
            }
        }
    }

    /// This connection is of no use: the next channel that wants one makes another.
    pub(crate) fn broken(&self, number: u64) {
        let dialing = &mut *self.dialing.lock();
        if dialing.0 == number {
            *dialing = (number + 1, None);
        }
    }

    fn dial(&self) -> Dialing {
        let (dial, address) = (self.components.dial.clone(), self.address.clone());
        async move { dial.dial(&address, Lane::Data).await.map_err(Arc::new) }.boxed().shared()
    }
}

/// The task that receives credits.
struct Credits {
    address: String,
    components: Components,
    settings: Arc<Settings>,
    outlets: Outlets,
}

impl Credits {
    async fn run(self) {
        let now_us = || self.components.clock.monotonic_us();
        let mut alive_us = now_us();
        let mut wait = self.settings.backoff_first;
        loop {
            let opened = self.receive(&mut alive_us).await;
            if opened {
                wait = self.settings.backoff_first;
            }
            if u128::from(now_us().saturating_sub(alive_us)) >= self.settings.gone_after.as_micros() {
                let failure =
                    Failure::Closed(format!("{} sends no credits: it cannot be reached", self.address));
                live(&self.outlets).iter().for_each(|shared| shared.fail(failure.clone()));
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(self.settings.backoff_most);
        }
    }

    /// Receives until the connection breaks; whether there was one.
    async fn receive(&self, alive_us: &mut u64) -> bool {
        let hello = wire::hello(&self.components.boot, v1::edge_hello::Purpose::Credits(v1::Done {}));
        let opening = async {
            let mut channel = self
                .components
                .dial
                .dial(&self.address, Lane::Control)
                .await
                .map_err(|e| tonic::Status::unavailable(chain(&e)))?;
            exchange(&mut channel, Held::new(message::plain(&[], &hello))).await
        };
        let Ok(Ok(mut answers)) = tokio::time::timeout(self.settings.open_timeout, opening).await else {
            return false;
        };
        loop {
            let answer = answers.message().await;
            *alive_us = self.components.clock.monotonic_us();
            let Ok(Some(data)) = answer else { return true };
            let Ok(credits) = v1::EdgeCredits::decode(data.app_metadata) else { return true };
            for credit in credits.credits {
                let shared = self.outlets.lock().get(&credit.key).and_then(Weak::upgrade);
                let Some(shared) = shared else { continue };
                if let Err(failure) = shared.update(|state| state.credit(&credit)) {
                    shared.fail(failure);
                }
            }
        }
    }
}
