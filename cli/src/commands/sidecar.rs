//! `sidecar`: the data plane's process.

use std::net::SocketAddr;
use std::sync::Arc;

use conveyor_connectors::EnvSecrets;
use conveyor_engine::SystemClock;
use conveyor_net::{Tls, Tokens};
use conveyor_sidecar::{Components, Config, Shutdown};

use crate::args::SidecarArgs;
use crate::manifests::Failure;
use crate::process;

/// Runs a sidecar until SIGTERM has drained it.
pub(super) async fn run(args: &SidecarArgs) -> Result<(), Failure> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let config = Config {
        id: args.id.clone(),
        listen: SocketAddr::new(args.bind, args.grpc_port),
        http: args.http_port.map(|port| SocketAddr::new(args.bind, port)),
        advertise: args.advertise.clone(),
        routers: args.routers.clone(),
        store: args.store.clone(),
        labels: args.labels(),
        memory_bytes: args.memory_mib.map_or(process::machine_memory() / 2, |mib| mib << 20),
        worker_threads: args.threads.unwrap_or(threads).max(1),
        discovery_ports: args.discovery_ports.clone(),
        insecure: args.insecure,
        drain_within: args.drain_within,
        edges: conveyor_sidecar::EdgeSettings::default(),
    };
    let components = Components {
        registry: conveyor_connectors::registry(),
        secrets: Arc::new(EnvSecrets),
        clock: Arc::new(SystemClock::new()),
        journal: crate::logging::journal(),
        tls: args.tls.settings()?.map(|tls| Tls::load(&tls).map(Arc::new)).transpose()?,
        tokens: args.tokens.clone().map(|path| Tokens::load(path).map(Arc::new)).transpose()?,
        boot: uuid::Uuid::new_v4().simple().to_string(),
    };
    let (drain, stop) = process::drain_then_stop()?;
    let shutdown = Shutdown { drain, stop };
    let id = config.id.clone();
    conveyor_sidecar::run(config, components, shutdown, |address| {
        eprintln!("sidecar {id} listens at {address}");
    })
    .await?;
    Ok(())
}
