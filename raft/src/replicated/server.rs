//! The receiving end of the network seam: who asks is checked first, then openraft or the batcher answers.

use std::time::Duration;

use conveyor_model::{Error, Kind, Result};
use conveyor_proto::v1::raft_request::Body as Request;
use conveyor_proto::v1::raft_response::Body as Response;
use conveyor_proto::{decode, encode, encode_command, v1};
use futures::future::join_all;
use openraft::error::{CheckIsLeaderError, InstallSnapshotError, RaftError};
use parking_lot::Mutex;
use tokio::time::timeout;

use super::batcher::{Batcher, NotDone};
use super::identity::Identity;
use super::machine::MAX_SNAPSHOT;
use super::store::Reader;
use super::types::{Peer, Types, batch_from_wire, node_to_wire};
use super::wal::Reached;
use super::wire;

type ReadError = RaftError<u64, CheckIsLeaderError<u64, Peer>>;

/// Answers requests of other nodes.
pub(crate) struct Server {
    pub(crate) raft: openraft::Raft<Types>,
    pub(crate) identity: Identity,
    pub(crate) batcher: Batcher,
    pub(crate) reader: Reader,
    /// Why this node takes no further part, if it does not.
    pub(crate) halted: Mutex<Option<(Kind, &'static str, String)>>,
}

impl Server {
    /// Answers within `within`, or with a failure.
    pub(crate) async fn serve(&self, request: &[u8], within: Duration) -> Vec<u8> {
        let body = match timeout(within, self.answer(request)).await {
            Ok(Ok(body)) => body,
            Ok(Err(failure)) => Response::Failure(failure),
            Err(_) => Response::Failure(failure(v1::FailureKind::Unknown, "not done in time")),
        };
        encode(&v1::RaftResponse { body: Some(body) })
    }

    /// Why this node takes no further part, if it does not.
    pub(crate) fn check_halted(&self) -> Result<()> {
        match &*self.halted.lock() {
            None => Ok(()),
            Some((kind, code, why)) => Err(Error::new(*kind, code, why.clone())
                .help("make a data directory with a new node id and let it join as a learner, or run a newer version")),
        }
    }

    /// Index below which all must be applied before a read that starts now.
    ///
    /// openraft takes the leader's first entry of its term into account: what was committed before it led is not missed.
    pub(crate) async fn read_next(&self) -> Result<u64, ReadError> {
        let (read, _) = self.raft.get_read_log_id().await?;
        Ok(read.map_or(0, |id| id.index + 1))
    }

    async fn answer(&self, request: &[u8]) -> Result<Response, v1::Failure> {
        let request: v1::RaftRequest = match decode("request", request) {
            Ok(request) => request,
            Err(e) => return Err(self.unreadable(&e).await),
        };
        self.check_sender(&request).await?;
        // Who a node is can be asked also when it takes no part any more.
        let introduces = matches!(request.body, Some(Request::Hello(_)));
        if let (false, Err(halted)) = (introduces, self.check_halted()) {
            return Err(failure(v1::FailureKind::Stopped, halted.to_string()));
        }
        let Some(body) = request.body else {
            return Err(failure(v1::FailureKind::Unreadable, "a request of an unknown kind"));
        };
        match body {
            Request::Hello(v1::Hello {}) => Ok(Response::Hello(v1::Introduction {
                disk: self.identity.disk.clone(),
                initialized: self.reader.reached() != Reached::default(),
            })),
            Request::Append(m) => {
                let rpc = match wire::append_from_wire(m) {
                    Ok(rpc) => rpc,
                    Err(e) => return Err(self.unreadable(&e).await),
                };
                let reply = self.raft.append_entries(rpc).await.map_err(|e| stopped(&e))?;
                Ok(Response::Append(wire::append_reply_to_wire(&reply)))
            }
            Request::Vote(m) => {
                let rpc = wire::vote_request_from_wire(m).map_err(|e| bad(&e))?;
                let reply = self.raft.vote(rpc).await.map_err(|e| stopped(&e))?;
                Ok(Response::Vote(wire::vote_reply_to_wire(&reply)))
            }
            Request::Snapshot(m) => self.install(m).await,
            Request::Propose(batch) => self.propose(batch).await,
            Request::ReadIndex(v1::ReadIndex {}) => match self.read_next().await {
                Ok(next) => Ok(Response::ReadNext(next)),
                Err(RaftError::APIError(_)) => Err(self.not_leader()),
                Err(RaftError::Fatal(fatal)) => Err(stopped(&fatal)),
            },
        }
    }

