//! Many seeds: each in a process of its own, so that nothing of one is left for the next.

use std::io::Write;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use anyhow::{Context, Result};
use conveyor_model::planted::BUGS;

use crate::cluster::Report;

/// Which seeds, and with which bug.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) seeds: u64,
    pub(crate) from: u64,
    pub(crate) jobs: u64,
    pub(crate) bug: Option<String>,
    /// Stop at the first seed that fails.
    pub(crate) until_found: bool,
}

impl Default for Wanted {
    fn default() -> Self {
        Self { seeds: 300, from: 0, jobs: 2, bug: None, until_found: false }
    }
}

fn say(text: &str) -> Result<()> {
    writeln!(std::io::stdout().lock(), "{text}").context("cannot print")
}

/// Runs one seed in a process of its own.
fn one(seed: u64, bug: Option<&str>) -> Result<Report> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--seed", &seed.to_string()]).stdin(Stdio::null()).stderr(Stdio::piped());
    if let Some(bug) = bug {
        command.args(["--bug", bug]);
    }
    let output = command.output().context("cannot start a simulation")?;
    let text = String::from_utf8_lossy(&output.stdout);
    match text.lines().last().and_then(|line| serde_json::from_str(line).ok()) {
        Some(report) => Ok(report),
        None => {
            let said = String::from_utf8_lossy(&output.stderr);
            let tail: Vec<&str> = said.lines().rev().take(3).collect();
            Ok(Report::broken(seed, format!("the simulation ended with {}: {tail:?}", output.status)))
        }
    }
}

/// Runs seeds, some at once; those that failed, by seed.
fn all(wanted: &Wanted) -> Result<(u64, Vec<Report>)> {
    let (next, stop) = (AtomicU64::new(wanted.from), AtomicBool::new(false));
    let (end, failed, ran) = (wanted.from + wanted.seeds, Mutex::new(Vec::new()), AtomicU64::new(0));
    let work = || -> Result<()> {
        loop {
            let seed = next.fetch_add(1, Relaxed);
            if seed >= end || stop.load(Relaxed) {
                return Ok(());
            }
            let report = one(seed, wanted.bug.as_deref())?;
            ran.fetch_add(1, Relaxed);
            if !report.violations.is_empty() {
                stop.fetch_or(wanted.until_found, Relaxed);
                failed.lock().expect("nobody panics with it").push(report);
            }
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..wanted.jobs.max(1)).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|w| w.join().expect("a worker panicked"))
    })?;
    let mut failed = failed.into_inner().expect("nobody panics with it");
    failed.sort_by_key(|report| report.seed);
    Ok((ran.into_inner(), failed))
}

/// Runs seeds and says which failed and how to see one again.
pub(crate) fn run(wanted: &Wanted) -> Result<ExitCode> {
    let (ran, failed) = all(wanted)?;
    for report in &failed {
        say(&format!("seed {} failed after {:.1} simulated seconds:", report.seed, report.seconds))?;
        for violation in &report.violations {
            say(&format!("    {violation}"))?;
        }
        let bug = wanted.bug.as_ref().map(|b| format!(" --bug {b}")).unwrap_or_default();
        say(&format!(
            "    again: cargo run -p conveyor-tests --bin simulate -- --seed {}{bug} --verbose",
            report.seed
        ))?;
    }
    say(&format!("{ran} seeds, {} failed", failed.len()))?;
    Ok(if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Prints the table of planted bugs: after how many seeds each is found, and by what.
pub(crate) fn table(wanted: &Wanted) -> Result<ExitCode> {
    say("| bug | what somebody might have written | found after | seen as |\n|---|---|---|---|")?;
    let mut all_found = true;
    for (name, what) in BUGS {
        let wanted = Wanted { bug: Some((*name).to_owned()), until_found: true, ..wanted.clone() };
        let (_, failed) = all(&wanted)?;
        let (after, seen) = match failed.first() {
            Some(report) => {
                let n = report.seed - wanted.from + 1;
                let seeds = if n == 1 { "seed" } else { "seeds" };
                (format!("{n} {seeds}"), report.violations[0].clone())
            }
            None => (format!("not within {}", wanted.seeds), String::new()),
        };
        all_found &= !failed.is_empty();
        let seen: String = seen.chars().take(90).collect();
        say(&format!("| `{name}` | {what} | {after} | {seen} |"))?;
    }
    Ok(if all_found { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
