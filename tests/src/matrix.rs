//! The fault matrix: a process in each role is killed, or stopped for longer than its lease, in each phase of an epoch's life.
//!
//! The moment is exact: the process in which the phase happens stops itself there (`CONVEYOR_STOP_FILE`); then the fault strikes
//! the process in the role, which may be the same or another one; then the first one goes on.

mod cell;
mod members;
mod record;
mod watch;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tempfile::TempDir;

use crate::cluster::{Cluster, Options, Process, is_settled, now};
use crate::failure::succeed;
use crate::traffic::{self, Mode, Shape};
use crate::{binary, oracle};
use cell::Scene;
pub use cell::{Cell, Fault, PHASES, Phase, ROLES, Role, phase_named, role_named};
use members::Coming;
pub use record::Record;
use watch::Watch;

/// Rows of the input.
const ROWS: usize = 60_000;
/// Longest time from the end of a fault to the end of the job.
const CAUGHT_UP_WITHIN: Duration = Duration::from_secs(15);
/// Longer than a lease, which is 3 seconds.
const STOPPED_FOR: Duration = Duration::from_secs(4);
/// Time for the moment of a phase to come.
const MOMENT_WITHIN: Duration = Duration::from_secs(30);
/// Entries of the log between two snapshots: few, so that short jobs come by them.
const SNAPSHOT_EVERY: u64 = 16;
/// Routers that vote all the time.
const ROUTERS: usize = 3;
/// Changes of the membership that one cluster can be tried with: each needs a certificate.
const SPARE_ROUTERS: u32 = 16;

/// What was seen of a cell whose output was right.
#[derive(Debug, Clone, Copy)]
pub struct Seen {
    /// The moment came before the job had ended.
    pub happened: bool,
    /// Time from the end of the fault to the end of the job.
    pub recovered: Duration,
}

