//! The process: opens the log, serves, leads while it may, and stops when told.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use conveyor_model::Result;
use conveyor_net::limits::{self, MAX_CONTROL_MESSAGE};
use conveyor_net::{Callers, Exposure, Listener, Traffic, serve_http};
use conveyor_proto::v1::control_server::ControlServer;
use conveyor_proto::v1::forward_server::ForwardServer;
use conveyor_proto::v1::raft_server::RaftServer;
use conveyor_raft::ReplicatedLog;
use conveyor_store::Store;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::{Components, Config};
use crate::control::ask::{Asker, ForwardService};
use crate::control::{Control, Parts};
use crate::controller::World;
use crate::hub::Hub;
use crate::sidecars::service::ControlService;
use crate::transport::RaftService;
use crate::wire::Net;
use crate::{lead, node};

/// Time that open connections have to end by themselves when the router stops.
const LET_GO: Duration = Duration::from_millis(500);

/// A router that runs.
pub struct Router {
    log: Arc<ReplicatedLog>,
    hub: Arc<Hub>,
    control: Control,
    tasks: TaskTracker,
    stop: CancellationToken,
    address: SocketAddr,
    http: Option<SocketAddr>,
}

/// Runs a router until `shutdown` is cancelled.
///
/// # Errors
/// If its data directory, the store or an address cannot be used, or the log's node stops.
pub async fn run(config: Config, components: Components, shutdown: CancellationToken) -> Result<()> {
    let router = Router::start(config, components).await?;
    let ended = router.stop.clone();
    // Both are cancel-safe.
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = ended.cancelled() => {}
    }
    router.shutdown().await
}

impl Router {
    /// Starts one.
    ///
    /// # Errors
    /// As [`run`].
    pub async fn start(config: Config, components: Components) -> Result<Self> {
        let net = Net::load(&config)?;
        let exposure = Exposure {
            what: "the router's gRPC service",
            address: config.grpc,
            callers: Callers::Peers,
            tokens: config.tokens.is_some(),
            insecure: config.insecure,
        };
        let listener = Listener::bind(&exposure, net.tls.clone()).await?;
        let address = listener.local_address()?;
        let store = Arc::new(Store::open(&config.store)?);
        let log = node::open(&config, net.clone(), &components.disk_name).await?;
        let hub = Arc::new(Hub::new(log.clone(), components.journal.clone()));
        let asker = Arc::new(Asker::new(hub.clone(), net.clone()));
        let control = Control::new(Parts {
            asker: asker.clone(),
            store: store.clone(),
            location: config.store.clone(),
            registry: components.registry,
            clock: components.clock.clone(),
            parallelism: config.settings.parallelism,
        });
        let rest = match config.http {
            Some(http) => Some(listen_for_rest(&config, http, &net).await?),
            None => None,
        };
        let http = rest.as_ref().map(Listener::local_address).transpose()?;
        let world = World {
            log: log.clone(),
            store,
            clock: components.clock.clone(),
            settings: config.settings.clone(),
            logs: hub.logs.clone(),
        };
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        tasks.spawn(serve(net.clone(), listener, log.clone(), asker, stop.clone()));
        if let Some(listener) = rest {
            let routes = crate::rest::router(control.clone(), net.guard.clone());
            tasks.spawn(serve_http(listener, routes, stop.clone()));
        }
        tasks.spawn(net.watch(stop.clone()));
        tasks.spawn(node::bootstrap(log.clone(), config.peers.clone(), stop.clone()));
        let (ended, follow) = (stop.clone(), lead::follow(world, hub.clone(), stop.clone()));
        tasks.spawn(async move {
            if let Err(error) = follow.await {
                tracing::error!(%error, "the router's log has stopped");
            }
            ended.cancel();
        });
        tracing::info!(node = config.node, %address, ?http, "the router serves");
        Ok(Self { log, hub, control, tasks, stop, address, http })
    }

    /// Where it serves gRPC.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it serves REST, if it does.
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.http
    }

    /// What can be done with the cluster through it.
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// Whether it leads and serves sidecars.
    pub fn leads(&self) -> bool {
        self.hub.leading().is_some()
    }

    /// Its node of the log.
    pub fn log(&self) -> &Arc<ReplicatedLog> {
        &self.log
    }

    /// Ends everything and gives the data directory back.
    ///
    /// # Errors
    /// None today; what was acknowledged stays in any case.
    pub async fn shutdown(self) -> Result<()> {
        self.stop.cancel();
        self.tasks.close();
        self.log.shutdown().await;
        self.tasks.wait().await;
        Ok(())
    }
}

async fn listen_for_rest(config: &Config, address: SocketAddr, net: &Net) -> Result<Listener> {
    let exposure = Exposure {
        what: "the REST API",
        address,
        callers: Callers::Rest,
        tokens: config.tokens.is_some(),
        insecure: config.insecure,
    };
    Listener::bind(&exposure, net.tls.clone()).await
}

async fn serve(
    net: Net,
    listener: Listener,
    log: Arc<ReplicatedLog>,
    asker: Arc<Asker>,
    stop: CancellationToken,
) {
    let raft = RaftServer::new(RaftService::new(log, net.guard.clone()))
        .max_decoding_message_size(MAX_CONTROL_MESSAGE)
        .max_encoding_message_size(MAX_CONTROL_MESSAGE);
    let control = ControlServer::new(ControlService::new(asker.clone(), net.guard.clone()))
        .max_decoding_message_size(MAX_CONTROL_MESSAGE)
        .max_encoding_message_size(MAX_CONTROL_MESSAGE);
    let forward = ForwardServer::new(ForwardService::new(asker, net.guard))
        .max_decoding_message_size(MAX_CONTROL_MESSAGE)
        .max_encoding_message_size(MAX_CONTROL_MESSAGE);
    let served = limits::server(Traffic::Control)
        .add_service(raft)
        .add_service(control)
        .add_service(forward)
        .serve_with_incoming_shutdown(listener, stop.cancelled());
    let late = async {
        stop.cancelled().await;
        tokio::time::sleep(LET_GO).await;
    };
    // Both are cancel-safe: connections that do not end by themselves are closed with the process's end.
    tokio::select! {
        served = served => if let Err(error) = served {
            tracing::error!(%error, "the gRPC service has ended");
        },
        () = late => {}
    }
    stop.cancel();
}
