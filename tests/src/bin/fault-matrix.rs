//! Tries cells of the fault matrix and prints the table of `docs/reliability.md`.
//!
//! `fault-matrix [--seeds N] [--role NAME] [--phase NAME] [--kills-only]`

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use conveyor_tests::matrix::{Cell, Fault, Matrix, PHASES, ROLES};

fn main() -> Result<()> {
    let (mut seeds, mut role, mut phase, mut faults) = (3, None, None, vec![Fault::Kill, Fault::Zombie]);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().with_context(|| format!("{argument} needs a value"));
        match argument.as_str() {
            "--seeds" => seeds = value()?.parse().context("--seeds takes a number")?,
            "--role" => role = Some(value()?),
            "--phase" => phase = Some(value()?),
            "--kills-only" => faults = vec![Fault::Kill],
            other => bail!("unknown option {other}"),
        }
    }
    let mut failed = 0;
    let mut table: BTreeMap<usize, BTreeMap<usize, Vec<String>>> = BTreeMap::new();
    for seed in 1..=seeds {
        let mut matrix = Matrix::new(seed)?;
        for (p, phase) in
            PHASES.iter().enumerate().filter(|(_, p)| phase.as_deref().is_none_or(|n| n == p.name))
        {
            for (r, role) in
                ROLES.iter().enumerate().filter(|(_, r)| role.as_deref().is_none_or(|n| n == r.name()))
            {
                for fault in &faults {
                    let cell = Cell { role: *role, phase, fault: *fault, seed };
                    let word = match matrix.try_cell(&cell) {
                        Ok(seen) if seen.happened => seconds(seen.recovered),
                        Ok(_) => "not passed".to_owned(),
                        Err(error) => {
                            failed += 1;
                            eprintln!("{cell}: {error:#}");
                            // What is left of a failed cell must not disturb the next one.
                            matrix = Matrix::new(seed)?;
                            "FAILED".to_owned()
                        }
                    };
                    eprintln!("{cell}: {word}");
                    table.entry(p).or_default().entry(r).or_default().push(word);
                }
            }
        }
    }
    let heads: Vec<_> = ROLES.iter().map(|r| r.name()).collect();
    say(&format!("| phase | {} |", heads.join(" | ")));
    say(&format!("|---|{}", "---|".repeat(heads.len())));
    for (p, row) in &table {
        let cells: Vec<String> =
            (0..ROLES.len()).map(|r| row.get(&r).map_or("-".into(), |words| words.join(", "))).collect();
        say(&format!("| {} | {} |", PHASES[*p].name, cells.join(" | ")));
    }
    if failed > 0 {
        bail!("{failed} cells failed");
    }
    Ok(())
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

#[allow(clippy::print_stdout, reason = "the table is this program's output")]
fn say(line: &str) {
    println!("{line}");
}
