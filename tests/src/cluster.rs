//! A cluster of real processes on loopback with TLS: routers and sidecars that a test starts, kills, stops and looks at.

mod network;
mod operate;
mod process;
mod rest;

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tempfile::TempDir;

use crate::binary;
use crate::failure::succeed;
pub use network::{Faults, Network};
pub use process::Process;
pub use rest::Rest;

/// Longest wait for anything that a cluster is to do.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Pause between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(40);

/// What a cluster is made of.
#[derive(Debug, Clone)]
pub struct Options {
    /// Routers.
    pub routers: u32,
    /// Sidecars.
    pub sidecars: u32,
    /// Routers that may be added later; they get certificates now.
    pub spare_routers: u32,
    /// More settings of all processes, as variables of the environment.
    pub settings: Vec<(String, String)>,
    /// All processes reach each other by way of a network that can be cut.
    pub faulty_network: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { routers: 3, sidecars: 4, spare_routers: 0, settings: Vec::new(), faulty_network: false }
    }
}

/// A cluster at work. All its processes are killed when it is dropped.
pub struct Cluster {
    folder: TempDir,
    work_dir: PathBuf,
    settings: Vec<(String, String)>,
    endpoints: Vec<String>,
    rest: Rest,
    network: Option<Network>,
    /// The routers, in the order of their ids from 1.
    pub routers: Vec<Process>,
    /// The sidecars, `sidecar-1` first.
    pub sidecars: Vec<Process>,
}

/// Free ports of this moment; nobody else gets them until the listeners are dropped.
fn free_ports(n: usize) -> Result<(Vec<u16>, Vec<TcpListener>)> {
    let listeners = (0..n).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<Vec<_>, _>>()?;
    let ports = listeners.iter().map(|l| Ok(l.local_addr()?.port())).collect::<Result<_>>()?;
    Ok((ports, listeners))
}