    /// Another cluster, another node, or another disk than the membership names: refused before anything is looked at.
    async fn check_sender(&self, request: &v1::RaftRequest) -> Result<(), v1::Failure> {
        let me = &self.identity;
        let refused = |why: String| failure(v1::FailureKind::Refused, why);
        if request.cluster != me.cluster {
            return Err(refused(format!("this is cluster {}, not {}", me.cluster, request.cluster)));
        }
        if request.to != me.node {
            return Err(refused(format!("this is node {}, not {}", me.node, request.to)));
        }
        if !request.to_disk.is_empty() && request.to_disk != me.disk {
            let why = format!("node {} is a member with another data directory than this one", me.node);
            if self.reader.reached() == Reached::default() {
                // Empty, under the id of a node that has voted: it must never take part.
                self.halt(Kind::Fenced, "node-disk-lost", &why).await;
            }
            return Err(refused(why));
        }
        let membership = self.raft.metrics().borrow().membership_config.clone();
        let known = membership.membership().get_node(&request.from);
        if known.is_some_and(|peer| peer.disk != request.from_disk) {
            let why =
                format!("node {} is a member with another data directory than the sender's", request.from);
            return Err(refused(why));
        }
        Ok(())
    }

    async fn install(&self, m: v1::InstallSnapshot) -> Result<Response, v1::Failure> {
        if m.offset.saturating_add(m.data.len() as u64) > MAX_SNAPSHOT as u64 {
            return Err(failure(v1::FailureKind::Refused, "the snapshot is too large"));
        }
        let rpc = match wire::snapshot_from_wire(m) {
            Ok(rpc) => rpc,
            Err(e) => return Err(self.unreadable(&e).await),
        };
        let vote = match self.raft.install_snapshot(rpc).await {
            Ok(reply) => Some(wire::vote_to_wire(&reply.vote)),
            Err(RaftError::APIError(InstallSnapshotError::SnapshotMismatch(_))) => None,
            Err(RaftError::Fatal(fatal)) => return Err(stopped(&fatal)),
        };
        Ok(Response::Snapshot(v1::InstallSnapshotReply { vote }))
    }

    async fn propose(&self, batch: v1::CommandBatch) -> Result<Response, v1::Failure> {
        let batch = batch_from_wire(batch).map_err(|e| bad(&e))?;
        let one = |command| {
            let bytes = encode_command(&command).len();
            self.batcher.propose(command, bytes)
        };
        let mut outcomes = Vec::with_capacity(batch.0.len());
        for answer in join_all(batch.0.into_iter().map(one)).await {
            match answer {
                Ok(outcome) => outcomes.push((&outcome).into()),
                // Some of the commands may be done; only a request of one can be said not to be.
                Err(NotDone::NotLeader) if outcomes.is_empty() => return Err(self.not_leader()),
                Err(NotDone::NotLeader) => {
                    return Err(failure(v1::FailureKind::Unknown, "the leader changed"));
                }
                Err(NotDone::Unknown(why)) => return Err(failure(v1::FailureKind::Unknown, why)),
            }
        }
        Ok(Response::Propose(v1::Outcomes { outcomes }))
    }

    fn not_leader(&self) -> v1::Failure {
        let metrics = self.raft.metrics();
        let seen = metrics.borrow();
        let leader = seen.current_leader.filter(|id| *id != self.identity.node);
        let peer = |id| Some(node_to_wire(id, seen.membership_config.membership().get_node(&id)?));
        let mut failure = failure(v1::FailureKind::NotLeader, "this node does not lead");
        failure.leader = leader.and_then(peer);
        failure
    }

    /// What a newer version has put into the log cannot be skipped: this node stops where it is.
    async fn unreadable(&self, cause: &Error) -> v1::Failure {
        if cause.code() == "proto-unknown" {
            self.halt(Kind::Corrupt, "proto-unknown", &cause.to_string()).await;
        }
        bad(cause)
    }

    async fn halt(&self, kind: Kind, code: &'static str, why: &str) {
        tracing::error!(code, why, "this node takes no further part in the log");
        *self.halted.lock() = Some((kind, code, why.to_owned()));
        if let Err(cause) = self.raft.shutdown().await {
            tracing::warn!(%cause, "the log's node did not stop cleanly");
        }
    }
}

fn failure(kind: v1::FailureKind, message: impl Into<String>) -> v1::Failure {
    v1::Failure { kind: kind.into(), message: message.into(), leader: None }
}

fn bad(cause: &Error) -> v1::Failure {
    failure(v1::FailureKind::Unreadable, cause.to_string())
}

fn stopped(cause: &impl std::fmt::Display) -> v1::Failure {
    failure(v1::FailureKind::Stopped, format!("the node has stopped: {cause}"))
}
