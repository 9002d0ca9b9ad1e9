//! `sidecar`: one process of the data plane. Every setting is a flag, an environment variable and a
//! key of the settings file.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args as ClapArgs;

use super::parse_duration;
use super::security::TlsArgs;
use super::settings::SettingsFile;

/// `sidecar`.
#[derive(Debug, ClapArgs)]
pub struct SidecarArgs {
    /// Settings file.
    #[command(flatten)]
    pub file: SettingsFile,
    /// Name in the cluster, the one that its certificate has.
    #[arg(long, env = "SIDECAR_ID", value_name = "NAME")]
    pub id: String,
    /// Routers, `host:port`, some or all, separated by commas.
    #[arg(long, env = "CLUSTER_ENDPOINT", value_name = "HOST:PORT", value_delimiter = ',', required = true)]
    pub routers: Vec<String>,
    /// Address to listen at.
    #[arg(long, env = "BIND_ADDRESS", value_name = "IP", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    pub bind: IpAddr,
    /// Port of the Arrow Flight service; 0 takes a free one.
    #[arg(long, env = "GRPC_PORT", value_name = "PORT", default_value_t = 7070)]
    pub grpc_port: u16,
    /// Port of metrics and health checks; without it there are none.
    #[arg(long, env = "HTTP_PORT", value_name = "PORT")]
    pub http_port: Option<u16>,
    /// `host:port` at which other sidecars and viewers reach the Arrow Flight service; what it listens at by default.
    #[arg(long, env = "ADVERTISE_ADDRESS", value_name = "ADDR")]
    pub advertise: Option<String>,
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
    /// Labels that placement looks at, `key=value`, separated by commas.
    #[arg(long = "label", env = "LABELS", value_name = "KEY=VALUE", value_delimiter = ',', value_parser = parse_label)]
    pub labels: Vec<(String, String)>,
    /// Memory that its tasks may take together, in MiB; half of the machine's by default.
    #[arg(long, env = "MEMORY_MIB", value_name = "MIB")]
    pub memory_mib: Option<u64>,
    /// Threads for data tasks; the number of processors by default.
    #[arg(long, env = "WORKER_THREADS", value_name = "N")]
    pub threads: Option<usize>,
    /// Ports on this host that are looked at for services, `first-last`.
    #[arg(long, env = "DISCOVERY_PORTS", value_name = "RANGE", value_parser = parse_ports)]
    pub discovery_ports: Option<RangeInclusive<u16>>,
    /// How long a drain (SIGTERM) may take.
    #[arg(long, env = "DRAIN_WITHIN", default_value = "60s", value_name = "DURATION", value_parser = parse_duration)]
    pub drain_within: Duration,
}

impl SidecarArgs {
    /// Labels by key; the last one of a key counts.
    pub fn labels(&self) -> BTreeMap<String, String> {
        self.labels.iter().cloned().collect()
    }
}

fn parse_label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().to_owned(), value.trim().to_owned())),
        _ => Err(format!("`{text}` is no label; write key=value")),
    }
}

fn parse_ports(text: &str) -> Result<RangeInclusive<u16>, String> {
    let parsed = text.split_once('-').and_then(|(first, last)| {
        Some((first.trim().parse::<u16>().ok()?, last.trim().parse::<u16>().ok()?))
    });
    match parsed {
        Some((first, last)) if 0 < first && first <= last => Ok(first..=last),
        _ => Err(format!("`{text}` is no range of ports; write first-last, as 8000-8100")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_and_ports_are_read() {
        assert_eq!(parse_label("zone = a").unwrap(), ("zone".into(), "a".into()));
        assert!(parse_label("zone").is_err() && parse_label("=a").is_err());
        assert_eq!(parse_ports("8000-8010"), Ok(8000..=8010));
        for bad in ["8000", "9-8", "0-5", "a-b", "1-70000"] {
            assert!(parse_ports(bad).is_err(), "{bad}");
        }
    }
}