impl Seen {
    /// The job took longer than it may after a fault. On a machine that does other work at the same time it says little.
    pub fn is_late(&self) -> bool {
        self.recovered > CAUGHT_UP_WITHIN
    }
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
            ("CONVEYOR_SNAPSHOT_EVERY".to_owned(), SNAPSHOT_EVERY.to_string()),
        ];
        let options = Options { settings, spare_routers: SPARE_ROUTERS, ..Options::default() };
        let cluster = Cluster::start(&options, folder.path())?;
        let matrix = Self { cluster, folder, stop_file, tried: 0 };
        matrix.occupy_first_sidecar()?;
        Ok(matrix)
    }

    /// A small pipeline takes its place on the first sidecar, whose name makes it publish the dead letters of every other
    /// pipeline: so sources go elsewhere, and the four roles of sidecars are four processes.
    fn occupy_first_sidecar(&self) -> Result<()> {
        let folder = self.folder.path().join("occupied");
        fs::create_dir_all(folder.join("in"))?;
        let text = format!(
            "apiVersion: etl.router/v1\nkind: Pipeline\nmetadata: {{name: occupied}}\nspec:\n  mode: streaming\n  \
             placement: {{labels: {{name: sidecar-1}}}}\n  source:\n    name: nothing\n    file: {{path: '{0}/in/*.ndjson'}}\n    \
             schema: {{a: int64}}\n  sink:\n    name: out\n    file: {{path: '{0}/out', format: ndjson}}\n",
            folder.display()
        );
        let manifest = folder.join("pipeline.yaml");
        fs::write(&manifest, text)?;
        self.cluster.apply(&manifest)?;
        self.cluster.wait_phase("occupied", "running").map(drop)
    }

    /// Whether one more cell of this phase can be tried with this cluster.
    pub fn can_try(&self, phase: &Phase) -> bool {
        phase.scene != Scene::Members || self.cluster.routers.len() < ROUTERS + SPARE_ROUTERS as usize
    }

    /// Copies the logs of all processes into a folder.
    ///
    /// # Errors
    /// When a file cannot be copied.
    pub fn keep_logs(&self, folder: &Path) -> Result<()> {
        fs::create_dir_all(folder)?;
        for entry in fs::read_dir(self.cluster.folder())? {
            let path = entry?.path();
            if path.extension().is_some_and(|e| e == "log") {
                fs::copy(&path, folder.join(path.file_name().context("a log has a name")?))?;
            }
        }
        Ok(())
    }

    /// Tries one cell: a pipeline of its own over the same input, the fault, and the comparison.
    ///
    /// # Errors
    /// When rows were lost or doubled, or the job does not end at all.
    pub fn try_cell(&mut self, cell: &Cell) -> Result<Seen> {
        self.tried += 1;
        let name = format!("cell-{}", self.tried);
        let output = self.folder.path().join(&name);
        let text = self.manifest(&name, &output.display().to_string());
        let manifest = self.folder.path().join(format!("{name}.yaml"));
        fs::write(&manifest, text)?;
        let happened = self.play(cell, &name, &manifest);
        self.disarm()?;
        let (happened, coming) = happened?;
        let began = now();
        self.cluster.wait_phase(&name, "finished")?;
        let recovered = began.elapsed();
        oracle::judge("same_outputs.py", &[&self.folder.path().join("reference"), &output])
            .with_context(|| format!("other rows than the undisturbed run\n{}", self.cluster.logs()))?;
        if let Some(coming) = coming {
            coming.finish(&mut self.cluster)?;
        }
        self.cluster.run(&["delete", &name])?;
        fs::remove_dir_all(&output).context("the output of a cell is there")?;
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

    /// Arranges the scene, starts the pipeline and strikes when the moment comes; whether it came.
    fn play(&mut self, cell: &Cell, name: &str, manifest: &Path) -> Result<(bool, Option<Coming>)> {
        match cell.phase.scene {
            Scene::Plain => {
                self.arm(cell, name)?;
                self.cluster.apply(manifest)?;
                Ok((self.strike(cell, name)?, None))
            }
            Scene::Behind => {
                let follower = self.follower();
                self.cluster.routers[follower].kill()?;
                self.outgrow()?;
                self.cluster.apply(manifest)?;
                self.first_epoch(name)?;
                self.arm(cell, name)?;
                self.cluster.routers[follower].start()?;
                Ok((self.strike(cell, name)?, None))
            }
            Scene::Members => {
                self.cluster.apply(manifest)?;
                self.first_epoch(name)?;
                self.arm(cell, name)?;
                let coming = Coming::begin(&mut self.cluster)?;
                Ok((self.strike(cell, name)?, Some(coming)))
            }
        }
    }

    fn first_epoch(&self, name: &str) -> Result<()> {
        let committed = |c: &Cluster| c.status(name).ok()?["epoch"].as_u64().filter(|e| *e > 0);
        self.cluster.wait("an epoch is committed", committed).map(drop)
    }

    /// Makes the log grow so much that who is away needs a snapshot.
    fn outgrow(&self) -> Result<()> {
        let last = |c: &Cluster| c.get("/v1/cluster").ok()?["lastEntry"].as_u64();
        let began = self.cluster.wait("a leader", last)?;
        // One snapshot interval until the next snapshot is made, and what is kept behind it.
        let enough = began + 2 * SNAPSHOT_EVERY + SNAPSHOT_EVERY / 4;
        while self.cluster.wait("a leader", last)? < enough {
            self.cluster.run(&["pause", "occupied"])?;
            self.cluster.wait_phase("occupied", "paused")?;
            self.cluster.run(&["resume", "occupied"])?;
            self.cluster.wait_phase("occupied", "running")?;
        }
        Ok(())
    }

    /// Tells the processes where to stop.
    fn arm(&self, cell: &Cell, name: &str) -> Result<()> {
        let Some(point) = cell.phase.point else { return Ok(()) };
        // The name makes the line a new one, so that passes are counted anew. It appears whole.
        let fresh = self.stop_file.with_extension("new");
        fs::write(&fresh, format!("{point}:{}:{name}", cell.pass()))?;
        Ok(fs::rename(&fresh, &self.stop_file)?)
    }

    /// Nobody stops any more, and who has stopped goes on.
    fn disarm(&self) -> Result<()> {
        match fs::remove_file(&self.stop_file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            // Whoever stopped has taken it.
            _ => {}
        }
        self.let_go_all()
    }

    /// Waits for the moment and does it; whether the moment came.
    fn strike(&mut self, cell: &Cell, name: &str) -> Result<bool> {
        let began = now();
        let watch = Watch::start(self.cluster.client()?, name);
        loop {
            let stopped = !self.stopped()?.is_empty();
            let seen = watch.latest();
            let epoch = seen.as_ref().and_then(|s: &Value| s["epoch"].as_u64());
            let come = match cell.phase.point {
                Some(_) => stopped,
                None => epoch >= Some(cell.pass()),
            };
            if come {
                watch.stop();
                let victim = self.victim(cell.role, seen.as_ref())?;
                self.hit(cell.fault, victim)?;
                return Ok(true);
            }
            // A router stops after a job that is over, too, to clean up or to install a snapshot.
            let over = seen.as_ref().is_some_and(is_settled);
            let late = began.elapsed() > MOMENT_WITHIN;
            if (over && cell.phase.scene == Scene::Plain) || late {
                return Ok(false);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn hit(&mut self, fault: Fault, victim: Victim) -> Result<()> {
        match fault {
            Fault::Kill => {
                self.process(victim).kill()?;
                self.disarm()?;
                self.process(victim).start()
            }
            Fault::Zombie => {
                self.process(victim).signal("STOP")?;
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

    fn process(&mut self, victim: Victim) -> &mut Process {
        match victim {
            Victim::Router(i) => &mut self.cluster.routers[i],
            Victim::Sidecar(i) => &mut self.cluster.sidecars[i],
        }
    }

    /// A router that takes part all the time and does not lead.
    fn follower(&self) -> usize {
        (self.leader_by_log() + 1) % ROUTERS
    }

    /// Which process has the role now.
    fn victim(&self, role: Role, status: Option<&Value>) -> Result<Victim> {
        let tasks = status.and_then(|s| s["tasks"].as_array()).cloned().unwrap_or_default();
        let of = |node: u64| tasks.iter().find(|t| t["node"].as_u64() == Some(node));
        // Nodes are numbered in the order of the rows' way: the source, its steps, one sink, the other. The first member by
        // name publishes the dead letters. Before a pipeline is placed, it is where it will most likely be.
        let (sidecar, likely) = match role {
            Role::Leader => return Ok(Victim::Router(self.leader_by_log())),
            Role::Follower => return Ok(Victim::Router(self.follower())),
            Role::Source => (of(0).and_then(|t| t["sidecar"].as_str()), "sidecar-2"),
            Role::Operator => (of(1).and_then(|t| t["sidecar"].as_str()), "sidecar-3"),
            Role::Sink => (of(2).and_then(|t| t["sidecar"].as_str()), "sidecar-4"),
            Role::DeadLetters => (tasks.iter().filter_map(|t| t["sidecar"].as_str()).min(), "sidecar-1"),
        };
        let name = sidecar.unwrap_or(likely);
        let found = self.cluster.sidecars.iter().position(|s| s.name() == name);
        Ok(Victim::Sidecar(found.with_context(|| format!("there is no {name}"))?))
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
