//! The seam to the network: encoded requests go out, encoded answers come back. Who carries them is not this crate's affair.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use conveyor_model::{Error, Kind, Result};
use conveyor_proto::v1::raft_request::Body as Request;
use conveyor_proto::v1::raft_response::Body as Response;
use conveyor_proto::{decode, encode, unknown, v1};
use openraft::SnapshotSegmentId;
use openraft::error::{
    InstallSnapshotError, RPCError, RaftError, RemoteError, SnapshotMismatch, Unreachable,
};
use openraft::network::{Backoff, RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse,
    VoteRequest, VoteResponse,
};

use super::identity::Identity;
use super::silence::Silence;
use super::types::{Peer, Types};
use super::wire;

/// A node as its peers reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its id, never given twice.
    pub id: u64,
    /// Its address, in the words of the [`Transport`].
    pub address: String,
}

/// What a request asks for, so that a transport can give each its own route, limit and priority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rpc {
    /// Who are you?
    Hello,
    /// Entries and heartbeats from the leader: nothing may wait in front of them for long.
    Append,
    /// A vote in an election.
    Vote,
    /// A piece of a snapshot, up to 1 MiB.
    Snapshot,
    /// Commands on their way to the leader.
    Propose,
    /// Asks the leader how far a reader must have applied.
    ReadIndex,
}

/// Carries requests to other nodes: gRPC between routers, a table of channels in tests.
///
/// A transport may lose, delay, repeat and reorder: the protocol stands it. It must not change bytes.
#[async_trait]
pub trait Transport: Send + Sync + 'static {
    /// Hands `request` to [`ReplicatedLog::serve`](super::ReplicatedLog::serve) of the node `to` and returns its answer.
    /// The future may be dropped at any time.
    ///
    /// # Errors
    /// When there is no answer. The request may have been carried out.
    async fn call(&self, to: &Member, rpc: Rpc, request: Vec<u8>) -> Result<Vec<u8>>;
}

/// This node's end of all connections.
pub(crate) struct Link {
    pub(crate) identity: Identity,
    pub(crate) transport: Arc<dyn Transport>,
    /// Pause before an unreachable node is tried again.
    pub(crate) retry_after: Duration,
    /// When a leader without a majority says nothing.
    pub(crate) silence: Silence,
}

impl Link {
    /// Asks a node; `peer.disk` may be empty where it is not known.
    ///
    /// # Errors
    /// When there is no answer, or one that cannot be read. A [`v1::Failure`] is an answer.
    pub(crate) async fn ask(&self, to: u64, peer: &Peer, rpc: Rpc, body: Request) -> Result<Response> {
        let request = v1::RaftRequest {
            cluster: self.identity.cluster.clone(),
            from: self.identity.node,
            from_disk: self.identity.disk.clone(),
            to,
            to_disk: peer.disk.clone(),
            body: Some(body),
        };
        let member = Member { id: to, address: peer.address.clone() };
        let answer = self.transport.call(&member, rpc, encode(&request)).await?;
        let answer: v1::RaftResponse = decode("answer", &answer)?;
        answer.body.ok_or_else(|| unknown("answer", "is of an unknown kind"))
    }
}

/// The error of a node that answered that it will not.
pub(crate) fn failed(failure: v1::Failure) -> Error {
    use v1::FailureKind as F;
    let (kind, code) = match failure.kind() {
        F::NotLeader => (Kind::Unavailable, "not-leader"),
        F::Refused => (Kind::Fenced, "node-refused"),
        F::Unreadable => (Kind::Corrupt, "proto-unknown"),
        _ => (Kind::Unavailable, "log-unanswered"),
    };
    let error = Error::new(kind, code, failure.message);
    match failure.leader {
        Some(leader) => error.help(format!("ask the leader: node {} at {}", leader.id, leader.address)),
        None => error,
    }
}

/// An answer of another kind than the question.
pub(crate) fn astray() -> Error {
    unknown("answer", "is not one to what was asked")
}

/// Makes clients for openraft.
pub(crate) struct Clients(pub(crate) Arc<Link>);

impl RaftNetworkFactory<Types> for Clients {
    type Network = Client;

    async fn new_client(&mut self, target: u64, node: &Peer) -> Client {
        Client { link: self.0.clone(), target, peer: node.clone() }
    }
}

/// Sends openraft's requests to one node.
pub(crate) struct Client {
    link: Arc<Link>,
    target: u64,
    peer: Peer,
}

type RpcResult<T, E = openraft::error::Infallible> = Result<T, RPCError<u64, Peer, RaftError<u64, E>>>;

impl Client {
    async fn ask<T>(
        &self,
        rpc: Rpc,
        body: Request,
        read: impl FnOnce(Response) -> Result<T>,
    ) -> Result<T, Unreachable> {
        if matches!(rpc, Rpc::Append | Rpc::Snapshot) && self.link.silence.holds() {
            let why = "no majority answers this leader: it is silent, so that another one can be elected";
            return Err(Unreachable::new(&Error::new(Kind::Unavailable, "leader-silent", why)));
        }
        let answer = self.link.ask(self.target, &self.peer, rpc, body).await;
        let answer = answer.and_then(|answer| match answer {
            Response::Failure(failure) => Err(failed(failure)),
            answer => read(answer),
        });
        answer.map_err(|cause| {
            tracing::debug!(node = self.target, ?rpc, %cause, "no answer");
            Unreachable::new(&cause)
        })
    }
}

impl RaftNetwork<Types> for Client {
    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Types>,
        _option: RPCOption,
    ) -> RpcResult<AppendEntriesResponse<u64>> {
        let body = Request::Append(wire::append_to_wire(&rpc));
        let read = |answer| match answer {
            Response::Append(reply) => wire::append_reply_from_wire(reply),
            _ => Err(astray()),
        };
        Ok(self.ask(Rpc::Append, body, read).await?)
    }

    async fn install_snapshot(
        &mut self,
        rpc: InstallSnapshotRequest<Types>,
        _option: RPCOption,
    ) -> RpcResult<InstallSnapshotResponse<u64>, InstallSnapshotError> {
        let piece = SnapshotSegmentId { id: rpc.meta.snapshot_id.clone(), offset: rpc.offset };
        let body = Request::Snapshot(wire::snapshot_to_wire(rpc));
        let read = |answer| match answer {
            Response::Snapshot(reply) => {
                // Without a vote the pieces came out of order.
                reply.vote.map(|vote| wire::vote_from_wire(Some(vote))).transpose()
            }
            _ => Err(astray()),
        };
        match self.ask(Rpc::Snapshot, body, read).await? {
            Some(vote) => Ok(InstallSnapshotResponse { vote }),
            None => {
                let expect = SnapshotSegmentId { id: piece.id.clone(), offset: 0 };
                let mismatch = SnapshotMismatch { expect, got: piece };
                let source = RaftError::APIError(InstallSnapshotError::SnapshotMismatch(mismatch));
                Err(RPCError::RemoteError(RemoteError::new(self.target, source)))
            }
        }
    }

    async fn vote(&mut self, rpc: VoteRequest<u64>, _option: RPCOption) -> RpcResult<VoteResponse<u64>> {
        let body = Request::Vote(wire::vote_request_to_wire(&rpc));
        let read = |answer| match answer {
            Response::Vote(reply) => wire::vote_reply_from_wire(reply),
            _ => Err(astray()),
        };
        Ok(self.ask(Rpc::Vote, body, read).await?)
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(std::iter::repeat(self.link.retry_after))
    }
}
