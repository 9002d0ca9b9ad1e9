//! Who takes part: the first voters, learners, promotion, removal. And what a node says of itself.

use std::collections::{BTreeMap, BTreeSet};

use conveyor_model::{Error, Kind, Result};
use conveyor_proto::v1;
use conveyor_proto::v1::raft_request::Body as Request;
use conveyor_proto::v1::raft_response::Body as Response;
use openraft::ChangeMembers;
use openraft::error::{ClientWriteError, InitializeError, RaftError};

use super::transport::{astray, failed};
use super::types::Peer;
use super::{Member, ReplicatedLog, Rpc, in_time, stopped};

/// What a node is to the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Its fsync counts for a commit, and it votes.
    Voter,
    /// It receives everything and decides nothing.
    Learner,
}

/// A member and how it stands, as one node sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeStatus {
    /// The member.
    pub member: Member,
    /// What it is.
    pub role: Role,
    /// Index of the last entry that it is known to have; only the leader knows.
    pub matched: Option<u64>,
}

/// What a node says of itself and of the others. Not linearizable: for people and metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Its id.
    pub node: u64,
    /// Its term.
    pub term: u64,
    /// The leader as far as it knows.
    pub leader: Option<u64>,
    /// Index of the last entry in its log.
    pub last: Option<u64>,
    /// Index of the last entry that it has applied.
    pub applied: Option<u64>,
    /// Index of the last entry in its snapshot.
    pub snapshot: Option<u64>,
    /// All members, by id.
    pub members: Vec<NodeStatus>,
    /// Why it has stopped, if it has.
    pub stopped: Option<String>,
}

type ChangeError = RaftError<u64, ClientWriteError<u64, Peer>>;

impl ReplicatedLog {
    /// Makes the first voters of a new cluster; this node must be one, all must run. Once: more than one node may do it if all
    /// give the same members.
    ///
    /// # Errors
    /// `log-unanswered` if a member does not answer, `node-refused` if it is of another cluster, `cluster-exists` if this
    /// node has a log already.
    pub async fn bootstrap(&self, members: &[Member]) -> Result<()> {
        let mut nodes = BTreeMap::new();
        for member in members {
            let disk = if member.id == self.identity().node {
                self.identity().disk.clone()
            } else {
                self.ask_disk(member).await?
            };
            nodes.insert(member.id, Peer { address: member.address.clone(), disk });
        }
        match self.raft.initialize(nodes).await {
            Ok(()) => Ok(()),
            Err(RaftError::APIError(InitializeError::NotAllowed(cause))) => {
                Err(Error::bad_input("cluster-exists", "this node has a log already: its cluster was made")
                    .because(cause))
            }
            Err(RaftError::APIError(cause)) => {
                Err(Error::bad_input("cluster-members", "the first members do not include this node")
                    .because(cause))
            }
            Err(RaftError::Fatal(fatal)) => Err(stopped().because(fatal)),
        }
    }

    /// Adds a node that only listens, and waits until it has nearly everything. Again for the same node changes nothing.
    ///
    /// # Errors
    /// `node-id-known` if the id belongs to another data directory: a node that lost its disk needs a new id.
    /// `not-leader`, naming the leader; `log-unanswered` if the node is not reached or does not catch up in time.
    pub async fn add_learner(&self, member: &Member) -> Result<()> {
        let disk = self.ask_disk(member).await?;
        let membership = self.raft.metrics().borrow().membership_config.clone();
        if let Some(known) = membership.membership().get_node(&member.id)
            && known.disk != disk
        {
            let why = format!("node id {} belongs to a member with another data directory", member.id);
            return Err(Error::new(Kind::Fenced, "node-id-known", why)
                .help("remove that member, make the data directory anew with an id that was never used, and add that"));
        }
        let peer = Peer { address: member.address.clone(), disk };
        let added =
            in_time(self.settings.answer_within, self.raft.add_learner(member.id, peer, true)).await?;
        added.map(drop).map_err(|cause| self.change_failed(cause))
    }