fn address(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

impl Cluster {
    /// Makes certificates and starts everything, in a folder of its own; processes run in `work_dir`, which relative paths of
    /// manifests are looked up in.
    ///
    /// # Errors
    /// When a process cannot be started, or the cluster is not ready in time.
    pub fn start(options: &Options, work_dir: &Path) -> Result<Self> {
        let n = options.routers as usize;
        let (ports, reserved) = free_ports(2 * n + 2 * options.sidecars as usize)?;
        let (http, rest) = ports.split_at(n);
        let (grpc, rest) = rest.split_at(n);
        let (flight, probes) = rest.split_at(options.sidecars as usize);
        let endpoints: Vec<String> = http.iter().map(|p| format!("https://{}", address(*p))).collect();
        let mut cluster = Self::without_processes(options, endpoints, work_dir)?;
        let mut reached = Vec::new();
        for (i, port) in grpc.iter().enumerate() {
            reached.push(address(cluster.public(&format!("router-{}", i + 1), *port)?));
        }
        let peers: Vec<String> =
            reached.iter().enumerate().map(|(i, address)| format!("{}={address}", i + 1)).collect();
        for id in 1..=n {
            let ports = (grpc[id - 1], http[id - 1]);
            let router = cluster.router(id, ports, &[("RAFT_PEERS", &peers.join(","))]);
            cluster.routers.push(router);
        }
        for (i, port) in flight.iter().enumerate() {
            let name = format!("sidecar-{}", i + 1);
            let advertised = address(cluster.public(&name, *port)?);
            let settings = [
                ("SIDECAR_ID", name.as_str()),
                ("CLUSTER_ENDPOINT", &reached.join(",")),
                ("GRPC_PORT", &port.to_string()),
                ("HTTP_PORT", &probes[i].to_string()),
                ("ADVERTISE_ADDRESS", &advertised),
                ("WORKER_THREADS", "1"),
                ("LABELS", &format!("name={name}")),
            ];
            let sidecar = cluster.process(&name, "sidecar", &settings);
            cluster.sidecars.push(sidecar);
        }
        drop(reserved);
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

    fn without_processes(options: &Options, endpoints: Vec<String>, work_dir: &Path) -> Result<Self> {
        let folder = tempfile::tempdir().context("cannot create a folder for a cluster")?;
        let certs = folder.path().join("certs");
        let routers = (options.routers + options.spare_routers).to_string();
        let mut make = Command::new(binary::conveyorctl()?);
        make.args(["certs", "--routers", &routers, "--sidecars", &options.sidecars.to_string(), "--out"]);
        succeed(make.arg(&certs)).context("no certificates")?;
        let rest = Rest::new(&endpoints, &certs.join("ca.crt"), &certs.join("admin.token"))?;
        let id = folder.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
        let network = options.faulty_network.then(|| Network::new(&id)).transpose()?;
        Ok(Self {
            folder,
            work_dir: work_dir.to_owned(),
            settings: options.settings.clone(),
            endpoints,
            rest,
            network,
            routers: Vec::new(),
            sidecars: Vec::new(),
        })
    }

    /// The port at which others reach a process that listens at this one.
    fn public(&self, name: &str, port: u16) -> Result<u16> {
        match &self.network {
            Some(network) => network.port(name, port),
            None => Ok(port),
        }
    }

    fn router(&self, id: usize, (grpc, http): (u16, u16), more: &[(&str, &str)]) -> Process {
        let name = format!("router-{id}");
        let data = self.folder.path().join(&name).display().to_string();
        let settings = [
            ("RAFT_NODE_ID", id.to_string()),
            ("GRPC_PORT", grpc.to_string()),
            ("HTTP_PORT", http.to_string()),
            ("DATA_DIR", data),
        ];
        let settings = settings.iter().map(|(k, v)| (*k, v.as_str()));
        self.process(&name, "router", &settings.chain(more.iter().copied()).collect::<Vec<_>>())
    }

    /// A process that is not started yet, with what all processes are told.
    fn process(&self, name: &str, verb: &'static str, own: &[(&str, &str)]) -> Process {
        let base = self.folder.path();
        let cert = |file: &str| self.cert(file).display().to_string();
        let mut settings = self.settings.clone();
        settings.extend([
            ("CONVEYOR_STORE".to_owned(), base.join("store").display().to_string()),
            ("TLS_CA".to_owned(), cert("ca.crt")),
            ("TLS_CERT".to_owned(), cert(&format!("{name}.crt"))),
            ("TLS_KEY".to_owned(), cert(&format!("{name}.key"))),
            ("TOKENS_FILE".to_owned(), cert("tokens")),
        ]);
        settings.extend(self.network.as_ref().map(|network| network.mark(name)));
        settings.extend(own.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
        Process::new(name, verb, settings, base.join(format!("{name}.log")), &self.work_dir)
    }

    /// Starts one more router, which does not take part yet; its id, and where others reach it.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_router(&mut self) -> Result<(u64, String)> {
        let id = self.routers.len() + 1;
        let (ports, reserved) = free_ports(2)?;
        let reached = address(self.public(&format!("router-{id}"), ports[0])?);
        let mut router = self.router(id, (ports[0], ports[1]), &[]);
        drop(reserved);
        router.start()?;
        self.routers.push(router);
        Ok((id as u64, reached))
    }

    /// The network, where it can be cut.
    pub fn network(&self) -> Option<&Network> {
        self.network.as_ref()
    }

    /// One more client of the REST API, for another thread.
    ///
    /// # Errors
    /// When the files of the cluster cannot be read.
    pub fn client(&self) -> Result<Rest> {
        self.client_of(&self.endpoints)
    }

    /// A client of some of the routers.
    ///
    /// # Errors
    /// When the files of the cluster cannot be read.
    pub fn client_of(&self, endpoints: &[String]) -> Result<Rest> {
        Rest::new(endpoints, &self.cert("ca.crt"), &self.cert("admin.token"))
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
        self.rest.get(path)
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

    /// Waits until a pipeline is in a phase; one that is finished, until all of it is published.
    ///
    /// # Errors
    /// When it fails, or the phase does not come in time.
    pub fn wait_phase(&self, pipeline: &str, phase: &str) -> Result<Value> {
        let found = self.wait(&format!("{pipeline} is {phase}"), |c| {
            let status = c.status(pipeline).ok()?;
            let now = status["phase"].as_str()?;
            ((now == phase && (now != "finished" || is_settled(&status))) || now == "failed")
                .then_some(status)
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

/// Whether nothing of a finished pipeline is left to be done: the log calls it finished with its last commit, and says why
/// once that is published and cleaned up behind.
pub fn is_settled(status: &Value) -> bool {
    status["phase"] == "finished" && status["reason"].as_str().is_some_and(|reason| !reason.is_empty())
}

/// Monotonic time for waits of tests.
#[allow(clippy::disallowed_methods, reason = "tests of processes wait in real time")]
pub fn now() -> Instant {
    Instant::now()
}
