//! Kills a running pipeline again and again, and compares what it published with an undisturbed run.
//!
//! Two kinds of death: `SIGKILL` at seeded random moments, and an abort at a named place in the code (a crash point, just
//! before or after a durable step). Between deaths nothing is cleaned up or repaired by hand.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;
use tempfile::TempDir;

use crate::failure::succeed;
use crate::servers::s3::S3;
use crate::traffic::{self, Mode, Shape};
use crate::{binary, oracle};

/// Longest time that a run may take before it counts as hung.
const PATIENCE: Duration = Duration::from_secs(120);

/// Input files and what an undisturbed run makes of them.
pub struct Reference {
    mode: Mode,
    shape: Shape,
    folder: TempDir,
    /// Where the killed runs write, if not into a folder.
    bucket: Option<(S3, String)>,
    /// How long the undisturbed run took.
    pub took: Duration,
}

impl Reference {
    /// Makes the input of `seed` and runs the pipeline over it once, undisturbed.
    ///
    /// # Errors
    /// When the run fails.
    pub fn new(mode: Mode, rows: usize, seed: u64) -> Result<Self> {
        Self::shaped(mode, Shape::default(), rows, seed)
    }

    /// As [`Reference::new`], with a pipeline of another shape.
    ///
    /// # Errors
    /// When the run fails.
    pub fn shaped(mode: Mode, shape: Shape, rows: usize, seed: u64) -> Result<Self> {
        let folder = tempfile::tempdir().context("cannot create a folder for the reference run")?;
        traffic::write_input(folder.path(), rows, seed)?;
        let began = now();
        let run = Run::new(mode, shape, folder.path(), folder.path())?;
        run.finish().context("the undisturbed run failed")?;
        Ok(Self { mode, shape, folder, bucket: None, took: began.elapsed() })
    }

    /// Runs a pipeline of another shape over the same input and compares what it publishes.
    ///
    /// # Errors
    /// When the run fails, or publishes something else.
    pub fn reshaped(&self, shape: Shape) -> Result<Account> {
        let folder = tempfile::tempdir().context("cannot create a folder for a run")?;
        let run = Run::new(self.mode, shape, self.folder.path(), folder.path())?;
        let output = succeed(run.command()?.args(["-o", "json"]))?;
        self.check(&run)?;
        let summary: Value = serde_json::from_slice(&output.stdout).context("the summary is no JSON")?;
        Account::of(&summary).context("the summary does not tell what became of the rows")
    }

    /// Makes the runs that are killed write their output and dead letters into a bucket of an S3 server.
    ///
    /// # Errors
    /// When the bucket cannot be made.
    pub fn into_bucket(self, server: S3) -> Result<Self> {
        let name = "killed".to_owned();
        server.bucket(&name)?;
        Ok(Self { bucket: Some((server, name)), ..self })
    }

    /// A second pipeline over the same input, with an output of its own.
    fn victim(&self) -> Result<(TempDir, Run)> {
        let folder = tempfile::tempdir().context("cannot create a folder for a run")?;
        let mut run = Run::new(self.mode, self.shape, self.folder.path(), folder.path())?;
        if let Some((server, bucket)) = &self.bucket {
            run.write_into(server, bucket, self.folder.path())?;
        }
        Ok((folder, run))
    }

    /// Compares all outputs and dead letters as multisets.
    fn check(&self, run: &Run) -> Result<()> {
        oracle::judge("same_outputs.py", &[&self.folder.path().join("out"), &run.output]).map(drop)
    }
}

/// What became of the rows of a run.
#[derive(Debug, PartialEq, Eq)]
pub struct Account {
    /// Rows that the sources read.
    pub read: u64,
    /// Rows that the sinks wrote.
    pub out: u64,
    /// Dead letters.
    pub dead: u64,
    /// Rows left out on purpose.
    pub filtered: u64,
}

impl Account {
    fn of(summary: &Value) -> Option<Self> {
        let mut account = Self { read: 0, out: 0, dead: 0, filtered: 0 };
        for node in summary[0]["nodes"].as_array()? {
            let count = |name: &str| node["thisRun"][name].as_u64();
            match node["kind"].as_str()? {
                "source" => account.read += count("rowsIn")?,
                "sink" => account.out += count("rowsOut")?,
                _ => {}
            }
            account.dead += count("deadLetters")?;
            account.filtered += count("filtered")?;
        }
        Some(account)
    }
}

