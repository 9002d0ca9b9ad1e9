//! The log of a cluster: openraft over the same records, snapshots and pure state machine that a single voter uses.
//!
//! openraft decides who leads and what is agreed. Around it: [`store`] makes log and vote durable, [`machine`] applies,
//! [`batcher`] makes many commands one entry, [`transport`] and [`server`] are the two ends of the network seam, [`members`]
//! changes who takes part, [`identity`] says who a data directory belongs to. No type of openraft leaves this module.

mod batcher;
mod identity;
mod leadership;
pub(crate) mod machine;
mod members;
pub(crate) mod recover;
#[cfg(feature = "simulation")]
mod runtime;
mod server;
mod settings;
mod silence;
pub(crate) mod store;
mod transport;
pub(crate) mod types;
pub(crate) mod wal;
mod wire;

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use conveyor_model::log::{Command, Log, Outcome, PipelineState};
use conveyor_model::{Error, Kind, PipelineId, Result};
use conveyor_proto::v1::raft_request::Body as Request;
use conveyor_proto::v1::raft_response::Body as Response;
use conveyor_proto::{encode_command, v1};
use openraft::error::{CheckIsLeaderError, RaftError};
use parking_lot::Mutex;
use tokio::time::{Instant, timeout, timeout_at};

use self::batcher::{Batcher, NotDone};
pub(crate) use self::identity::refuse_replicated;
use self::machine::Machine;
use self::server::Server;
use self::silence::Silence;
use self::store::LogStore;
use self::transport::{Clients, Link, astray, failed};
use self::types::{Peer, Types};
use self::wal::Wal;
use crate::disk::{DirLock, Disk, RealDisk, create_dir};
use crate::error;
use crate::record::MAX_PAYLOAD;

pub use self::identity::Identity;
pub use self::leadership::{Changes, Leadership};
pub use self::members::{NodeStatus, Role, Status};
pub use self::settings::Settings;
pub use self::transport::{Member, Rpc, Transport};

/// Largest command: an entry has one or more, and an entry fits a record.
const MAX_COMMAND: usize = MAX_PAYLOAD - 64;

/// A node of a replicated log. Any node takes proposals and reads: one that does not lead asks the one that does.
///
/// Needs a tokio runtime with time. Call [`ReplicatedLog::shutdown`] before the data directory is used again.
pub struct ReplicatedLog {
    raft: openraft::Raft<Types>,
    link: Arc<Link>,
    server: Server,
    settings: Settings,
    machine: Machine,
    lock: Mutex<Option<DirLock>>,
}

impl ReplicatedLog {
    /// Makes a data directory for a node that never was. The directory is created if it does not exist.
    ///
    /// A node whose disk was lost gets a new id here and joins as a learner: under its old id it could vote twice.
    ///
    /// # Errors
    /// `data-dir-in-use` if the directory has a node already, `data-dir-in-other-use` if it has a single voter's log,
    /// `log-io` or `disk-full` if it cannot be written.
    pub fn create_dir(dir: &Path, identity: &Identity) -> Result<()> {
        #[cfg(feature = "simulation")]
        if conveyor_model::simulation::on() {
            return create_on(crate::testing::disks::disk(dir), dir, identity);
        }
        create_dir(dir)?;
        let _lock = DirLock::take(dir)?;
        create_on(Arc::new(RealDisk), dir, identity)
    }

    /// Whether a data directory has a node.
    ///
    /// # Errors
    /// `log-corrupt` or `log-version` if it has one that cannot be read, `log-io` otherwise.
    pub fn has_node(dir: &Path) -> Result<bool> {
        #[cfg(feature = "simulation")]
        if conveyor_model::simulation::on() {
            return Ok(identity::read(crate::testing::disks::disk(dir).as_ref(), dir)?.is_some());
        }
        Ok(dir.exists() && identity::read(&RealDisk, dir)?.is_some())
    }

