//! The fault matrix: a process in each role is killed, or stopped for longer than its lease, in each phase of an epoch's life.
//!
//! The moment is exact: the process in which the phase happens stops itself there (`CONVEYOR_STOP_FILE`); then the fault strikes
//! the process in the role, which may be the same or another one; then the first one goes on.

use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tempfile::TempDir;

use crate::cluster::{Cluster, Options, now};
use crate::failure::succeed;
use crate::traffic::{self, Mode, Shape};
use crate::{binary, oracle};

/// Rows of the input.
const ROWS: usize = 60_000;
/// Longest time from the end of a fault to the next commit.
const CAUGHT_UP_WITHIN: Duration = Duration::from_secs(15);
/// Longer than a lease, which is 3 seconds.
const STOPPED_FOR: Duration = Duration::from_secs(4);
/// Time for the moment of a phase to come.
const MOMENT_WITHIN: Duration = Duration::from_secs(20);

/// What a process is to a pipeline, or to the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The sidecar that reads a source.
    Source,
    /// The sidecar that runs the steps.
    Operator,
    /// The sidecar that writes a sink.
    Sink,
    /// The sidecar that publishes dead letters.
    DeadLetters,
    /// The router that leads.
    Leader,
    /// A router that does not.
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

/// A moment in the life of an epoch.
#[derive(Debug)]
pub struct Phase {
    /// Its name in tables.
    pub name: &'static str,
    /// The crash point at which it is; none for a moment while rows flow.
    point: Option<&'static str>,
    /// The point may be passed at a later epoch than the first.
    later: bool,
}

/// All phases, in the order of an epoch's life.
pub const PHASES: &[Phase] = &[
    Phase { name: "deploy", point: Some("epoch-incarnation-after"), later: false },
    Phase { name: "running", point: None, later: false },
    Phase { name: "barrier sent", point: Some("engine-inject-after"), later: true },
    Phase { name: "aligning", point: Some("engine-barrier-aligned"), later: true },
    Phase { name: "state upload", point: Some("engine-state-upload-before"), later: true },
    Phase { name: "all acked", point: Some("epoch-all-acked"), later: true },
    Phase { name: "manifest written", point: Some("epoch-manifest-after"), later: true },
    Phase { name: "commit proposed", point: Some("raft-after-wal-write"), later: true },
    Phase { name: "committed but not told", point: Some("epoch-committed-not-published"), later: true },
    Phase { name: "applying", point: Some("engine-publish-sink-before"), later: true },
    Phase { name: "applied but not reported", point: Some("engine-published"), later: true },
    Phase { name: "clean-up", point: Some("epoch-clean-up-after"), later: false },
    Phase { name: "snapshot", point: Some("raft-before-raft-snapshot"), later: false },
];

/// What happens to the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// `kill -9`, then a new start.
    Kill,
    /// Stopped for longer than its lease, then it goes on: a zombie.
    Zombie,
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

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.fault {
            Fault::Kill => "kill -9",
            Fault::Zombie => "stop and continue",
        };
        write!(f, "{word} of the {} at `{}`, seed {}", self.role.name(), self.phase.name, self.seed)
    }
}

/// What was seen of a cell whose output was right.
#[derive(Debug, Clone, Copy)]
pub struct Seen {
    /// The moment came before the job had ended.
    pub happened: bool,
    /// Time from the end of the fault to the end of the job.
    pub recovered: Duration,
}

/// A cluster, an input, and what an undisturbed `run` makes of it.
pub struct Matrix {
    cluster: Cluster,
    folder: TempDir,
    stop_file: PathBuf,
    tried: u32,
}

impl Matrix {
    /// Starts a cluster, makes the input of `seed` and runs the pipeline over it once, in one process.
    ///
    /// # Errors
    /// When anything of that fails.
    pub fn new(seed: u64) -> Result<Self> {
        let folder = tempfile::tempdir().context("cannot create a folder")?;
        traffic::write_input(folder.path(), ROWS, seed)?;
        let output = folder.path().join("reference");
        let manifest = folder.path().join("reference.yaml");
        let shape = Shape { parallelism: 1, interval: "50ms" };
        fs::write(
            &manifest,
            traffic::manifest(Mode::Job, shape, folder.path(), &output.display().to_string()),
        )?;
        let mut run = binary::command()?;
        run.args(["run", "-f"]).arg(&manifest).arg("--data-dir").arg(folder.path().join("data"));
        succeed(&mut run).context("the undisturbed run failed")?;
        let stop_file = folder.path().join("stop");
        let settings = vec![
            ("CONVEYOR_STOP_FILE".to_owned(), stop_file.display().to_string()),
            ("CONVEYOR_SNAPSHOT_EVERY".to_owned(), "64".to_owned()),
        ];
        let cluster = Cluster::start(&Options { settings, ..Options::default() }, folder.path())?;
        Ok(Self { cluster, folder, stop_file, tried: 0 })
    }

    /// Tries one cell: a pipeline of its own over the same input, the fault, and the comparison.
    ///
    /// # Errors
    /// When rows were lost or doubled, or the pipeline did not catch up in time.
    pub fn try_cell(&mut self, cell: &Cell) -> Result<Seen> {
        self.tried += 1;
        let name = format!("cell-{}", self.tried);
        let output = self.folder.path().join(&name);
        let text = self.manifest(&name, &output.display().to_string());
        let manifest = self.folder.path().join(format!("{name}.yaml"));
        fs::write(&manifest, text)?;
        if let Some(point) = cell.phase.point {
            let count = if cell.phase.later { 1 + cell.seed % 2 } else { 1 };
            // The name makes the line a new one, so that passes are counted anew.
            fs::write(&self.stop_file, format!("{point}:{count}:{name}"))?;
        }
        self.cluster.apply(&manifest)?;
        let happened = self.strike(cell, &name);
        fs::write(&self.stop_file, "")?;
        self.let_go_all()?;
        let happened = happened?;
        let began = now();
        self.cluster.wait_phase(&name, "finished")?;
        let recovered = began.elapsed();
        ensure!(recovered <= CAUGHT_UP_WITHIN, "caught up after {recovered:?}\n{}", self.cluster.logs());
        oracle::judge("same_outputs.py", &[&self.folder.path().join("reference"), &output])
            .with_context(|| self.cluster.logs())?;
        self.cluster.run(&["delete", &name])?;
        Ok(Seen { happened, recovered })
    }

