//! Partitions: the network of a cluster of processes is cut in several ways while a job runs.
//!
//! In each case: one leader a term, a new leader soon where the old one is cut off, and in the end the rows and dead letters of
//! one undisturbed run.

mod terms;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use crate::cluster::{Cluster, Faults, Network, Options, now};
use crate::failure::succeed;
use crate::traffic::{self, Mode, Shape};
use crate::{binary, oracle};
use terms::Terms;

/// Rows of the input, and how many a second are let through: a job lasts a few seconds.
const ROWS: usize = 40_000;
const ROWS_PER_SECOND: usize = 10_000;
/// Longer than a lease, which is 3 seconds.
const FAULT: Duration = Duration::from_secs(4);
/// Times that a flapping link fails, and how long it is up and down.
const FLAPS: u32 = 8;
const FLAP: Duration = Duration::from_millis(300);

/// What is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Case {
    /// The leader from the two other routers; sidecars reach all three. The job ends while it is cut off.
    LeaderFromMajority,
    /// What the leader says does not arrive; what the others say does.
    LeaderUnheard,
    /// What the others say does not arrive at the leader; what it says does.
    LeaderDeaf,
    /// A sidecar from the other sidecars, but not from the routers.
    SidecarFromPeers,
    /// A sidecar from the routers, but not from the other sidecars. The job ends while it is cut off.
    SidecarFromRouters,
    /// What a sidecar says does not arrive at the routers; what they say does.
    SidecarUnheard,
    /// Connections between two sidecars break and are refused, again and again.
    FlappingEdge,
    /// The leader is cut off and reached again, again and again.
    FlappingLeader,
}

/// All cases.
pub const CASES: &[Case] = &[
    Case::LeaderFromMajority,
    Case::LeaderUnheard,
    Case::LeaderDeaf,
    Case::SidecarFromPeers,
    Case::SidecarFromRouters,
    Case::SidecarUnheard,
    Case::FlappingEdge,
    Case::FlappingLeader,
];

/// What was seen of a case that went well.
#[derive(Debug, Clone, Copy)]
pub struct Seen {
    /// Time from the cut to a new leader, where there had to be one.
    pub new_leader: Option<Duration>,
    /// Time from the cut, or from its end where the job could not go on before, to the end of the job.
    pub finished: Duration,
}

/// A cluster whose network can be cut, an input, and what an undisturbed run makes of it.
pub struct Partitions {
    cluster: Cluster,
    folder: TempDir,
    terms: Terms,
    tried: u32,
}

impl Partitions {
    /// Starts a cluster and makes the reference.
    ///
    /// # Errors
    /// When anything of that fails.
    pub fn new(seed: u64) -> Result<Self> {
        let folder = tempfile::tempdir().context("cannot create a folder")?;
        traffic::write_input(folder.path(), ROWS, seed)?;
        let options = Options { faulty_network: true, ..Options::default() };
        let cluster = Cluster::start(&options, folder.path())?;
        let terms = Terms::watch(&cluster)?;
        let made = Self { cluster, folder, terms, tried: 0 };
        let mut run = binary::command()?;
        let reference = made.manifest("reference", "")?;
        run.args(["run", "-f"]).arg(reference).arg("--data-dir").arg(made.folder.path().join("data"));
        succeed(&mut run).context("the undisturbed run failed")?;
        Ok(made)
    }

    /// Tries a case.
    ///
    /// # Errors
    /// When rows are lost or doubled, a term has two leaders, or anything that has to happen does not.
    pub fn try_case(&mut self, case: Case) -> Result<Seen> {
        self.tried += 1;
        let name = format!("case-{}", self.tried);
        let steps = format!("    - rate_limit: {{rowsPerSecond: {ROWS_PER_SECOND}, burst: 500}}\n");
        let manifest = self.manifest(&name, &steps)?;
        self.cluster.apply(&manifest)?;
        let started = |c: &Cluster| c.status(&name).ok()?["epoch"].as_u64().filter(|e| *e > 0);
        self.cluster.wait("an epoch is committed", started)?;
        let seen = self.strike(case, &name).with_context(|| format!("{case:?}\n{}", self.cluster.logs()));
        self.network().mend();
        let seen = seen?;
        let outputs = [self.folder.path().join("reference"), self.folder.path().join(&name)];
        oracle::judge("same_outputs.py", &[&outputs[0], &outputs[1]])
            .with_context(|| format!("{case:?}\n{}", self.cluster.logs()))?;
        self.terms.check(&self.cluster)?;
        self.cluster.wait("all take part again", |c| {
            let sidecars = c.get("/v1/sidecars").ok()?;
            let attached = sidecars["items"].as_array()?.iter().filter(|s| s["attached"] == true).count();
            (attached == c.sidecars.len()).then_some(())
        })?;
        Ok(seen)
    }

