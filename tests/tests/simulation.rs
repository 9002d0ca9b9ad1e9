//! Clusters in simulation: seeds that must hold, seeds that repeat, planted bugs that must be found.

use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use conveyor_model::planted::BUGS;
use serde_json::Value;

/// Seeds within which every planted bug is found: some more than `docs/reliability.md` says.
const ENOUGH: &str = "40";
/// Seeds of the ordinary run.
const SEEDS: u64 = 300;

fn simulate(arguments: &[&str]) -> Result<Output> {
    Command::new(env!("CARGO_BIN_EXE_simulate")).args(arguments).output().context("cannot start `simulate`")
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn whatever_fails_nothing_is_lost_or_written_twice() -> Result<()> {
    let output = simulate(&["--seeds", &SEEDS.to_string()])?;
    ensure!(output.status.success(), "{}", text(&output));
    Ok(())
}

#[test]
fn a_seed_repeats() -> Result<()> {
    for seed in ["3", "14"] {
        let run = || -> Result<Value> {
            let output = simulate(&["--seed", seed])?;
            serde_json::from_slice(&output.stdout).with_context(|| text(&output))
        };
        let (first, second) = (run()?, run()?);
        ensure!(first == second, "seed {seed} went so: {first}\nand so: {second}");
        ensure!(first["events"].as_u64() > Some(100), "the record is of something: {first}");
    }
    Ok(())
}

#[test]
fn planted_bugs_are_found() -> Result<()> {
    for (bug, what) in BUGS {
        let output = simulate(&["--bug", bug, "--until-found", "--seeds", ENOUGH])?;
        ensure!(output.status.code() == Some(1), "{bug} ({what}): {}", text(&output));
    }
    Ok(())
}
