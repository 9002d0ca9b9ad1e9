//! This router as a node of the log: its data directory, and how the cluster first comes to be.

use std::sync::Arc;
use std::time::Duration;

use conveyor_model::{Error, Result};
use conveyor_raft::{Identity, Member, ReplicatedLog};
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::transport::GrpcTransport;
use crate::wire::Net;

/// Pause between two tries to make the cluster while its routers are still starting.
const TRY_AGAIN: Duration = Duration::from_millis(200);

/// Opens the log, making its data directory first where there is none.
///
/// # Errors
/// As [`ReplicatedLog::create_dir`] and [`ReplicatedLog::open`]; `node-id-differs` if the directory is another node's.
pub(crate) async fn open(config: &Config, net: Net, disk_name: &str) -> Result<Arc<ReplicatedLog>> {
    let identity =
        Identity { cluster: config.cluster.clone(), node: config.node, disk: disk_name.to_owned() };
    if !ReplicatedLog::has_node(&config.data_dir)? {
        ReplicatedLog::create_dir(&config.data_dir, &identity)?;
    }
    let transport = Arc::new(GrpcTransport::new(net));
    let log = ReplicatedLog::open(&config.data_dir, config.settings.log.clone(), transport).await?;
    let found = log.identity();
    if (found.node, &found.cluster) != (config.node, &config.cluster) {
        let why = format!("the data directory belongs to node {} of cluster {}", found.node, found.cluster);
        log.shutdown().await;
        return Err(Error::bad_input("node-id-differs", why)
            .in_split(config.data_dir.display())
            .help("give the id and the cluster that it was made with, or another directory"));
    }
    Ok(Arc::new(log))
}

/// Makes the cluster of the first routers, once all of them answer. Only the one with the least id does it, so that a
/// router whose directory is new can never make a second cluster beside one that runs.
pub(crate) async fn bootstrap(log: Arc<ReplicatedLog>, peers: Vec<Member>, stop: CancellationToken) {
    let least = peers.iter().map(|m| m.id).min();
    if least != Some(log.identity().node) {
        return;
    }
    loop {
        let fresh = log.status();
        if fresh.last.is_some() || fresh.term > 0 {
            return;
        }
        // A cluster that runs has lost this router's disk: it joins again under a new id, and makes nothing.
        for peer in peers.iter().filter(|p| p.id != log.identity().node) {
            if log.is_initialized(peer).await.unwrap_or(false) {
                tracing::error!(
                    router = peer.id,
                    "the cluster exists, but this router's data directory is new: remove this id from the \
                     cluster and add it again with another one"
                );
                return;
            }
        }
        match log.bootstrap(&peers).await {
            Ok(()) => {
                tracing::info!(routers = peers.len(), "the cluster is made");
                return;
            }
            Err(error) if error.code() == "cluster-exists" => return,
            Err(error) => tracing::info!(%error, "waiting for all routers, to make the cluster"),
        }
        if stop.run_until_cancelled(tokio::time::sleep(TRY_AGAIN)).await.is_none() {
            return;
        }
    }
}