    /// Starts the node whose data directory this is, made by [`ReplicatedLog::create_dir`].
    ///
    /// # Errors
    /// `data-dir-without-node` if it was never made, `data-dir-locked` if another process uses it, `log-corrupt` if anything
    /// acknowledged is damaged or gone, `log-version` or `proto-unknown` if a newer version wrote it, `log-settings` if
    /// the settings contradict each other, `log-io` or `disk-full` otherwise.
    pub async fn open(dir: &Path, settings: Settings, transport: Arc<dyn Transport>) -> Result<Self> {
        #[cfg(feature = "simulation")]
        if conveyor_model::simulation::on() {
            return Self::open_on(crate::testing::disks::disk(dir), dir, settings, transport, None).await;
        }
        create_dir(dir)?;
        let lock = DirLock::take(dir)?;
        Self::open_on(Arc::new(RealDisk), dir, settings, transport, Some(lock)).await
    }

    pub(crate) async fn open_on(
        disk: Arc<dyn Disk>,
        dir: &Path,
        settings: Settings,
        transport: Arc<dyn Transport>,
        lock: Option<DirLock>,
    ) -> Result<Self> {
        let config = Arc::new(settings.config()?);
        let (identity, store, machine) = open_files(disk, dir, settings.segment_bytes)?;
        let retry_after = settings.heartbeat;
        let silence = Silence::new(settings.election.1, settings.heartbeat);
        let link = Arc::new(Link { identity, transport, retry_after, silence });
        let reader = store.reader();
        let raft =
            openraft::Raft::new(link.identity.node, config, Clients(link.clone()), store, machine.clone())
                .await
                .map_err(|cause| stopped().because(cause))?;
        link.silence.follow(raft.metrics());
        let server = Server {
            raft: raft.clone(),
            identity: link.identity.clone(),
            batcher: Batcher::start(raft.clone()),
            reader,
            halted: Mutex::new(None),
        };
        Ok(Self { raft, link, server, settings, machine, lock: Mutex::new(lock) })
    }

    /// Who this node is.
    pub fn identity(&self) -> &Identity {
        &self.link.identity
    }

    /// Answers a request that another node's [`Transport`] has brought. Requests may come at once and in any order.
    pub async fn serve(&self, request: &[u8]) -> Vec<u8> {
        self.server.serve(request, self.settings.answer_within).await
    }

    #[cfg(test)]
    pub(crate) fn raft(&self) -> &openraft::Raft<Types> {
        &self.raft
    }

    /// The state as this node has applied it.
    #[cfg(test)]
    pub(crate) fn applied_state(&self) -> crate::ClusterState {
        self.machine.applied().read().state.clone()
    }

    /// Stops the node and gives its data directory back. What was acknowledged stays.
    pub async fn shutdown(&self) {
        if let Err(cause) = self.raft.shutdown().await {
            tracing::warn!(%cause, "the log's node did not stop cleanly");
        }
        // A snapshot that is still being written must not replace one that the next process writes.
        self.machine.close();
        *self.lock.lock() = None;
    }

    /// The leader as far as this node knows, waiting for one until the deadline.
    async fn leader(&self, deadline: Instant) -> Result<(u64, Peer)> {
        let mut metrics = self.raft.metrics();
        loop {
            self.server.check_halted()?;
            {
                let seen = metrics.borrow_and_update();
                if let Err(fatal) = &seen.running_state {
                    return Err(stopped().because(fatal.clone()));
                }
                let known = seen
                    .current_leader
                    .and_then(|id| Some((id, seen.membership_config.membership().get_node(&id)?.clone())));
                if let Some(leader) = known {
                    return Ok(leader);
                }
            }
            match timeout_at(deadline, metrics.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(stopped()),
                Err(_) => return Err(no_leader()),
            }
        }
    }

    /// Sends a request to the leader and returns its answer; `None` if it no longer leads.
    async fn ask_leader(
        &self,
        leader: u64,
        peer: &Peer,
        rpc: Rpc,
        body: Request,
        deadline: Instant,
    ) -> Result<Option<Response>> {
        let answer = timeout_at(deadline, self.link.ask(leader, peer, rpc, body)).await;
        let named = |e: Error| e.help(format!("the leader is node {leader} at {}", peer.address));
        let answer =
            answer.map_err(|_| named(unanswered()))?.map_err(|cause| named(unanswered().because(cause)))?;
        match answer {
            Response::Failure(f) if f.kind() == v1::FailureKind::NotLeader => Ok(None),
            Response::Failure(failure) => Err(failed(failure)),
            answer => Ok(Some(answer)),
        }
    }

