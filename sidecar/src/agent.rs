//! The agent: holds on to the router that leads, does what it says, and tells it what happens here.

mod session;

use std::sync::Arc;
use std::time::Duration;

use conveyor_engine::Compute;
use conveyor_model::{Error, Kind, Result};
use conveyor_net::{Dialer, Expect, Role, Traffic};
use conveyor_proto::v1;
use conveyor_proto::v1::control_client::ControlClient;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use crate::members::{Members, News};
use crate::world::World;
use session::Session;

/// Pause before routers are asked again.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// Longest such pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Metadata in which a router that does not lead names the one that does.
const LEADER: &str = "conveyor-leader";

/// How a session ended.
pub(crate) enum Over {
    /// The router says that the process may go.
    Drained,
    /// The connection is gone, or the router is not to be listened to.
    Lost(Error),
}

/// The agent of this process.
pub(crate) struct Agent {
    world: Arc<World>,
    dialer: Dialer,
    /// `host:port` at which others reach this process.
    endpoint: String,
    members: Members,
    news: mpsc::UnboundedReceiver<News>,
    /// The highest term heard.
    term: u64,
    /// What was found beside this process.
    services: watch::Receiver<Vec<v1::FoundService>>,
}

impl Agent {
    pub(crate) fn new(
        world: Arc<World>,
        dialer: Dialer,
        endpoint: String,
        compute: Compute,
        services: watch::Receiver<Vec<v1::FoundService>>,
    ) -> Self {
        let (members, news) = Members::new(world.clone(), compute);
        Self { world, dialer, endpoint, members, news, term: 0, services }
    }

    /// Serves the routers until the process may go, or `stop`.
    ///
    /// # Errors
    /// `drain-timeout` if the routers did not let the process go in time.
    pub(crate) async fn run(&mut self, drain: CancellationToken, stop: CancellationToken) -> Result<()> {
        let within = self.world.config.drain_within;
        let late = async {
            drain.cancelled().await;
            tokio::time::sleep(within).await;
        };
        // Every branch is cancel-safe in the only way that matters here: the process ends after any of them.
        let ended = tokio::select! {
            () = self.serve(&drain) => Ok(()),
            () = stop.cancelled() => Ok(()),
            () = late => Err(Error::new(Kind::Unavailable, "drain-timeout", "the routers did not let this sidecar go in time")
                .help("what ran here begins anew elsewhere; look at `conveyorctl cluster status`")),
        };
        self.members.stop_all().await;
        ended
    }

    /// Session after session.
    async fn serve(&mut self, drain: &CancellationToken) {
        let mut pause = FIRST_PAUSE;
        let mut leader = None;
        loop {
            match self.attach(leader.take()).await {
                Ok(session) => {
                    pause = FIRST_PAUSE;
                    self.world.board.attach(true);
                    let over = self.hold(session, drain).await;
                    self.world.board.attach(false);
                    match over {
                        Over::Drained => return,
                        Over::Lost(error) => {
                            tracing::warn!(%error, "lost the router; looking for the one that leads")
                        }
                    }
                }
                Err(Refused { error, leader: named }) => {
                    tracing::debug!(%error, "no router takes this sidecar yet");
                    leader = named;
                    if leader.is_none() {
                        self.rest(pause).await;
                        pause = (pause * 2).min(LONGEST_PAUSE);
                    } else {
                        self.rest(FIRST_PAUSE).await;
                    }
                }
            }
        }
    }

    /// Waits, and goes on taking note of what members say meanwhile.
    async fn rest(&mut self, pause: Duration) {
        let until = tokio::time::Instant::now() + pause;
        loop {
            // Both are cancel-safe: the queue keeps what is not taken.
            tokio::select! {
                news = self.news.recv() => if let Some(news) = news { self.note(&news); },
                () = tokio::time::sleep_until(until) => return,
            }
        }
    }

    /// Opens a session with the router that leads, `hint` first.
    async fn attach(&mut self, hint: Option<String>) -> Result<Session, Refused> {
        let mut candidates: Vec<String> = hint.into_iter().collect();
        candidates.extend(self.world.config.routers.iter().cloned());
        let mut last = None;
        for address in candidates {
            match self.open(&address).await {
                Ok(session) => {
                    tracing::info!(router = %address, "attached");
                    return Ok(session);
                }
                Err(refused) if refused.leader.as_ref().is_some_and(|l| *l != address) => {
                    return Err(refused);
                }
                Err(refused) => last = Some(refused),
            }
        }
        let none = || Refused {
            error: Error::bad_input("no-routers", "no router is named").help("give CLUSTER_ENDPOINT"),
            leader: None,
        };
        let refused = last.unwrap_or_else(none);
        Err(Refused { leader: None, ..refused })
    }

    async fn open(&self, address: &str) -> Result<Session, Refused> {
        let channel = self.dialer.connect(address, Expect::Role(Role::Router), Traffic::Control).await?;
        let hello = self.hello();
        let sticky = self.members.sticky().cloned().collect();
        Session::open(client(channel), address, hello, sticky).await
    }

    fn hello(&self) -> v1::SidecarHello {
        let World { config, components, .. } = self.world.as_ref();
        let names = |all: Vec<&&'static str>| all.into_iter().map(|name| (*name).to_owned()).collect();
        v1::SidecarHello {
            sidecar: config.id.clone(),
            boot: components.boot.clone(),
            endpoint: self.endpoint.clone(),
            labels: config.labels.clone().into_iter().collect(),
            sources: names(components.registry.sources.keys().collect()),
            sinks: names(components.registry.sinks.keys().collect()),
            lookups: names(components.registry.lookups.keys().collect()),
            memory_bytes: config.memory_bytes,
            cores: u32::try_from(config.worker_threads).unwrap_or(u32::MAX),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            services: self.services.borrow().clone(),
            running: self.members.running(),
            term: self.term,
        }
    }

    /// Takes note of what a member says; the message to pass on, if there is a router to pass it to.
    fn note(&mut self, news: &News) -> Option<v1::sidecar_message::Message> {
        use v1::sidecar_message::Message as M;
        match news {
            News::Report(id, incarnation, report) => {
                self.members.note(id, *incarnation, report).map(M::Report)
            }
            News::Ended(id, incarnation) => self
                .members
                .ended(id, *incarnation)
                .then(|| M::Stopped(v1::Stopped { pipeline: Some(id.into()), incarnation: incarnation.0 })),
        }
    }
}

fn client(channel: Channel) -> ControlClient<Channel> {
    ControlClient::new(channel).max_decoding_message_size(conveyor_net::limits::MAX_CONTROL_MESSAGE)
}

/// Why a router does not take this sidecar.
pub(crate) struct Refused {
    pub(crate) error: Error,
    /// The router that leads, if it was named.
    pub(crate) leader: Option<String>,
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self { error, leader: None }
    }
}

impl From<tonic::Status> for Refused {
    fn from(status: tonic::Status) -> Self {
        let leader = status.metadata().get(LEADER).and_then(|v| v.to_str().ok()).map(str::to_owned);
        let error = Error::new(Kind::Unavailable, "router-refused", "the router does not take this sidecar")
            .because(status.message().to_owned());
        Self { error, leader }
    }
}
