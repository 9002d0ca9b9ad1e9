//! A cluster of real processes on loopback with TLS: routers and sidecars that a test starts, kills, stops and looks at.

mod operate;
mod process;

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tempfile::TempDir;

use crate::binary;
use crate::failure::succeed;
pub use process::Process;

/// Longest wait for anything that a cluster is to do.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Pause between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What a cluster is made of.
#[derive(Debug, Clone)]
pub struct Options {
    /// Routers.
    pub routers: u32,
    /// Sidecars.
    pub sidecars: u32,
    /// More settings of all processes, as variables of the environment.
    pub settings: Vec<(String, String)>,
}

impl Default for Options {
    fn default() -> Self {
        Self { routers: 3, sidecars: 4, settings: Vec::new() }
    }
}

/// A cluster at work. All its processes are killed when it is dropped.
pub struct Cluster {
    folder: TempDir,
    endpoints: Vec<String>,
    /// The routers, in the order of their ids from 1.
    pub routers: Vec<Process>,
    /// The sidecars, `sidecar-1` first.
    pub sidecars: Vec<Process>,
}

/// Free ports of this moment.
fn free_ports(n: usize) -> Result<Vec<u16>> {
    let listeners = (0..n).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<Vec<_>, _>>()?;
    listeners.iter().map(|l| Ok(l.local_addr()?.port())).collect()
}

impl Cluster {
    /// Makes certificates and starts everything, in a folder of its own; processes run in `work_dir`, which relative paths of
    /// manifests are looked up in.
    ///
    /// # Errors
    /// When a process cannot be started, or the cluster is not ready in time.
    pub fn start(options: &Options, work_dir: &Path) -> Result<Self> {
        let folder = tempfile::tempdir().context("cannot create a folder for a cluster")?;
        let base = folder.path().to_owned();
        let certs = base.join("certs");
        let (routers, sidecars) = (options.routers.to_string(), options.sidecars.to_string());
        let mut make = Command::new(binary::conveyorctl()?);
        make.args(["certs", "--routers", &routers, "--sidecars", &sidecars, "--out"]).arg(&certs);
        succeed(&mut make).context("no certificates")?;
        let n = options.routers as usize;
        let ports = free_ports(2 * n + 2 * options.sidecars as usize)?;
        let (grpc, rest) = ports.split_at(n);
        let (http, rest) = rest.split_at(n);
        let (flight, probes) = rest.split_at(options.sidecars as usize);
        let address = |port: &u16| format!("127.0.0.1:{port}");
        let peers: Vec<String> =
            grpc.iter().enumerate().map(|(i, p)| format!("{}={}", i + 1, address(p))).collect();
        let shared = |name: &str| {
            let mut all = options.settings.clone();
            let file = |ending: &str| certs.join(format!("{name}.{ending}")).display().to_string();
            all.extend([
                ("CONVEYOR_STORE".to_owned(), base.join("store").display().to_string()),
                ("TLS_CA".to_owned(), certs.join("ca.crt").display().to_string()),
                ("TLS_CERT".to_owned(), file("crt")),
                ("TLS_KEY".to_owned(), file("key")),
                ("TOKENS_FILE".to_owned(), certs.join("tokens").display().to_string()),
            ]);
            all
        };
        let log = |name: &str| base.join(format!("{name}.log"));
        let mut cluster = Self {
            endpoints: http.iter().map(|p| format!("https://{}", address(p))).collect(),
            routers: Vec::new(),
            sidecars: Vec::new(),
            folder,
        };
        for id in 1..=n {
            let name = format!("router-{id}");
            let mut settings = shared(&name);
            settings.extend([
                ("RAFT_NODE_ID".to_owned(), id.to_string()),
                ("RAFT_PEERS".to_owned(), peers.join(",")),
                ("GRPC_PORT".to_owned(), grpc[id - 1].to_string()),
                ("HTTP_PORT".to_owned(), http[id - 1].to_string()),
                ("DATA_DIR".to_owned(), base.join(&name).display().to_string()),
            ]);
            let process = Process::new(&name, "router", settings, log(&name), work_dir);
            cluster.routers.push(process);
        }
        let endpoint = grpc.iter().map(address).collect::<Vec<_>>().join(",");
        for (i, port) in flight.iter().enumerate() {
            let name = format!("sidecar-{}", i + 1);
            let mut settings = shared(&name);
            settings.extend([
                ("SIDECAR_ID".to_owned(), name.clone()),
                ("CLUSTER_ENDPOINT".to_owned(), endpoint.clone()),
                ("GRPC_PORT".to_owned(), port.to_string()),
                ("HTTP_PORT".to_owned(), probes[i].to_string()),
                ("WORKER_THREADS".to_owned(), "1".to_owned()),
            ]);
            let process = Process::new(&name, "sidecar", settings, log(&name), work_dir);
            cluster.sidecars.push(process);
        }
        for process in cluster.routers.iter_mut().chain(&mut cluster.sidecars) {
            process.start()?;
        }
        cluster.ready()?;
        Ok(cluster)
    }

