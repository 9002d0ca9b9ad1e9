//! Cells of the fault matrix: who, when, what.

use std::fmt;

/// What a process is to a pipeline, or to the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The sidecar that reads a source.
    Source,
    /// The sidecar that runs the steps.
    Operator,
    /// The sidecar that writes a sink.
    Sink,
    /// The sidecar that publishes dead letters, and another sink.
    DeadLetters,
    /// The router that leads.
    Leader,
    /// A router that does not; where a snapshot is installed, the one that installs it.
    Follower,
}

/// All roles.
pub const ROLES: &[Role] =
    &[Role::Source, Role::Operator, Role::Sink, Role::DeadLetters, Role::Leader, Role::Follower];

impl Role {
    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Role::Source => "source",
            Role::Operator => "operator",
            Role::Sink => "sink",
            Role::DeadLetters => "dead letters",
            Role::Leader => "leader",
            Role::Follower => "follower",
        }
    }
}

/// What has to be arranged so that a moment comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scene {
    /// A pipeline that runs.
    Plain,
    /// A follower that was away for so long that it needs a snapshot.
    Behind,
    /// A router that comes or goes.
    Members,
}

/// A moment in the life of an epoch, or of the cluster while epochs go on.
#[derive(Debug)]
pub struct Phase {
    /// Its name in tables.
    pub name: &'static str,
    /// The crash point at which it is; none for a moment while rows flow.
    pub(super) point: Option<&'static str>,
    /// At how many different passes of the point it is tried, depending on the seed.
    pub(super) passes: u64,
    pub(super) scene: Scene,
}

const fn phase(name: &'static str, point: &'static str, passes: u64) -> Phase {
    Phase { name, point: Some(point), passes, scene: Scene::Plain }
}

/// All phases, in the order of an epoch's life.
pub const PHASES: &[Phase] = &[
    phase("deploy", "epoch-incarnation-after", 1),
    Phase { name: "running", point: None, passes: 2, scene: Scene::Plain },
    phase("barrier sent", "engine-inject-after", 2),
    phase("aligning", "engine-barrier-aligned", 2),
    phase("state upload", "engine-state-upload-before", 2),
    phase("all acked", "epoch-all-acked", 2),
    phase("manifest written", "epoch-manifest-after", 2),
    phase("commit proposed", "raft-commit-appended", 2),
    phase("committed but not told", "epoch-committed-not-published", 2),
    phase("applying", "engine-publish-sink-before", 2),
    phase("applied but not reported", "engine-published", 2),
    phase("clean-up", "epoch-clean-up-after", 1),
    Phase { name: "snapshot install", point: Some("raft-before-install"), passes: 1, scene: Scene::Behind },
    // A router that comes is a learner first, then one of the voters of a joint membership, then a voter.
    Phase {
        name: "membership change",
        point: Some("raft-members-appended"),
        passes: 3,
        scene: Scene::Members,
    },
];

/// The phase of this name.
pub fn phase_named(name: &str) -> Option<&'static Phase> {
    PHASES.iter().find(|p| p.name == name)
}

/// The role of this name.
pub fn role_named(name: &str) -> Option<Role> {
    ROLES.iter().copied().find(|r| r.name() == name)
}

/// What happens to the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// `kill -9`, then a new start.
    Kill,
    /// Stopped for longer than its lease, then it goes on: a zombie.
    Zombie,
}

impl Fault {
    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Fault::Kill => "kill -9",
            Fault::Zombie => "stop and continue",
        }
    }
}

/// One cell of the matrix.
#[derive(Debug, Clone, Copy)]
pub struct Cell {
    /// Who.
    pub role: Role,
    /// When.
    pub phase: &'static Phase,
    /// What.
    pub fault: Fault,
    /// Varies at which pass of the phase it happens.
    pub seed: u64,
}

impl Cell {
    /// At which pass of the crash point, counted from 1.
    pub(super) fn pass(&self) -> u64 {
        1 + self.seed % self.phase.passes
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (fault, role, phase) = (self.fault.name(), self.role.name(), self.phase.name);
        write!(f, "{fault} of the {role} at `{phase}`, seed {}", self.seed)
    }
}
