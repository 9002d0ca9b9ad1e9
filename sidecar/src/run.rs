//! The process: binds its port, serves Arrow Flight, and follows the routers until it is told to end.

use std::sync::Arc;

use async_trait::async_trait;
use conveyor_connectors::flight::{FlightSource, Intake};
use conveyor_engine::Compute;
use conveyor_flight::{Dial, FlightExchange, Lane, Public};
use conveyor_model::{Error, Result};
use conveyor_net::{
    Callers, Dialer, Expect, Exposure, Guard, Listener, RELOAD_PERIOD, Reload, Role, Traffic,
    watch as keep_fresh,
};
use conveyor_store::Store;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Server};

use crate::agent::Agent;
use crate::board::Board;
use crate::config::{Components, Config};
use crate::directory::Running;
use crate::discover::keep_looking;
use crate::feed::Feeds;
use crate::filters::SqlFilters;
use crate::guard::GuardLayer;
use crate::http::{Pages, Parts};
use crate::world::World;

/// How a sidecar is told to end.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    /// What runs here moves elsewhere, then the process ends.
    pub drain: CancellationToken,
    /// The process ends at once; what runs here begins anew elsewhere.
    pub stop: CancellationToken,
}

/// Connections to other sidecars.
struct Edges(Dialer);

#[async_trait]
impl Dial for Edges {
    async fn dial(&self, peer: &str, lane: Lane) -> Result<Channel> {
        let traffic = match lane {
            Lane::Data => Traffic::Data,
            Lane::Control => Traffic::Control,
        };
        self.0.connect(peer, Expect::Role(Role::Sidecar), traffic).await
    }
}

/// Runs a sidecar until it is told to end. `ready` is called with its address once it listens.
///
/// Called within a multi-threaded tokio runtime, which does the control work; data tasks run on threads of their own.
///
/// # Errors
/// `BadInput` for settings that cannot be: an address that is taken or too open, an id that its certificate does not have, a store
/// that cannot be opened. `drain-timeout` if the routers did not let it go.
pub async fn run(
    config: Config,
    mut components: Components,
    shutdown: Shutdown,
    ready: impl FnOnce(std::net::SocketAddr),
) -> Result<()> {
    check_identity(&config, &components)?;
    let exposure = Exposure {
        what: "Arrow Flight",
        address: config.listen,
        callers: Callers::Grpc,
        tokens: components.tokens.is_some(),
        insecure: config.insecure,
    };
    let listener = Listener::bind(&exposure, components.tls.clone()).await?;
    let address = listener.local_address()?;
    let endpoint = config.advertise.clone().unwrap_or_else(|| address.to_string());
    let store = Arc::new(Store::open(&config.store)?);
    let dialer = Dialer::new(components.tls.clone());
    let parts = conveyor_flight::Components {
        dial: Arc::new(Edges(dialer.clone())),
        clock: components.clock.clone(),
        boot: components.boot.clone(),
    };
    let exchange = Arc::new(FlightExchange::new(config.edges.clone(), parts));
    let guard = Guard::new(components.tls.is_some(), components.tokens.clone());
    let intake = Arc::new(Intake::default());
    components.registry.sources.insert("flight", Arc::new(FlightSource::new(intake.clone())));
    let directory = Running { dialer: dialer.clone(), routers: config.routers.clone(), store: store.clone() };
    let public = public(&exchange, intake, directory);
    let over = CancellationToken::new();
    let board = Arc::new(Board::default());
    let pages = serve_pages(&config, &components, &guard, &board, &over).await?;
    let guard = GuardLayer(guard);
    let server = config
        .edges
        .server(Server::builder())
        .layer(guard)
        .add_service(exchange.service_with(public))
        .serve_with_incoming_shutdown(listener, over.clone().cancelled_owned());
    let serving = tokio::spawn(server);
    let reloading = tokio::spawn(keep_fresh(reloads(&components), RELOAD_PERIOD, over.clone()));
    ready(address);
    tracing::info!(%address, id = %config.id, "listens");
    let compute = Compute::start(config.worker_threads)?;
    let world = Arc::new(World { config, components, store, exchange: exchange.clone(), board });
    let (found, services) = watch::channel(Vec::new());
    if let Some(ports) = world.config.discovery_ports.clone() {
        tokio::spawn(keep_looking(ports, address, found));
    }
    let mut agent = Agent::new(world, dialer, endpoint, compute, services);
    // Cancel-safe: the process ends after either.
    let ended = tokio::select! {
        ended = agent.run(shutdown.drain, shutdown.stop) => ended,
        served = serving => Err(Error::runtime("server-ended", "the Arrow Flight service ended")
            .because(served.map_or_else(|e| e.to_string(), |s| format!("{s:?}")))),
    };
    over.cancel();
    exchange.close().await;
    reloading.abort();
    if let Some(pages) = pages {
        // It ends soon after `over`; how is of no use to anybody any more.
        drop(pages.await);
    }
    ended
}

/// Serves metrics and probes until `over`, where there is an address for them.
async fn serve_pages(
    config: &Config,
    components: &Components,
    guard: &Guard,
    board: &Arc<Board>,
    over: &CancellationToken,
) -> Result<Option<JoinHandle<()>>> {
    let Some(address) = config.http else { return Ok(None) };
    let exposure = Exposure {
        what: "the sidecar's metrics",
        address,
        callers: Callers::Rest,
        tokens: components.tokens.is_some(),
        insecure: config.insecure,
    };
    let listener = Listener::bind(&exposure, components.tls.clone()).await?;
    let pages = Pages(Arc::new(Parts {
        id: config.id.clone(),
        guard: guard.clone(),
        board: board.clone(),
        clock: components.clock.clone(),
    }));
    let service = tower::service_fn(move |request| pages.clone().answer(request));
    Ok(Some(tokio::spawn(conveyor_net::serve_http(listener, service, over.clone()))))
}

/// What people and tools may do here.
fn public(exchange: &FlightExchange, intake: Arc<Intake>, directory: Running) -> Public {
    Public {
        taps: exchange.taps(),
        filters: Arc::new(SqlFilters),
        ingest: Arc::new(Feeds(intake)),
        directory: Arc::new(directory),
    }
}

fn reloads(components: &Components) -> Vec<Arc<dyn Reload>> {
    let tls = components.tls.clone().map(|tls| tls as Arc<dyn Reload>);
    let tokens = components.tokens.clone().map(|tokens| tokens as Arc<dyn Reload>);
    tls.into_iter().chain(tokens).collect()
}

/// Others know a sidecar by its certificate, so that must have its name.
fn check_identity(config: &Config, components: &Components) -> Result<()> {
    let Some(name) = components.tls.as_ref().and_then(|tls| tls.name()) else { return Ok(()) };
    if name.role() == Role::Sidecar && name.id() == config.id {
        return Ok(());
    }
    let why = format!("the certificate is that of {name}, but this is sidecar {}", config.id);
    Err(Error::bad_input("identity-mismatch", why)
        .help("give the sidecar's own certificate, or the id that its certificate has"))
}
