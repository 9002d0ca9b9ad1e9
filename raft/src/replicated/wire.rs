//! openraft's requests and answers in protobuf.

use conveyor_model::Result;
use conveyor_proto::{malformed, unknown, v1};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, VoteRequest, VoteResponse,
};

use super::types::{
    SnapshotMeta, Types, entry_from_wire, entry_to_wire, log_id_from_wire, log_id_to_wire, stored_from_wire,
    stored_to_wire,
};
pub(crate) use super::types::{vote_from_wire, vote_to_wire};

pub(crate) fn append_to_wire(rpc: &AppendEntriesRequest<Types>) -> v1::AppendEntries {
    let placed = |entry: &openraft::Entry<Types>| v1::PlacedEntry {
        log_id: Some(log_id_to_wire(&entry.log_id)),
        entry: Some(entry_to_wire(entry)),
    };
    v1::AppendEntries {
        vote: Some(vote_to_wire(&rpc.vote)),
        previous: rpc.prev_log_id.as_ref().map(log_id_to_wire),
        entries: rpc.entries.iter().map(placed).collect(),
        committed: rpc.leader_commit.as_ref().map(log_id_to_wire),
    }
}

pub(crate) fn append_from_wire(m: v1::AppendEntries) -> Result<AppendEntriesRequest<Types>> {
    let entry = |placed: v1::PlacedEntry| {
        let (Some(log_id), Some(entry)) = (placed.log_id, placed.entry) else {
            return Err(malformed("append", "has an entry without position or payload"));
        };
        entry_from_wire(log_id_from_wire(&log_id), entry)
    };
    Ok(AppendEntriesRequest {
        vote: vote_from_wire(m.vote)?,
        prev_log_id: m.previous.as_ref().map(log_id_from_wire),
        entries: m.entries.into_iter().map(entry).collect::<Result<_>>()?,
        leader_commit: m.committed.as_ref().map(log_id_from_wire),
    })
}

pub(crate) fn append_reply_to_wire(reply: &AppendEntriesResponse<u64>) -> v1::AppendEntriesReply {
    use v1::append_entries_reply::Result as R;
    let result = match reply {
        AppendEntriesResponse::Success => R::Success(v1::Done {}),
        AppendEntriesResponse::PartialSuccess(matching) => {
            R::Partial(v1::PartialSuccess { matching: matching.as_ref().map(log_id_to_wire) })
        }
        AppendEntriesResponse::Conflict => R::Conflict(v1::Done {}),
        AppendEntriesResponse::HigherVote(vote) => R::HigherVote(vote_to_wire(vote)),
    };
    v1::AppendEntriesReply { result: Some(result) }
}

pub(crate) fn append_reply_from_wire(m: v1::AppendEntriesReply) -> Result<AppendEntriesResponse<u64>> {
    use v1::append_entries_reply::Result as R;
    Ok(match m.result.ok_or_else(|| unknown("append's answer", "is of an unknown kind"))? {
        R::Success(_) => AppendEntriesResponse::Success,
        R::Partial(p) => AppendEntriesResponse::PartialSuccess(p.matching.as_ref().map(log_id_from_wire)),
        R::Conflict(_) => AppendEntriesResponse::Conflict,
        R::HigherVote(vote) => AppendEntriesResponse::HigherVote(vote_from_wire(Some(vote))?),
    })
}

pub(crate) fn vote_request_to_wire(rpc: &VoteRequest<u64>) -> v1::RequestVote {
    v1::RequestVote {
        vote: Some(vote_to_wire(&rpc.vote)),
        last: rpc.last_log_id.as_ref().map(log_id_to_wire),
    }
}

pub(crate) fn vote_request_from_wire(m: v1::RequestVote) -> Result<VoteRequest<u64>> {
    Ok(VoteRequest { vote: vote_from_wire(m.vote)?, last_log_id: m.last.as_ref().map(log_id_from_wire) })
}

pub(crate) fn vote_reply_to_wire(reply: &VoteResponse<u64>) -> v1::RequestVoteReply {
    v1::RequestVoteReply {
        vote: Some(vote_to_wire(&reply.vote)),
        granted: reply.vote_granted,
        last: reply.last_log_id.as_ref().map(log_id_to_wire),
    }
}

pub(crate) fn vote_reply_from_wire(m: v1::RequestVoteReply) -> Result<VoteResponse<u64>> {
    Ok(VoteResponse {
        vote: vote_from_wire(m.vote)?,
        vote_granted: m.granted,
        last_log_id: m.last.as_ref().map(log_id_from_wire),
    })
}

pub(crate) fn snapshot_to_wire(rpc: InstallSnapshotRequest<Types>) -> v1::InstallSnapshot {
    v1::InstallSnapshot {
        vote: Some(vote_to_wire(&rpc.vote)),
        last: rpc.meta.last_log_id.as_ref().map(log_id_to_wire),
        membership: Some(stored_to_wire(&rpc.meta.last_membership)),
        snapshot_id: rpc.meta.snapshot_id,
        offset: rpc.offset,
        data: rpc.data,
        done: rpc.done,
    }
}

pub(crate) fn snapshot_from_wire(m: v1::InstallSnapshot) -> Result<InstallSnapshotRequest<Types>> {
    Ok(InstallSnapshotRequest {
        vote: vote_from_wire(m.vote)?,
        meta: SnapshotMeta {
            last_log_id: m.last.as_ref().map(log_id_from_wire),
            last_membership: stored_from_wire(m.membership)?,
            snapshot_id: m.snapshot_id,
        },
        offset: m.offset,
        data: m.data,
        done: m.done,
    })
}