    /// Makes a learner a voter.
    ///
    /// # Errors
    /// `membership-refused` if it is no learner or another change is under way; else as [`ReplicatedLog::add_learner`].
    pub async fn promote(&self, id: u64) -> Result<()> {
        self.change(ChangeMembers::AddVoterIds(BTreeSet::from([id]))).await
    }

    /// Removes a member, voter or learner. Its id must not be used again.
    ///
    /// # Errors
    /// As [`ReplicatedLog::promote`].
    pub async fn remove(&self, id: u64) -> Result<()> {
        let membership = self.raft.metrics().borrow().membership_config.clone();
        let set = BTreeSet::from([id]);
        if membership.voter_ids().any(|voter| voter == id) {
            self.change(ChangeMembers::RemoveVoters(set)).await
        } else {
            self.change(ChangeMembers::RemoveNodes(set)).await
        }
    }

    /// What this node knows of itself and the others.
    pub fn status(&self) -> Status {
        let metrics = self.raft.metrics();
        let seen = metrics.borrow();
        let membership = seen.membership_config.membership();
        let voters: BTreeSet<u64> = membership.voter_ids().collect();
        let matched =
            |id| seen.replication.as_ref().and_then(|r| r.get(&id).copied().flatten()).map(|l| l.index);
        let node = |(id, peer): (&u64, &Peer)| NodeStatus {
            member: Member { id: *id, address: peer.address.clone() },
            role: if voters.contains(id) { Role::Voter } else { Role::Learner },
            matched: matched(*id),
        };
        let halted = self.server.check_halted().err().map(|e| e.to_string());
        Status {
            node: self.identity().node,
            term: seen.current_term,
            leader: seen.current_leader,
            last: seen.last_log_index,
            applied: seen.last_applied.map(|l| l.index),
            snapshot: seen.snapshot.map(|l| l.index),
            members: membership.nodes().map(node).collect(),
            stopped: halted.or_else(|| seen.running_state.as_ref().err().map(ToString::to_string)),
        }
    }

    /// Commands that were applied through this node as the leader, and the seconds from their proposals to their answers together.
    pub fn latency(&self) -> (u64, f64) {
        self.server.batcher.latency()
    }

    /// Whether another node has a log of this cluster: a cluster that runs, or one that is just being made.
    ///
    /// # Errors
    /// `log-unanswered` if it does not answer, `node-refused` if it is of another cluster.
    pub async fn is_initialized(&self, member: &Member) -> Result<bool> {
        Ok(self.introduction(member).await?.initialized)
    }

    /// The name of a node's data directory; also says whether the node is of this cluster.
    async fn ask_disk(&self, member: &Member) -> Result<String> {
        Ok(self.introduction(member).await?.disk)
    }

    async fn introduction(&self, member: &Member) -> Result<v1::Introduction> {
        let peer = Peer { address: member.address.clone(), disk: String::new() };
        let answer = self.link.ask(member.id, &peer, Rpc::Hello, Request::Hello(v1::Hello {}));
        match in_time(self.settings.answer_within, answer).await?? {
            Response::Hello(introduction) => Ok(introduction),
            Response::Failure(failure) => Err(failed(failure)),
            _ => Err(astray()),
        }
    }

    async fn change(&self, change: ChangeMembers<u64, Peer>) -> Result<()> {
        // Voters that go are no longer wanted as learners either.
        let changed =
            in_time(self.settings.answer_within, self.raft.change_membership(change, false)).await?;
        changed.map(drop).map_err(|cause| self.change_failed(cause))
    }

    fn change_failed(&self, cause: ChangeError) -> Error {
        match cause {
            RaftError::APIError(ClientWriteError::ForwardToLeader(to)) => {
                let error = Error::new(Kind::Unavailable, "not-leader", "this node does not lead the log");
                match (to.leader_id, to.leader_node) {
                    (Some(id), Some(peer)) => {
                        error.help(format!("ask the leader: node {id} at {}", peer.address))
                    }
                    _ => error.help("no leader is known: try again"),
                }
            }
            RaftError::APIError(ClientWriteError::ChangeMembershipError(cause)) => {
                Error::bad_input("membership-refused", "the members cannot be changed so").because(cause)
            }
            RaftError::Fatal(fatal) => stopped().because(fatal),
        }
    }
}