    /// Waits a moment for news of another leader, after `leader` has said that it is none.
    async fn leader_changed(&self, leader: u64, deadline: Instant) {
        let soon = deadline.min(Instant::now() + self.settings.heartbeat);
        let mut metrics = self.raft.metrics();
        let changed = metrics.wait_for(|seen| seen.current_leader != Some(leader));
        // Nothing new in time is no failure: the next round asks again, until the deadline.
        drop(timeout_at(soon, changed).await);
    }

    async fn propose_once(
        &self,
        command: &Command,
        bytes: usize,
        deadline: Instant,
    ) -> Result<Option<Outcome>> {
        let (leader, peer) = self.leader(deadline).await?;
        if leader == self.link.identity.node {
            let done = timeout_at(deadline, self.server.batcher.propose(command.clone(), bytes)).await;
            return match done.map_err(|_| unanswered())? {
                Ok(outcome) => Ok(Some(outcome)),
                Err(NotDone::NotLeader) => Ok(None),
                Err(NotDone::Unknown(why)) => Err(stopped().because(why)),
            };
        }
        let body = Request::Propose(v1::CommandBatch { commands: vec![command.into()] });
        match self.ask_leader(leader, &peer, Rpc::Propose, body, deadline).await? {
            None => Ok(None),
            Some(Response::Propose(mut outcomes)) if outcomes.outcomes.len() == 1 => {
                Ok(Some(outcomes.outcomes.remove(0).try_into()?))
            }
            Some(_) => Err(astray()),
        }
    }

    /// Waits until this node has applied all that was committed before the call; `false` if the leader changed meanwhile.
    async fn catch_up(&self, deadline: Instant) -> Result<bool> {
        let (leader, peer) = self.leader(deadline).await?;
        let next = if leader == self.link.identity.node {
            match timeout_at(deadline, self.server.read_next()).await.map_err(|_| no_leader())? {
                Ok(next) => next,
                Err(RaftError::APIError(CheckIsLeaderError::ForwardToLeader(_))) => return Ok(false),
                // Without a quorum nobody can say that nothing newer was agreed. One may come back before the deadline.
                Err(RaftError::APIError(CheckIsLeaderError::QuorumNotEnough(_))) => return Ok(false),
                Err(RaftError::Fatal(fatal)) => return Err(stopped().because(fatal)),
            }
        } else {
            let body = Request::ReadIndex(v1::ReadIndex {});
            match self.ask_leader(leader, &peer, Rpc::ReadIndex, body, deadline).await? {
                None => return Ok(false),
                Some(Response::ReadNext(next)) => next,
                Some(_) => return Err(astray()),
            }
        };
        let mut metrics = self.raft.metrics();
        let applied = metrics.wait_for(|seen| seen.last_applied.map_or(0, |last| last.index + 1) >= next);
        match timeout_at(deadline, applied).await {
            Ok(Ok(_)) => Ok(true),
            Ok(Err(_)) => Err(stopped()),
            Err(_) => Err(Error::new(
                Kind::Unavailable,
                "log-behind",
                "this node has not caught up with the leader",
            )),
        }
    }

    async fn linearize(&self) -> Result<()> {
        let deadline = Instant::now() + self.settings.answer_within;
        loop {
            let leader = self.raft.metrics().borrow().current_leader;
            if self.catch_up(deadline).await? {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(no_leader());
            }
            match leader {
                Some(leader) => self.leader_changed(leader, deadline).await,
                None => tokio::task::yield_now().await,
            }
        }
    }
}

#[async_trait]
impl Log for ReplicatedLog {
    async fn propose(&self, command: Command) -> Result<Outcome> {
        let bytes = encode_command(&command).len();
        if bytes > MAX_COMMAND {
            let why = format!("a command of {bytes} bytes is over the log's limit of {MAX_COMMAND}");
            return Err(Error::bad_input("command-too-large", why));
        }
        let deadline = Instant::now() + self.settings.answer_within;
        loop {
            let leader = self.raft.metrics().borrow().current_leader;
            if let Some(outcome) = self.propose_once(&command, bytes, deadline).await? {
                return Ok(outcome);
            }
            if Instant::now() >= deadline {
                return Err(no_leader());
            }
            if let Some(leader) = leader {
                self.leader_changed(leader, deadline).await;
            }
        }
    }