/// One pipeline with its data directory and output.
struct Run {
    mode: Mode,
    shape: Shape,
    manifest: PathBuf,
    data: PathBuf,
    output: PathBuf,
    log: PathBuf,
    /// Variables of the environment.
    environment: Vec<(String, String)>,
}

impl Run {
    fn new(mode: Mode, shape: Shape, input: &Path, folder: &Path) -> Result<Self> {
        let output = folder.join("out");
        let manifest = folder.join("pipeline.yaml");
        std::fs::write(&manifest, traffic::manifest(mode, shape, input, &output.display().to_string()))
            .context("cannot write the manifest")?;
        let (data, log) = (folder.join("data"), folder.join("log"));
        Ok(Self { mode, shape, manifest, data, output, log, environment: Vec::new() })
    }

    /// Turns the output to a prefix of a bucket that no other run uses.
    fn write_into(&mut self, server: &S3, bucket: &str, input: &Path) -> Result<()> {
        static RUNS: AtomicUsize = AtomicUsize::new(0);
        let prefix = format!("run-{}", RUNS.fetch_add(1, Ordering::Relaxed));
        let url = format!("s3://{bucket}/{prefix}");
        std::fs::write(&self.manifest, traffic::manifest(self.mode, self.shape, input, &url))
            .context("cannot write the manifest")?;
        self.output = server.folder(bucket).join(prefix);
        let mut command = Command::new("environment");
        server.reach(&mut command);
        let set = command.get_envs().filter_map(|(name, value)| Some((name.to_str()?, value?.to_str()?)));
        self.environment = set.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Ok(())
    }

    fn command(&self) -> Result<Command> {
        let mut command = binary::command()?;
        // Often enough that a short run comes by all that a snapshot does.
        command.env("CONVEYOR_SNAPSHOT_EVERY", "4");
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.arg("run").arg("-f").arg(&self.manifest).arg("--data-dir").arg(&self.data);
        if self.mode == Mode::Streaming {
            command.args(["--drain-when-idle", "1500ms"]);
        }
        Ok(command)
    }

    /// Starts a process that writes what it says into the log file.
    fn start(&self, crash_at: Option<&str>) -> Result<Child> {
        let log = File::create(&self.log).context("cannot create the log file")?;
        let mut command = self.command()?;
        if let Some(point) = crash_at {
            command.env("CONVEYOR_CRASH_AT", point);
        }
        let child = command.stdout(Stdio::null()).stderr(log).spawn();
        child.context("cannot start conveyorctl")
    }

    /// Runs to the end. A job ends by itself; a streaming pipeline is drained when it seems idle, and run again until a run
    /// finds nothing to read, because on a busy machine a source may pause before it is done.
    fn finish(&self) -> Result<()> {
        loop {
            let output = succeed(self.command()?.args(["-o", "json"]))?;
            let summary: Value = serde_json::from_slice(&output.stdout).context("the summary is no JSON")?;
            let nodes = summary[0]["nodes"].as_array().context("the summary names no nodes")?;
            let sources = nodes.iter().filter(|n| n["kind"] == "source");
            let read: u64 = sources.filter_map(|n| n["thisRun"]["rowsIn"].as_u64()).sum();
            if self.mode == Mode::Job || read == 0 {
                return Ok(());
            }
        }
    }

