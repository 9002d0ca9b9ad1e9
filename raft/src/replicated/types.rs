//! openraft's types as this crate fills them, and their wire forms. Nothing outside `raft` sees them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

#[cfg(feature = "simulation")]
use super::runtime::Runtime;
use conveyor_model::Result;
use conveyor_model::log::{Command, Outcome};
use conveyor_proto::{malformed, unknown, v1};
use openraft::{CommittedLeaderId, EntryPayload, LeaderId};

openraft::declare_raft_types!(
    /// The replicated log's instance of openraft.
    pub(crate) Types:
        D = Batch,
        R = Answers,
        NodeId = u64,
        Node = Peer,
        SnapshotData = std::io::Cursor<Vec<u8>>,
        AsyncRuntime = Runtime,
);

#[cfg(not(feature = "simulation"))]
type Runtime = openraft::TokioRuntime;

pub(crate) type LogId = openraft::LogId<u64>;
pub(crate) type Vote = openraft::Vote<u64>;
pub(crate) type Entry = openraft::Entry<Types>;
pub(crate) type Membership = openraft::Membership<u64, Peer>;
pub(crate) type StoredMembership = openraft::StoredMembership<u64, Peer>;
pub(crate) type SnapshotMeta = openraft::SnapshotMeta<u64, Peer>;
pub(crate) type StorageError = openraft::StorageError<u64>;

/// Where a node is found and which disk it must have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Peer {
    pub(crate) address: String,
    pub(crate) disk: String,
}

/// Commands that share one entry, one write and one fsync on each node.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Batch(pub(crate) Vec<Command>);

/// One answer for each command of an entry.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Answers(pub(crate) Vec<Outcome>);

impl fmt::Display for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} commands", self.0.len())
    }
}

pub(crate) fn log_id(term: u64, index: u64) -> LogId {
    // One leader a term: the leader's id is no part of an entry's position.
    LogId::new(CommittedLeaderId::new(term, 0), index)
}

pub(crate) fn log_id_to_wire(id: &LogId) -> v1::LogId {
    v1::LogId { term: id.leader_id.term, index: id.index }
}

pub(crate) fn log_id_from_wire(id: &v1::LogId) -> LogId {
    log_id(id.term, id.index)
}

pub(crate) fn vote_to_wire(vote: &Vote) -> v1::Vote {
    v1::Vote { term: vote.leader_id.term, voted_for: vote.leader_id.voted_for, committed: vote.committed }
}

pub(crate) fn vote_from_wire(vote: Option<v1::Vote>) -> Result<Vote> {
    let vote = vote.ok_or_else(|| malformed("vote", "is missing"))?;
    let leader_id = LeaderId { term: vote.term, voted_for: vote.voted_for };
    Ok(Vote { leader_id, committed: vote.committed })
}

pub(crate) fn node_to_wire(id: u64, peer: &Peer) -> v1::Node {
    v1::Node { id, address: peer.address.clone(), disk: peer.disk.clone() }
}

pub(crate) fn membership_to_wire(membership: &Membership) -> v1::Membership {
    let voters = membership.get_joint_config().iter();
    v1::Membership {
        voters: voters.map(|set| v1::NodeSet { ids: set.iter().copied().collect() }).collect(),
        nodes: membership.nodes().map(|(id, peer)| node_to_wire(*id, peer)).collect(),
    }
}

pub(crate) fn membership_from_wire(message: v1::Membership) -> Result<Membership> {
    let sets: Vec<BTreeSet<u64>> = message.voters.into_iter().map(|s| s.ids.into_iter().collect()).collect();
    let peer = |n: v1::Node| (n.id, Peer { address: n.address, disk: n.disk });
    let nodes: BTreeMap<u64, Peer> = message.nodes.into_iter().map(peer).collect();
    if let Some(id) = sets.iter().flatten().find(|id| !nodes.contains_key(id)) {
        return Err(malformed("membership", &format!("has no address of voter {id}")));
    }
    Ok(Membership::new(sets, nodes))
}

pub(crate) fn stored_to_wire(stored: &StoredMembership) -> v1::StoredMembership {
    v1::StoredMembership {
        log_id: stored.log_id().as_ref().map(log_id_to_wire),
        membership: Some(membership_to_wire(stored.membership())),
    }
}

pub(crate) fn stored_from_wire(message: Option<v1::StoredMembership>) -> Result<StoredMembership> {
    let message = message.ok_or_else(|| malformed("membership", "is missing"))?;
    let membership = message.membership.ok_or_else(|| malformed("membership", "is missing"))?;
    let log_id = message.log_id.as_ref().map(log_id_from_wire);
    Ok(StoredMembership::new(log_id, membership_from_wire(membership)?))
}

pub(crate) fn batch_to_wire(batch: &Batch) -> v1::CommandBatch {
    v1::CommandBatch { commands: batch.0.iter().map(Into::into).collect() }
}

pub(crate) fn batch_from_wire(message: v1::CommandBatch) -> Result<Batch> {
    Ok(Batch(message.commands.into_iter().map(Command::try_from).collect::<Result<_>>()?))
}

pub(crate) fn entry_to_wire(entry: &Entry) -> v1::LogEntry {
    use v1::log_entry::Payload;
    let payload = match &entry.payload {
        EntryPayload::Blank => Payload::Blank(v1::Blank {}),
        EntryPayload::Normal(batch) => Payload::Batch(batch_to_wire(batch)),
        EntryPayload::Membership(membership) => Payload::Membership(membership_to_wire(membership)),
    };
    v1::LogEntry { payload: Some(payload) }
}

pub(crate) fn entry_from_wire(log_id: LogId, message: v1::LogEntry) -> Result<Entry> {
    use v1::log_entry::Payload;
    let payload = match message.payload.ok_or_else(|| unknown("entry", "is of an unknown kind"))? {
        Payload::Blank(v1::Blank {}) => EntryPayload::Blank,
        Payload::Batch(batch) => EntryPayload::Normal(batch_from_wire(batch)?),
        Payload::Membership(membership) => EntryPayload::Membership(membership_from_wire(membership)?),
    };
    Ok(Entry { log_id, payload })
}
