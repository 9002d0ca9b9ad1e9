//! What a router is told, apart from what it is given.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use conveyor_model::Clock;
use conveyor_model::connector::Registry;
use conveyor_net::{Journal, TlsSettings};
use conveyor_raft::Member;

/// Settings of a router.
#[derive(Debug, Clone)]
pub struct Config {
    /// Address of the gRPC service: other routers and sidecars come here.
    pub grpc: SocketAddr,
    /// Address of the REST API, if it is to be served.
    pub http: Option<SocketAddr>,
    /// Name of the cluster; routers of different ones refuse each other.
    pub cluster: String,
    /// Id of this router, never given to a second data directory.
    pub node: u64,
    /// `host:port` at which others reach this router's gRPC service.
    pub advertise: String,
    /// The first routers of the cluster, this one among them. Empty for one that is to be added to a cluster that runs.
    pub peers: Vec<Member>,
    /// Folder of the log.
    pub data_dir: PathBuf,
    /// Object store of plans, manifests and state: a folder or a URL, the same one for all processes.
    pub store: String,
    /// Certificates of this process; without them everything is plain, which is allowed on loopback.
    pub tls: Option<TlsSettings>,
    /// File of the tokens that people and tools show.
    pub tokens: Option<PathBuf>,
    /// Allows addresses other than loopback without TLS and tokens.
    pub insecure: bool,
    /// Everything that has a default.
    pub settings: Settings,
}

/// Times and limits.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The log's.
    pub log: conveyor_raft::Settings,
    /// Time between two heartbeats of a sidecar.
    pub heartbeat: Duration,
    /// A sidecar that has not been heard for this long is gone, and what it ran begins anew elsewhere.
    pub lease: Duration,
    /// The same once its connection has broken.
    pub broken_lease: Duration,
    /// How epochs go.
    pub epoch: conveyor_epoch::Settings,
    /// Pause before the second start of a pipeline that has failed; each further one is twice as long.
    pub backoff: Duration,
    /// Longest such pause.
    pub backoff_max: Duration,
    /// Subtasks of a node where no manifest says how many.
    pub parallelism: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            log: conveyor_raft::Settings::default(),
            heartbeat: Duration::from_millis(500),
            lease: Duration::from_secs(3),
            broken_lease: Duration::from_secs(1),
            epoch: conveyor_epoch::Settings::default(),
            backoff: Duration::from_millis(500),
            backoff_max: Duration::from_secs(30),
            parallelism: 1,
        }
    }
}

/// What a router is given.
#[derive(Clone)]
pub struct Components {
    /// Connectors, for checking and compiling manifests.
    pub registry: Registry,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// What the process says, for people who ask.
    pub journal: Arc<Journal>,
    /// Random text for the name of a new data directory.
    pub disk_name: String,
}