    async fn read(&self, pipeline: &PipelineId) -> Result<Option<PipelineState>> {
        self.linearize().await?;
        Ok(self.machine.applied().read().state.pipelines().get(pipeline).cloned())
    }

    async fn list(&self) -> Result<Vec<(PipelineId, PipelineState)>> {
        self.linearize().await?;
        let applied = self.machine.applied().read();
        Ok(applied.state.pipelines().iter().map(|(id, state)| (id.clone(), state.clone())).collect())
    }
}

/// Makes the files of a node; the identity comes last, so that a directory with one has all the others.
pub(crate) fn create_on(disk: Arc<dyn Disk>, dir: &Path, identity: &Identity) -> Result<()> {
    identity::refuse_single(disk.as_ref(), dir)?;
    if let Some(found) = identity::read(disk.as_ref(), dir)? {
        let why = format!("the data directory belongs to node {} of cluster {}", found.node, found.cluster);
        return Err(Error::bad_input("data-dir-in-use", why)
            .in_split(dir.display())
            .help("start it with that identity, or give the new node an empty directory"));
    }
    // Without an identity nothing was ever answered from these files.
    remove(disk.as_ref(), dir, |name| wal::parse_name(name).is_some() || name.ends_with(".tmp"))?;
    Wal::create(disk.clone(), dir, u64::MAX)?;
    identity::write(disk.as_ref(), dir, identity)
}

/// Opens the files of a node.
pub(crate) fn open_files(
    disk: Arc<dyn Disk>,
    dir: &Path,
    segment_bytes: u64,
) -> Result<(Identity, LogStore, Machine)> {
    identity::refuse_single(disk.as_ref(), dir)?;
    let Some(identity) = identity::read(disk.as_ref(), dir)? else {
        return Err(Error::bad_input("data-dir-without-node", "the data directory has no node of a cluster")
            .in_split(dir.display())
            .help("a new node is made with a new id; a node whose disk was lost joins as a new one too"));
    };
    let Some((wal, entries)) = recover::recover(&disk, dir, segment_bytes)? else {
        return Err(error::corrupt(dir, 0, "the node has an identity, but its log is gone"));
    };
    let machine = Machine::open(disk.clone(), dir)?;
    let purged = wal.reached.purged;
    if purged > machine.snapshot_last() {
        let upto = purged.map_or(0, |p| p.index);
        return Err(error::corrupt(dir, 0, format!("the snapshot of the entries up to {upto} is missing")));
    }
    remove(disk.as_ref(), dir, |name| name.ends_with(".tmp"))?;
    Ok((identity, LogStore::new(wal, entries)?, machine))
}

fn remove(disk: &dyn Disk, dir: &Path, which: impl Fn(&str) -> bool) -> Result<()> {
    let names = disk.list(dir).map_err(|e| error::io("list its files", dir, e))?;
    for name in names.iter().filter(|name| which(name)) {
        let path = dir.join(name);
        disk.remove(&path).map_err(|e| error::io("remove what a crash has left", &path, e))?;
    }
    Ok(())
}

fn stopped() -> Error {
    Error::runtime("log-stopped", "the log's node has stopped; the command may or may not have been applied")
        .help("read the node's messages for the reason, then start it again")
}

fn unanswered() -> Error {
    let why = "no answer in time; the command may or may not have been applied";
    Error::new(Kind::Unavailable, "log-unanswered", why).help("read the state before trying again")
}

fn no_leader() -> Error {
    Error::new(Kind::Unavailable, "no-leader", "the log has no leader that a majority follows")
        .help("see which nodes run and reach each other; a majority of the voters must")
}

/// Waits at most `within`.
async fn in_time<T>(within: std::time::Duration, work: impl Future<Output = T>) -> Result<T> {
    timeout(within, work).await.map_err(|_| unanswered())
}
