//! What an operator does to a cluster: new routers, lost disks, a new cluster in place of one that is lost.

use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{Cluster, Process, free_ports};
use crate::binary;
use crate::failure::succeed;

impl Cluster {
    /// A router that belongs to no cluster yet, not started, with a number of its own and an empty directory; and the address of
    /// its gRPC service.
    ///
    /// # Errors
    /// When there is no certificate for it.
    pub fn spare_router(&self, id: u32, work_dir: &Path) -> Result<(Process, String)> {
        let name = format!("router-{id}");
        let mut make = Command::new(binary::conveyorctl()?);
        let sidecars = self.sidecars.len().to_string();
        make.args(["certs", "--renew", "--routers", &id.to_string(), "--sidecars", &sidecars, "--out"]);
        succeed(make.arg(self.folder().join("certs"))).context("no certificates")?;
        let (ports, reserved) = free_ports(2)?;
        drop(reserved);
        let mut settings = self.routers[0].settings().to_vec();
        settings.retain(|(key, _)| key != "RAFT_PEERS");
        let file = |ending: &str| self.cert(&format!("{name}.{ending}")).display().to_string();
        for (key, value) in [
            ("RAFT_NODE_ID", id.to_string()),
            ("GRPC_PORT", ports[0].to_string()),
            ("HTTP_PORT", ports[1].to_string()),
            ("DATA_DIR", self.folder().join(&name).display().to_string()),
            ("TLS_CERT", file("crt")),
            ("TLS_KEY", file("key")),
        ] {
            settings.retain(|(known, _)| known != key);
            settings.push((key.to_owned(), value));
        }
        let log = self.folder().join(format!("{name}.log"));
        let process = Process::new(&name, "router", settings, log, work_dir);
        Ok((process, format!("127.0.0.1:{}", ports[0])))
    }

    /// Deletes the data directory of a router that does not run.
    ///
    /// # Errors
    /// When it runs, or the directory cannot be deleted.
    pub fn lose_disk(&self, router: usize) -> Result<()> {
        let router = &self.routers[router];
        ensure!(router.id().is_none(), "{} runs", router.name());
        std::fs::remove_dir_all(self.folder().join(router.name())).context("the directory stays")
    }

    /// Kills everything, deletes the directories of all routers, and starts everything with these settings more.
    ///
    /// # Errors
    /// When the new cluster is not ready in time.
    pub fn lose_all_routers(&mut self, more: &[(&str, &str)]) -> Result<()> {
        for process in self.routers.iter_mut().chain(&mut self.sidecars) {
            process.kill()?;
        }
        for router in 0..self.routers.len() {
            self.lose_disk(router)?;
        }
        for process in self.routers.iter_mut().chain(&mut self.sidecars) {
            process.start_with(more)?;
        }
        self.ready()
    }

    /// Runs `conveyorctl` and expects that it is refused: its exit code and what it said.
    ///
    /// # Errors
    /// When it succeeds, or cannot be started.
    pub fn refused(&self, arguments: &[&str]) -> Result<(Option<i32>, String)> {
        let output: Output = self.ctl(arguments)?.output()?;
        ensure!(!output.status.success(), "{arguments:?} was done");
        Ok((output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned()))
    }

    /// Runs `conveyorctl … -o json`.
    ///
    /// # Errors
    /// When it fails, or what it prints is no JSON.
    pub fn json(&self, arguments: &[&str]) -> Result<Value> {
        let output = self.run(&[arguments, &["-o", "json"]].concat())?;
        serde_json::from_slice(&output.stdout).with_context(|| format!("{arguments:?} prints no JSON"))
    }
}