    /// Number of files in the sinks' folders; it grows with every published epoch.
    fn published(&self) -> usize {
        let count = |folder: &str| std::fs::read_dir(self.output.join(folder)).map_or(0, Iterator::count);
        count("big") + count("small")
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

/// The machine's time. Moments of death are real ones: the kernel kills, and no clock of ours can stand in for it.
#[allow(clippy::disallowed_methods)]
pub fn now() -> Instant {
    Instant::now()
}

/// Waits until the process ends, the deadline passes or `stop` says so; `None` says that it still runs.
///
/// # Errors
/// When the process cannot be waited for.
pub fn wait_until(
    child: &mut Child,
    deadline: Instant,
    mut stop: impl FnMut() -> bool,
) -> Result<Option<ExitStatus>> {
    loop {
        if let Some(status) = child.try_wait().context("cannot wait for conveyorctl")? {
            return Ok(Some(status));
        }
        if now() >= deadline || stop() {
            return Ok(None);
        }
        // The moments of death are what is tested, so time itself is the input here.
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// What a series of kills came to.
#[derive(Debug, Default)]
pub struct Kills {
    /// Processes killed while they worked.
    pub kills: usize,
    /// Pipelines that were driven to their end and compared.
    pub rounds: usize,
    /// Of the kills, those that came before the process had published anything.
    pub before_publishing: usize,
}

/// Kills processes at `kills` seeded moments. A pipeline that ends in spite of them is compared and a new one begun.
///
/// # Errors
/// When a run fails, hangs, or publishes something else than the undisturbed run.
pub fn random_kills(reference: &Reference, kills: usize, seed: u64) -> Result<Kills> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut report = Kills::default();
    while report.kills < kills {
        let (_folder, run) = reference.victim()?;
        while report.kills < kills {
            let ended = kill_once(&run, &mut random, &mut report)
                .with_context(|| format!("seed {seed}, after {} kills", report.kills))?;
            if ended {
                break;
            }
        }
        run.finish().with_context(|| format!("seed {seed}: the run after {} kills failed", report.kills))?;
        reference.check(&run).with_context(|| format!("seed {seed}, after {} kills", report.kills))?;
        report.rounds += 1;
    }
    Ok(report)
}

/// One start and one kill; true if the pipeline ended before it could be killed.
fn kill_once(run: &Run, random: &mut ChaCha8Rng, report: &mut Kills) -> Result<bool> {
    let mut child = run.start(None)?;
    let delay = Duration::from_millis(random.random_range(20..600));
    let before = run.published();
    let ended = if random.random_bool(0.5) {
        wait_until(&mut child, now() + delay, || false)?
    } else {
        // A moment shortly after an epoch became visible, when the next ones are under way.
        let seen = wait_until(&mut child, now() + PATIENCE, || run.published() > before)?;
        let delay = delay / 10;
        if seen.is_some() { seen } else { wait_until(&mut child, now() + delay, || false)? }
    };
    if let Some(status) = ended {
        ensure!(status.success(), "conveyorctl ended with {status}:\n{}", run.said());
        return Ok(true);
    }
    child.kill().context("cannot kill conveyorctl")?;
    child.wait().context("cannot wait for the killed conveyorctl")?;
    report.kills += 1;
    report.before_publishing += usize::from(run.published() == before);
    Ok(false)
}

/// Names of all crash points of the tested build.
///
/// # Errors
/// When the binary does not run, or has none.
pub fn crash_points() -> Result<Vec<String>> {
    let output = succeed(binary::command()?.arg("failpoints"))?;
    let names: Vec<_> =
        String::from_utf8_lossy(&output.stdout).split_whitespace().map(String::from).collect();
    ensure!(!names.is_empty(), "the tested build has no crash points");
    Ok(names)
}

/// Dies at the `count`-th passing of a crash point, starts again, finishes and compares. False if the point was not
/// passed so often.
///
/// # Errors
/// When a run fails, hangs, or publishes something else than the undisturbed run.
pub fn crash_at(reference: &Reference, point: &str, count: u32) -> Result<bool> {
    let (_folder, run) = reference.victim()?;
    let mut child = run.start(Some(&format!("{point}:{count}")))?;
    let Some(status) = wait_until(&mut child, now() + PATIENCE, || false)? else {
        child.kill().context("cannot kill conveyorctl")?;
        child.wait().context("cannot wait for the killed conveyorctl")?;
        bail!("crash point {point}:{count}: the run hung:\n{}", run.said());
    };
    let died = !status.success();
    // An abort has no exit code; a code means that the run failed for a reason of its own.
    ensure!(!died || status.code().is_none(), "crash point {point}:{count}: the run failed:\n{}", run.said());
    run.finish().with_context(|| format!("the run after crash point {point}:{count} failed"))?;
    reference.check(&run).with_context(|| format!("crash point {point}:{count}"))?;
    Ok(died)
}
