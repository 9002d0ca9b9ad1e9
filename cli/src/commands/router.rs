//! `router`: a process of the control plane, until it is told to end.

use std::net::SocketAddr;
use std::sync::Arc;

use conveyor_engine::SystemClock;
use conveyor_model::{Error, Result};
use conveyor_raft::Member;
use conveyor_router::{Components, Config, Settings};

use crate::args::RouterArgs;
use crate::manifests::Failure;
use crate::signals;

/// Runs until Ctrl-C or SIGTERM.
pub(super) async fn run(args: &RouterArgs) -> Result<(), Failure> {
    let shutdown = signals::shutdown();
    let components = Components {
        registry: conveyor_connectors::registry(),
        clock: Arc::new(SystemClock::new()),
        journal: crate::logging::journal(),
        disk_name: uuid::Uuid::new_v4().simple().to_string(),
    };
    Ok(conveyor_router::run(config(args)?, components, shutdown).await?)
}

fn config(args: &RouterArgs) -> Result<Config> {
    let grpc = SocketAddr::new(args.bind, args.grpc_port);
    let own = args.peers.iter().find(|(id, _)| *id == args.node_id).map(|(_, address)| address.clone());
    if own.is_none() && !args.peers.is_empty() {
        let why = format!("--peers has no router {}", args.node_id);
        return Err(Error::bad_input("peers-without-self", why).help(
            "name this router with its own address too, or leave --peers out to be added to a cluster",
        ));
    }
    let settings = Settings {
        heartbeat: args.heartbeat,
        lease: args.lease,
        epoch: conveyor_router::EpochSettings { epoch_timeout: args.epoch_timeout, ..Default::default() },
        parallelism: args.parallelism,
        log: crate::crash::router_log_settings(),
        ..Settings::default()
    };
    if settings.lease < settings.heartbeat * 2 {
        return Err(Error::bad_input("lease-too-short", "the lease must be at least two heartbeats"));
    }
    Ok(Config {
        grpc,
        http: Some(SocketAddr::new(args.bind, args.http_port)),
        cluster: args.cluster_name.clone(),
        node: args.node_id,
        advertise: args.advertise.clone().or(own).unwrap_or_else(|| grpc.to_string()),
        peers: args.peers.iter().map(|(id, address)| Member { id: *id, address: address.clone() }).collect(),
        data_dir: args.data_dir.clone(),
        store: args.store.clone(),
        tls: args.tls.settings()?,
        tokens: args.tokens.clone(),
        insecure: args.insecure,
        settings,
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::{Args, Command};

    fn config_of(words: &str) -> Result<Config> {
        let args = Args::try_parse_from(words.split(' ')).expect("a command line");
        let Command::Router(args) = args.command else { panic!("another verb") };
        config(&args)
    }

    #[test]
    fn a_router_knows_its_own_address_among_its_peers() {
        let line = "conveyorctl router --node-id 2 --store s --peers 1=a:1,2=b:2,3=c:3 --grpc-port 9";
        let config = config_of(line).expect("right");
        assert_eq!((config.advertise.as_str(), config.peers.len()), ("b:2", 3));
        assert_eq!(config.grpc.to_string(), "127.0.0.1:9");
        let alone = config_of("conveyorctl router --node-id 4 --store s").expect("to be added");
        assert_eq!((alone.advertise.as_str(), alone.peers.len()), ("127.0.0.1:7070", 0));
    }

    #[test]
    fn contradictions_are_refused() {
        let stranger =
            config_of("conveyorctl router --node-id 2 --store s --peers 1=a:1").expect_err("not there");
        assert_eq!(stranger.code(), "peers-without-self");
        let short = config_of("conveyorctl router --node-id 2 --store s --lease 600ms").expect_err("short");
        assert_eq!(short.code(), "lease-too-short");
        let half = "conveyorctl router --node-id 2 --store s --tls-ca ca";
        assert_eq!(config_of(half).expect_err("an authority alone").code(), "tls-incomplete");
    }
}
