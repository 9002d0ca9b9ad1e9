//! Commits per second of a replicated log of three nodes against the fsyncs per second of the disk it lies on.
//!
//! `commits <directory> [pairs] [seconds]`: in turn the bare disk (256 bytes appended, fsync, again) and the cluster, whose nodes
//! share the disk and the machine; medians with minimum and maximum, and the ratio. One epoch is `BeginEpoch` and
//! `CommitEpoch`; only the second is counted.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use conveyor_model::log::{Command, Log, Outcome};
use conveyor_model::manifest::ManifestRef;
use conveyor_model::{Incarnation, PipelineId};
use conveyor_raft::testing::LocalNetwork;
use conveyor_raft::{Identity, Member, ReplicatedLog, Settings};

const PIPELINES: u64 = 1000;

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let dir = arguments.next().context("usage: commits <directory> [pairs] [seconds]")?;
    let pairs: usize = arguments.next().map_or(Ok(5), |n| n.parse())?;
    let seconds: u64 = arguments.next().map_or(Ok(2), |n| n.parse())?;
    let (dir, span) = (tempfile_in(Path::new(&dir))?, Duration::from_secs(seconds));
    let nodes = cluster(&dir).await?;
    let mut starts = tokio::task::JoinSet::new();
    for n in 0..PIPELINES {
        let log = nodes[0].clone();
        starts.spawn(async move { start(&log, n).await });
    }
    while let Some(started) = starts.join_next().await {
        started??;
    }
    let (mut disk, mut log) = (Vec::new(), Vec::new());
    for pair in 0..pairs {
        disk.push(fsyncs(&dir, span)?);
        log.push(commits(&nodes[0], span).await?);
        println!("pair {pair}: {:.0} fsyncs/s, {:.0} commits/s", disk[pair], log[pair]);
    }
    let ratio: Vec<f64> = disk.iter().zip(&log).map(|(d, l)| l / d).collect();
    for (what, mut values) in [("fsyncs/s", disk), ("commits/s", log), ("ratio", ratio)] {
        values.sort_by(f64::total_cmp);
        let (min, median, max) = (values[0], values[values.len() / 2], values[values.len() - 1]);
        println!("{what}: {median:.1} ({min:.1} to {max:.1})");
    }
    for node in &nodes {
        node.shutdown().await;
    }
    std::fs::remove_dir_all(&dir).context("cannot remove the measurement's files")
}

fn tempfile_in(parent: &Path) -> Result<std::path::PathBuf> {
    let dir = parent.join(format!("conveyor-commits-{}", std::process::id()));
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    Ok(dir)
}

/// What the disk can do: small appends, each made durable.
#[allow(clippy::disallowed_methods, reason = "a measurement reads the machine's clock")]
fn fsyncs(dir: &Path, span: Duration) -> Result<f64> {
    let mut file = OpenOptions::new().create(true).append(true).open(dir.join("fsync"))?;
    let (started, mut done) = (Instant::now(), 0u32);
    while started.elapsed() < span {
        file.write_all(&[7; 256])?;
        file.sync_data()?;
        done += 1;
    }
    Ok(f64::from(done) / started.elapsed().as_secs_f64())
}

async fn cluster(dir: &Path) -> Result<Vec<Arc<ReplicatedLog>>> {
    let network = LocalNetwork::new(1);
    let mut nodes = Vec::new();
    for id in 1..=3 {
        let path = dir.join(id.to_string());
        let identity = Identity { cluster: "bench".into(), node: id, disk: format!("disk-{id}") };
        ReplicatedLog::create_dir(&path, &identity)?;
        let node = Arc::new(ReplicatedLog::open(&path, Settings::default(), network.transport(id)).await?);
        network.attach(&node);
        nodes.push(node);
    }
    let members: Vec<Member> = (1..=3).map(|id| Member { id, address: id.to_string() }).collect();
    nodes[0].bootstrap(&members).await?;
    nodes[0].list().await?;
    Ok(nodes)
}

fn pipeline(n: u64) -> PipelineId {
    PipelineId::new("bench", format!("p{n}"))
}

fn object(n: u64) -> ManifestRef {
    ManifestRef { key: format!("pipelines/bench/manifests/{n}.json"), sha256: format!("{n:064x}") }
}

async fn start(log: &ReplicatedLog, n: u64) -> Result<()> {
    log.propose(Command::PutPlan {
        pipeline: pipeline(n),
        plan: object(n),
        expect_version: 0,
        reset: false,
        at_us: 0,
    })
    .await?;
    let expect = Incarnation(0);
    log.propose(Command::NewIncarnation {
        pipeline: pipeline(n),
        expect,
        assignment: "bench".into(),
        at_us: 0,
    })
    .await?;
    Ok(())
}

/// Every pipeline commits one epoch after the other, all at once; how many a second.
#[allow(clippy::disallowed_methods, reason = "a measurement reads the machine's clock")]
async fn commits(log: &Arc<ReplicatedLog>, span: Duration) -> Result<f64> {
    let started = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..PIPELINES {
        let log = log.clone();
        tasks.spawn(async move {
            let mut done = 0u64;
            while started.elapsed() < span {
                epoch(&log, n).await?;
                done += 1;
            }
            anyhow::Ok(done)
        });
    }
    let mut done = 0;
    while let Some(task) = tasks.join_next().await {
        done += task??;
    }
    Ok(done as f64 / started.elapsed().as_secs_f64())
}

async fn epoch(log: &ReplicatedLog, n: u64) -> Result<()> {
    let incarnation = Incarnation(1);
    let begun = log.propose(Command::BeginEpoch { pipeline: pipeline(n), incarnation }).await?;
    let Outcome::Begun(epoch) = begun else { anyhow::bail!("no epoch: {begun:?}") };
    let commit = Command::CommitEpoch {
        pipeline: pipeline(n),
        version: 1,
        incarnation,
        epoch,
        parent: (epoch.0 > 1).then(|| conveyor_model::Epoch(epoch.0 - 1)),
        manifest: object(epoch.0),
        watermark: None,
        last: false,
        at_us: 0,
    };
    let outcome = log.propose(commit).await?;
    ensure!(outcome == Outcome::Done, "not committed: {outcome:?}");
    Ok(())
}
