//! A process of a cluster that can be killed, stopped and started again with the same settings.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::binary;

/// Lines of a log that are shown when something goes wrong.
const TAIL: usize = 25;

/// A router or a sidecar.
pub struct Process {
    name: String,
    verb: &'static str,
    settings: Vec<(String, String)>,
    log: PathBuf,
    work_dir: PathBuf,
    child: Option<Child>,
}

impl Process {
    pub(super) fn new(
        name: &str,
        verb: &'static str,
        settings: Vec<(String, String)>,
        log: PathBuf,
        work_dir: &Path,
    ) -> Self {
        Self { name: name.to_owned(), verb, settings, log, work_dir: work_dir.to_owned(), child: None }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its settings, as variables of the environment.
    pub fn settings(&self) -> &[(String, String)] {
        &self.settings
    }

    /// Starts it, as it was started before if it was.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(&mut self) -> Result<()> {
        self.start_with(&[])
    }

    /// Starts it with more settings than usual: a crash point, say.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_with(&mut self, more: &[(&str, &str)]) -> Result<()> {
        ensure!(self.child.is_none(), "{} runs already", self.name);
        let log = OpenOptions::new().create(true).append(true).open(&self.log).context("no log file")?;
        let child = Command::new(binary::conveyorctl()?)
            .arg("-v")
            .arg(self.verb)
            .envs(self.settings.iter().map(|(k, v)| (k, v)))
            .envs(more.iter().copied())
            .current_dir(&self.work_dir)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("{} cannot be started", self.name))?;
        self.child = Some(child);
        Ok(())
    }

    /// Kills it (`SIGKILL`) and waits until it is gone.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill(&mut self) -> Result<()> {
        let mut child = self.child.take().with_context(|| format!("{} does not run", self.name))?;
        child.kill().with_context(|| format!("{} cannot be killed", self.name))?;
        child.wait().map(drop).context("a killed process is not gone")
    }

    /// Sends it a signal by name: `STOP`, `CONT`, `TERM`.
    ///
    /// # Errors
    /// When it does not run.
    pub fn signal(&self, name: &str) -> Result<()> {
        let child = self.child.as_ref().with_context(|| format!("{} does not run", self.name))?;
        let sent = Command::new("kill").args(["-s", name, &child.id().to_string()]).status()?;
        ensure!(sent.success(), "{} does not take {name}", self.name);
        Ok(())
    }

    /// Whether it has ended by itself; then it can be started again.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn has_ended(&mut self) -> Result<bool> {
        let Some(child) = &mut self.child else { return Ok(true) };
        let ended = child.try_wait()?.is_some();
        if ended {
            self.child = None;
        }
        Ok(ended)
    }

    /// Its process id while it runs.
    pub fn id(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// All of its log.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The end of its log, under its name.
    pub fn tail(&self) -> String {
        let text = self.log();
        let lines: Vec<&str> = text.lines().collect();
        format!("--- {}\n{}\n", self.name, lines[lines.len().saturating_sub(TAIL)..].join("\n"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself; then there is nothing to kill.
            drop(child.kill());
            drop(child.wait());
        }
    }
}
