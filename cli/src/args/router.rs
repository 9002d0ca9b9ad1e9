//! `router`: one process of the control plane. Every setting is a flag, an environment variable and a
//! key of the settings file.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args as ClapArgs;

use super::parse_duration;
use super::security::TlsArgs;
use super::settings::SettingsFile;

/// `router`.
#[derive(Debug, Clone, ClapArgs)]
pub struct RouterArgs {
    /// Settings file.
    #[command(flatten)]
    pub file: SettingsFile,
    /// Id of this router, from 1. Never given to a second data directory: a router that lost its disk gets another one.
    #[arg(long, env = "RAFT_NODE_ID", value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub node_id: u64,
    /// The first routers of the cluster, this one among them: `1=host:port,2=host:port,3=host:port`. Empty for a router
    /// that is added to a cluster with `cluster add`.
    #[arg(long, env = "RAFT_PEERS", value_name = "ID=ADDR", value_delimiter = ',', value_parser = parse_peer)]
    pub peers: Vec<(u64, String)>,
    /// Name of the cluster: routers of different ones refuse each other.
    #[arg(long, env = "CLUSTER_NAME", value_name = "NAME", default_value = "conveyor")]
    pub cluster_name: String,
    /// Address to listen at.
    #[arg(long, env = "BIND_ADDRESS", value_name = "IP", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    pub bind: IpAddr,
    /// Port of the gRPC service, to which routers and sidecars come.
    #[arg(long, env = "GRPC_PORT", value_name = "PORT", default_value_t = 7070)]
    pub grpc_port: u16,
    /// Port of the REST API, the metrics and the health checks.
    #[arg(long, env = "HTTP_PORT", value_name = "PORT", default_value_t = 8080)]
    pub http_port: u16,
    /// `host:port` at which others reach the gRPC service; that of this id in `--peers` by default, or else what it listens
    /// at.
    #[arg(long, env = "ADVERTISE_ADDRESS", value_name = "ADDR")]
    pub advertise: Option<String>,
    /// Directory of this router's log.
    #[arg(long, env = "DATA_DIR", value_name = "DIR", default_value = ".conveyor-router")]
    pub data_dir: PathBuf,
    /// Object store of plans, manifests and state, the same for all processes of the cluster: a directory or `s3://`,
    /// `gs://`, `az://`.
    #[arg(long, env = "CONVEYOR_STORE", value_name = "URL")]
    pub store: String,
    /// Certificates.
    #[command(flatten)]
    pub tls: TlsArgs,
    /// File of the tokens that people and tools show.
    #[arg(long, env = "TOKENS_FILE", value_name = "FILE")]
    pub tokens: Option<PathBuf>,
    /// Allows addresses that are not loopback, without TLS and tokens.
    #[arg(long, env = "INSECURE")]
    pub insecure: bool,
    /// Time between two heartbeats of a sidecar.
    #[arg(long, env = "SIDECAR_HEARTBEAT", value_name = "DURATION", default_value = "500ms", value_parser = parse_duration)]
    pub heartbeat: Duration,
    /// A sidecar that is silent for this long is gone, and what it ran begins anew elsewhere.
    #[arg(long, env = "SIDECAR_LEASE", value_name = "DURATION", default_value = "3s", value_parser = parse_duration)]
    pub lease: Duration,
    /// An epoch that takes longer is given up; its rows go into the next one. Ten checkpoint intervals of the pipeline by
    /// default, a minute at least.
    #[arg(long, env = "EPOCH_TIMEOUT", value_name = "DURATION", value_parser = parse_duration)]
    pub epoch_timeout: Option<Duration>,
    /// Subtasks of a node where no manifest says how many.
    #[arg(long, env = "PARALLELISM", value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub parallelism: u32,
}

/// `1=host:port`.
fn parse_peer(text: &str) -> Result<(u64, String), String> {
    let malformed = || format!("`{text}` is no router; write ID=host:port");
    let (id, address) = text.split_once('=').ok_or_else(malformed)?;
    let id: u64 = id.trim().parse().map_err(|_| malformed())?;
    let address = address.trim();
    let port = address.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)));
    match port {
        Some((host, _)) if !host.is_empty() && id > 0 => Ok((id, address.to_owned())),
        _ => Err(malformed()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_have_an_id_and_an_address() {
        assert_eq!(parse_peer("1=127.0.0.1:7070"), Ok((1, "127.0.0.1:7070".into())));
        assert_eq!(parse_peer(" 2 = [::1]:7070"), Ok((2, "[::1]:7070".into())));
        for wrong in ["", "1", "1=", "x=a:1", "0=a:1", "1=a", "1=a:x", "1=:80"] {
            assert!(parse_peer(wrong).is_err(), "{wrong}");
        }
    }
}
