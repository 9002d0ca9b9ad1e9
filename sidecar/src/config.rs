//! What a sidecar is told, apart from what it is given.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use conveyor_model::Clock;
use conveyor_model::connector::Registry;
use conveyor_model::secret::Secrets;
use conveyor_net::{Journal, Tls, Tokens};

/// Settings of a sidecar.
#[derive(Debug, Clone)]
pub struct Config {
    /// Its name in the cluster. Another process that takes it replaces this one.
    pub id: String,
    /// Address of the Arrow Flight service: other sidecars and viewers come here.
    pub listen: SocketAddr,
    /// Address of metrics and probes, if they are to be served.
    pub http: Option<SocketAddr>,
    /// `host:port` at which they reach it; the bound address where it is not given.
    pub advertise: Option<String>,
    /// `host:port` of the routers' gRPC services, some or all.
    pub routers: Vec<String>,
    /// Object store of plans, manifests and state: a folder or a URL, the same one for all processes.
    pub store: String,
    /// Labels that placement looks at.
    pub labels: BTreeMap<String, String>,
    /// Memory that its tasks may take together, in bytes; told to the routers.
    pub memory_bytes: u64,
    /// Threads for data tasks.
    pub worker_threads: usize,
    /// Ports beside it that are looked at for services.
    pub discovery_ports: Option<RangeInclusive<u16>>,
    /// Allows an address that is not loopback without TLS and tokens.
    pub insecure: bool,
    /// How long a drain may take before it is given up.
    pub drain_within: Duration,
    /// Settings of the edges to other sidecars.
    pub edges: conveyor_flight::Settings,
}

/// What a sidecar is given.
#[derive(Clone)]
pub struct Components {
    /// Connectors.
    pub registry: Registry,
    /// Secrets, resolved where they are used.
    pub secrets: Arc<dyn Secrets>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Identity towards other processes; plain connections without it.
    pub tls: Option<Arc<Tls>>,
    /// Tokens of people and tools.
    pub tokens: Option<Arc<Tokens>>,
    /// What the process says, for the routers.
    pub journal: Arc<Journal>,
    /// Random text: two processes of one name are told apart by it.
    pub boot: String,
}