    fn manifest(&self, name: &str, output: &str) -> String {
        let shape = Shape { parallelism: 1, interval: "50ms" };
        traffic::manifest(Mode::Job, shape, self.folder.path(), output)
            .replacen("metadata: {name: killed}", &format!("metadata: {{name: {name}}}"), 1)
            .replacen("spec:\n", "spec:\n  placement: {spread: true}\n", 1)
            // So that the job lasts for several epochs.
            .replacen(
                "    - validate:",
                "    - rate_limit: {rowsPerSecond: 12000, burst: 500}\n    - validate:",
                1,
            )
    }

    /// Waits for the moment and does it; whether the moment came.
    fn strike(&mut self, cell: &Cell, name: &str) -> Result<bool> {
        let began = now();
        let mut seen = None;
        loop {
            let stopped = !self.stopped()?.is_empty();
            if !stopped {
                // Not while a process stands still: an answer may take long then, and what was placed is known from before.
                seen = self.cluster.status(name).ok().or(seen);
            }
            let epoch = seen.as_ref().and_then(|s: &Value| s["epoch"].as_u64());
            let come = match cell.phase.point {
                Some(_) => stopped,
                None => epoch >= Some(1 + cell.seed % 2),
            };
            if come {
                let victim = self.victim(cell.role, seen.as_ref())?;
                self.hit(cell.fault, victim)?;
                return Ok(true);
            }
            let over = seen.as_ref().is_some_and(|s| s["phase"] == "finished");
            if over || began.elapsed() > MOMENT_WITHIN {
                return Ok(false);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn hit(&mut self, fault: Fault, victim: Victim) -> Result<()> {
        match fault {
            Fault::Kill => {
                self.process(victim).kill()?;
                fs::write(&self.stop_file, "")?;
                self.let_go_all()?;
                self.process(victim).start()
            }
            Fault::Zombie => {
                self.process(victim).signal("STOP")?;
                fs::write(&self.stop_file, "")?;
                let id = self.process(victim).id();
                for other in self.stopped()? {
                    if Some(other) != id {
                        resume(other)?;
                    }
                }
                std::thread::sleep(STOPPED_FOR);
                self.process(victim).signal("CONT")
            }
        }
    }

    fn process(&mut self, victim: Victim) -> &mut crate::cluster::Process {
        match victim {
            Victim::Router(i) => &mut self.cluster.routers[i],
            Victim::Sidecar(i) => &mut self.cluster.sidecars[i],
        }
    }

    /// Which process has the role now.
    fn victim(&self, role: Role, status: Option<&Value>) -> Result<Victim> {
        match role {
            Role::Leader | Role::Follower => {
                let leader = self.leader_by_log();
                let follower = (leader + 1) % self.cluster.routers.len();
                Ok(Victim::Router(if role == Role::Leader { leader } else { follower }))
            }
            _ => {
                let tasks = status.and_then(|s| s["tasks"].as_array()).cloned().unwrap_or_default();
                let last = tasks.iter().filter_map(|t| t["node"].as_u64()).max().unwrap_or(0);
                let node = match role {
                    Role::Source => 0,
                    Role::Operator => 1.min(last),
                    _ => last,
                };
                let task = tasks.iter().find(|t| t["node"].as_u64() == Some(node));
                let name = task.and_then(|t| t["sidecar"].as_str()).unwrap_or("sidecar-1");
                let found = self.cluster.sidecars.iter().position(|s| s.name() == name);
                Ok(Victim::Sidecar(found.with_context(|| format!("there is no {name}"))?))
            }
        }
    }

    /// The router that said last that it leads.
    fn leader_by_log(&self) -> usize {
        let when = |log: &str| {
            let line = log.lines().rev().find(|l| l.contains("the leadership has changed"))?;
            line.contains("leads=true").then(|| line.split_whitespace().next().unwrap_or("").to_owned())
        };
        let led = self.cluster.routers.iter().enumerate().filter_map(|(i, r)| Some((when(&r.log())?, i)));
        led.max().map_or(0, |(_, i)| i)
    }

    /// Ids of processes that have stopped.
    fn stopped(&self) -> Result<Vec<u32>> {
        let all = self.cluster.routers.iter().chain(&self.cluster.sidecars);
        let mut stopped = Vec::new();
        for id in all.filter_map(crate::cluster::Process::id) {
            let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
            let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().next());
            if state == Some("T") {
                stopped.push(id);
            }
        }
        Ok(stopped)
    }

    /// Lets every stopped process go on; again and again, since one may pass the point just now.
    fn let_go_all(&self) -> Result<()> {
        let began: Instant = now();
        while began.elapsed() < Duration::from_millis(100) {
            for id in self.stopped()? {
                resume(id)?;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

#[derive(Debug, Clone, Copy)]
enum Victim {
    Router(usize),
    Sidecar(usize),
}

fn resume(id: u32) -> Result<()> {
    let sent = std::process::Command::new("kill").args(["-s", "CONT", &id.to_string()]).status()?;
    if !sent.success() {
        bail!("process {id} does not go on");
    }
    Ok(())
}
