//! Channels to and from other processes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow_schema::SchemaRef;
use async_trait::async_trait;
use conveyor_model::edge::{ChannelSpec, Exchange, Inlet, Outlet, Watchers};
use conveyor_model::{Error, Incarnation, PipelineId, Result};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::public::{Public, Taps};
use crate::receive::{FlightInlet, Registry};
use crate::send::{Driver, FlightOutlet, Peers, Shared};
use crate::service::FlightServer;
use crate::settings::{Components, Settings};

/// Makes the two ends of channels between processes. One a process.
pub struct FlightExchange {
    components: Components,
    settings: Arc<Settings>,
    registry: Arc<Registry>,
    peers: Peers,
    keys: AtomicU64,
    taps: Arc<Taps>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl FlightExchange {
    /// An exchange without channels. It needs a Tokio runtime once it gets one.
    pub fn new(settings: Settings, components: Components) -> Self {
        let settings = Arc::new(settings);
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let peers = Peers::new(components.clone(), settings.clone(), tasks.clone(), stop.clone());
        let registry = Arc::new(Registry::default());
        Self {
            components,
            settings,
            registry,
            peers,
            keys: AtomicU64::new(1),
            taps: Taps::new(),
            tasks,
            stop,
        }
    }

    /// The service by which other processes reach the inlets of this one. It belongs on a server with [`Settings::server`],
    /// behind whatever decides who may call: `DoExchange` is for processes of the cluster alone.
    pub fn service(&self) -> FlightServer {
        FlightServer::new(self.registry.clone(), self.settings.clone(), None)
    }

    /// The service of [`Self::service`], which offers clients what is `public`, too.
    pub fn service_with(&self, public: Public) -> FlightServer {
        FlightServer::new(self.registry.clone(), self.settings.clone(), Some(public))
    }

    /// The edges that start here and can be watched.
    pub fn taps(&self) -> Arc<Taps> {
        self.taps.clone()
    }

    /// Ends all channels of `pipeline` of incarnations before `newest`, and refuses them from now on.
    pub fn fence(&self, pipeline: &PipelineId, newest: Incarnation) {
        // That a newer one is known already is as good.
        if self.registry.raise(pipeline, newest).is_ok() {
            self.peers.fence(pipeline, newest);
        }
    }

    /// Ends all channels and waits for the tasks behind them.
    pub async fn close(&self) {
        self.registry.close();
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for FlightExchange {
    fn drop(&mut self) {
        self.registry.close();
        self.stop.cancel();
    }
}

#[async_trait]
impl Exchange for FlightExchange {
    async fn outlet(&self, channel: ChannelSpec, peer: &str) -> Result<Box<dyn Outlet>> {
        check_address(peer)?;
        let (pipeline, incarnation) = (channel.id.pipeline.clone(), channel.id.incarnation);
        self.registry.raise(&pipeline, incarnation).map_err(|f| f.to_error(&channel.id))?;
        self.peers.fence(&pipeline, incarnation);
        let key = self.keys.fetch_add(1, Ordering::Relaxed);
        let shared = Arc::new(Shared::new(channel, key, self.components.clock.clone()));
        let peer = self.peers.get(peer);
        peer.remember(&shared);
        let driver = Driver {
            shared: shared.clone(),
            peer,
            settings: self.settings.clone(),
            boot: self.components.boot.clone(),
        };
        self.tasks.spawn(driver.run(self.stop.child_token()));
        Ok(Box::new(FlightOutlet::new(shared)))
    }

    async fn inlet(&self, channel: ChannelSpec) -> Result<Box<dyn Inlet>> {
        let id = channel.id.clone();
        let clock = self.components.clock.clone();
        let channel = self.registry.add(channel, clock.clone()).map_err(|f| f.to_error(&id))?;
        self.peers.fence(&id.pipeline, id.incarnation);
        let gone_after = self.settings.gone_after;
        Ok(Box::new(FlightInlet::new(channel, self.registry.clone(), clock, gone_after)))
    }

    fn watchers(&self, pipeline: &PipelineId, edge: &str, schema: &SchemaRef) -> Option<Arc<dyn Watchers>> {
        Some(self.taps.edge(pipeline, edge, schema))
    }
}

fn check_address(peer: &str) -> Result<()> {
    let parts = peer.rsplit_once(':').filter(|(host, _)| !host.is_empty());
    match parts.and_then(|(_, port)| port.parse::<u16>().ok()) {
        Some(port) if port > 0 => Ok(()),
        _ => Err(Error::bad_input("edge-address", format!("`{peer}` is no address of a process"))
            .help("write host:port")),
    }
}
