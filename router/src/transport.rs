//! Raft over gRPC: carries the requests of [`ReplicatedLog`] to other routers and serves theirs.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use conveyor_model::{Error, Kind, Result};
use conveyor_net::limits::MAX_CONTROL_MESSAGE;
use conveyor_net::{Expect, Guard, PeerName, Role, Traffic};
use conveyor_proto::v1;
use conveyor_proto::v1::raft_client::RaftClient;
use conveyor_proto::v1::raft_server::Raft;
use conveyor_raft::{Member, ReplicatedLog, Rpc, Transport};
use parking_lot::Mutex;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

use crate::wire::Net;

/// What shares a connection. A snapshot's piece of a mebibyte must not stand in front of a heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Lane {
    /// Heartbeats, entries, votes.
    Agreement,
    /// Snapshots.
    Bulk,
    /// Proposals and reads that a follower passes on.
    Client,
}

impl Lane {
    fn of(rpc: Rpc) -> Self {
        match rpc {
            Rpc::Append | Rpc::Vote | Rpc::Hello => Self::Agreement,
            Rpc::Snapshot => Self::Bulk,
            Rpc::Propose | Rpc::ReadIndex => Self::Client,
        }
    }
}

/// Reaches other routers, with one connection a peer and lane.
pub(crate) struct GrpcTransport {
    net: Net,
    channels: Mutex<BTreeMap<(u64, String, Lane), Channel>>,
}

impl GrpcTransport {
    pub(crate) fn new(net: Net) -> Self {
        Self { net, channels: Mutex::default() }
    }

    fn channel(&self, to: &Member, lane: Lane) -> Result<Channel> {
        let mut channels = self.channels.lock();
        let key = (to.id, to.address.clone(), lane);
        if let Some(known) = channels.get(&key) {
            return Ok(known.clone());
        }
        let expect = Expect::Name(PeerName::new(Role::Router, to.id.to_string())?);
        let made = self.net.dialer.channel(&to.address, expect, Traffic::Control)?;
        channels.insert(key, made.clone());
        Ok(made)
    }
}

#[async_trait]
impl Transport for GrpcTransport {
    async fn call(&self, to: &Member, rpc: Rpc, request: Vec<u8>) -> Result<Vec<u8>> {
        let channel = self.channel(to, Lane::of(rpc))?;
        let mut client = RaftClient::new(channel)
            .max_decoding_message_size(MAX_CONTROL_MESSAGE)
            .max_encoding_message_size(MAX_CONTROL_MESSAGE);
        let call = v1::RaftCall { kind: kind(rpc).into(), request };
        let answer = client.call(call).await.map_err(|status| unreachable(to, &status))?;
        Ok(answer.into_inner().answer)
    }
}

fn kind(rpc: Rpc) -> v1::RpcKind {
    match rpc {
        Rpc::Hello => v1::RpcKind::Hello,
        Rpc::Append => v1::RpcKind::Append,
        Rpc::Vote => v1::RpcKind::Vote,
        Rpc::Snapshot => v1::RpcKind::Snapshot,
        Rpc::Propose => v1::RpcKind::Propose,
        Rpc::ReadIndex => v1::RpcKind::ReadIndex,
    }
}

fn unreachable(to: &Member, status: &Status) -> Error {
    let why = format!("router {} at {} does not answer", to.id, to.address);
    Error::new(Kind::Unavailable, "router-unreachable", why).because(status.message().to_owned())
}

/// The receiving end.
pub(crate) struct RaftService {
    log: Arc<ReplicatedLog>,
    guard: Guard,
}

impl RaftService {
    pub(crate) fn new(log: Arc<ReplicatedLog>, guard: Guard) -> Self {
        Self { log, guard }
    }
}

#[tonic::async_trait]
impl Raft for RaftService {
    async fn call(&self, request: Request<v1::RaftCall>) -> Result<Response<v1::RaftAnswer>, Status> {
        self.guard.peer_of(request.extensions(), &[Role::Router])?;
        let log = self.log.clone();
        let request = request.into_inner().request;
        // On a task of its own: that the caller no longer waits must not stop what has arrived halfway.
        let answer = tokio::spawn(async move { log.serve(&request).await }).await;
        let answer = answer.map_err(|_| Status::internal("the request could not be served"))?;
        Ok(Response::new(v1::RaftAnswer { answer }))
    }
}