    /// Waits until a router leads and all sidecars are attached.
    ///
    /// # Errors
    /// When that takes too long.
    pub fn ready(&self) -> Result<()> {
        self.wait("a leader with all sidecars", |c| {
            let alive = c.get("/v1/sidecars").ok()?;
            let alive = alive["items"].as_array()?.iter().filter(|s| s["attached"] == true).count();
            (alive == c.sidecars.len()).then_some(())
        })
    }

    /// The folder of the cluster: data, store, certificates, logs.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A file that `conveyorctl certs` made.
    pub fn cert(&self, name: &str) -> PathBuf {
        self.folder.path().join("certs").join(name)
    }

    /// REST endpoints of the routers.
    pub fn endpoints(&self) -> &[String] {
        &self.endpoints
    }

    /// `conveyorctl` as an admin of this cluster.
    ///
    /// # Errors
    /// When there is no binary.
    pub fn ctl(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = Command::new(binary::conveyorctl()?);
        command
            .args(arguments)
            .env("CONVEYOR_ENDPOINT", self.endpoints.join(","))
            .env("CONVEYOR_CA", self.cert("ca.crt"))
            .env("CONVEYOR_TOKEN_FILE", self.cert("admin.token"));
        Ok(command)
    }

    /// Runs `conveyorctl` and expects that it succeeds.
    ///
    /// # Errors
    /// When it does not.
    pub fn run(&self, arguments: &[&str]) -> Result<Output> {
        succeed(&mut self.ctl(arguments)?)
    }

    /// Applies a manifest.
    ///
    /// # Errors
    /// When it is refused.
    pub fn apply(&self, manifest: &Path) -> Result<()> {
        self.run(&["apply", "-f", &manifest.display().to_string()]).map(drop)
    }

    /// A document of the REST API.
    ///
    /// # Errors
    /// When no router answers.
    pub fn get(&self, path: &str) -> Result<Value> {
        let output = self.run(&["api", path])?;
        serde_json::from_slice(&output.stdout).context("the answer is no JSON")
    }

    /// Status of a pipeline of the namespace `default`.
    ///
    /// # Errors
    /// When no router answers.
    pub fn status(&self, pipeline: &str) -> Result<Value> {
        self.get(&format!("/v1/pipelines/default/{pipeline}/status"))
    }

    /// Waits until something holds, and gives what it found.
    ///
    /// # Errors
    /// When it does not in time, with the ends of all logs.
    pub fn wait<T>(&self, what: &str, mut holds: impl FnMut(&Self) -> Option<T>) -> Result<T> {
        let began = now();
        loop {
            if let Some(found) = holds(self) {
                return Ok(found);
            }
            if began.elapsed() > PATIENCE {
                bail!("{what}: not within {PATIENCE:?}\n{}", self.logs());
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Waits until a pipeline is in a phase.
    ///
    /// # Errors
    /// When it fails, or the phase does not come in time.
    pub fn wait_phase(&self, pipeline: &str, phase: &str) -> Result<Value> {
        let found = self.wait(&format!("{pipeline} is {phase}"), |c| {
            let status = c.status(pipeline).ok()?;
            let now = status["phase"].as_str()?;
            (now == phase || now == "failed").then_some(status)
        })?;
        ensure!(found["phase"] == phase, "{pipeline} has failed: {found:#}\n{}", self.logs());
        Ok(found)
    }

    /// The router that leads, by its place in `routers`.
    ///
    /// # Errors
    /// When no router says who leads.
    pub fn leader(&self) -> Result<usize> {
        let leader = self.wait("a leader", |c| c.get("/v1/cluster").ok()?["leader"].as_u64())?;
        Ok(leader as usize - 1)
    }

    /// The ends of all logs.
    pub fn logs(&self) -> String {
        self.routers.iter().chain(&self.sidecars).map(Process::tail).collect()
    }
}

/// Monotonic time for waits of tests.
#[allow(clippy::disallowed_methods, reason = "tests of processes wait in real time")]
pub fn now() -> Instant {
    Instant::now()
}