    fn manifest(&self, name: &str, steps: &str) -> Result<PathBuf> {
        let folder = self.folder.path();
        let output = folder.join(name).display().to_string();
        let text = traffic::manifest(Mode::Job, Shape { parallelism: 1, interval: "100ms" }, folder, &output);
        let text = text
            .replacen("metadata: {name: killed}", &format!("metadata: {{name: {name}}}"), 1)
            .replacen("spec:\n", "spec:\n  placement: {spread: true}\n", 1)
            .replacen("    - validate:", &format!("{steps}    - validate:"), 1);
        let path = folder.join(format!("{name}.yaml"));
        fs::write(&path, text)?;
        Ok(path)
    }

    fn network(&self) -> &Network {
        self.cluster.network().expect("the cluster was started with one")
    }

    fn strike(&self, case: Case, name: &str) -> Result<Seen> {
        let leader = format!("router-{}", self.cluster.leader()? + 1);
        let others: Vec<&str> =
            self.cluster.routers.iter().map(|r| r.name()).filter(|r| *r != leader).collect();
        let all = |faults: fn(Faults, &str, &str) -> Faults, one: &str, others: &[&str]| {
            others.iter().fold(Faults::default(), |f, other| faults(f, one, other))
        };
        let deaf: fn(Faults, &str, &str) -> Faults = |f, one, other| f.hold(other, one);
        let routers: Vec<&str> = self.cluster.routers.iter().map(|r| r.name()).collect();
        match case {
            Case::LeaderFromMajority => self.replaces(all(Faults::cut, &leader, &others), name),
            Case::LeaderUnheard => self.replaces(all(Faults::hold, &leader, &others), name),
            Case::LeaderDeaf => self.replaces(all(deaf, &leader, &others), name),
            Case::SidecarFromPeers => {
                let worker = self.worker(name, 1)?;
                let peers: Vec<&str> =
                    self.cluster.sidecars.iter().map(|s| s.name()).filter(|s| *s != worker).collect();
                self.network().set(all(Faults::cut, &worker, &peers));
                std::thread::sleep(FAULT);
                self.network().mend();
                self.finished(name)
            }
            Case::SidecarFromRouters => {
                self.network().set(all(Faults::cut, &self.worker(name, 1)?, &routers));
                self.finished(name)
            }
            Case::SidecarUnheard => {
                self.network().set(all(Faults::hold, &self.worker(name, 1)?, &routers));
                self.finished(name)
            }
            Case::FlappingEdge => {
                let (one, other) = (self.worker(name, 0)?, self.worker(name, 1)?);
                self.flap(&Faults::default().refuse(&one, &other));
                self.finished(name)
            }
            Case::FlappingLeader => {
                self.flap(&all(Faults::cut, &leader, &others));
                self.finished(name)
            }
        }
    }

    fn flap(&self, faults: &Faults) {
        for _ in 0..FLAPS {
            self.network().set(faults.clone());
            std::thread::sleep(FLAP);
            self.network().mend();
            std::thread::sleep(FLAP);
        }
    }

    /// The leader is cut off: another one has to lead, and the job ends under it.
    fn replaces(&self, faults: Faults, name: &str) -> Result<Seen> {
        let before = self.terms.newest();
        let began = now();
        self.network().set(faults);
        self.cluster.wait("a new leader", |_| (self.terms.newest() > before).then_some(()))?;
        let new_leader = Some(began.elapsed());
        Ok(Seen { new_leader, ..self.finished(name)? })
    }

    fn finished(&self, name: &str) -> Result<Seen> {
        let began = now();
        self.cluster.wait_phase(name, "finished")?;
        Ok(Seen { new_leader: None, finished: began.elapsed() })
    }

    /// The sidecar that runs a node of the job.
    fn worker(&self, name: &str, node: u64) -> Result<String> {
        let status = self.cluster.status(name)?;
        let tasks = status["tasks"].as_array().context("no tasks")?;
        let Some(task) = tasks.iter().find(|t| t["node"] == node) else { bail!("no task of node {node}") };
        let found = task["sidecar"].as_str().context("a task without a sidecar")?;
        ensure!(!found.is_empty(), "the job is not placed");
        Ok(found.to_owned())
    }
}
