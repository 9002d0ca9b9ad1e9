//! Tries cells of the fault matrix, keeps a record of them, and writes the table of `docs/reliability.md`.
//!
//! `fault-matrix [--seeds N] [--first-seed N] [--role NAME] [--phase NAME] [--kills-only] [--record FILE [--again]]` tries what the record does not
//! have yet (with `--again`, also what failed, was late, or whose moment did not come); `fault-matrix --table --record FILE` only writes the table.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use conveyor_tests::matrix::{Cell, Fault, Matrix, PHASES, ROLES, Record};

/// What is asked for.
struct Asked {
    seeds: std::ops::Range<u64>,
    role: Option<String>,
    phase: Option<String>,
    faults: Vec<Fault>,
    record: Option<PathBuf>,
    again: bool,
    table: bool,
}

fn asked() -> Result<Asked> {
    let (mut first, mut seeds) = (1, 3);
    let faults = vec![Fault::Kill, Fault::Zombie];
    let mut asked =
        Asked { seeds: 0..0, role: None, phase: None, faults, record: None, again: false, table: false };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().with_context(|| format!("{argument} needs a value"));
        match argument.as_str() {
            "--seeds" => seeds = value()?.parse().context("--seeds takes a number")?,
            "--first-seed" => first = value()?.parse().context("--first-seed takes a number")?,
            "--role" => asked.role = Some(value()?),
            "--phase" => asked.phase = Some(value()?),
            "--kills-only" => asked.faults = vec![Fault::Kill],
            "--record" => asked.record = Some(value()?.into()),
            "--again" => asked.again = true,
            "--table" => asked.table = true,
            other => bail!("unknown option {other}"),
        }
    }
    asked.seeds = first..first + seeds;
    Ok(asked)
}

impl Asked {
    /// All cells that are asked for, seed by seed.
    fn cells(&self) -> Vec<Cell> {
        let mut all = Vec::new();
        for seed in self.seeds.clone() {
            for phase in PHASES.iter().filter(|p| self.phase.as_deref().is_none_or(|n| n == p.name)) {
                for role in ROLES.iter().filter(|r| self.role.as_deref().is_none_or(|n| n == r.name())) {
                    for fault in &self.faults {
                        all.push(Cell { role: *role, phase, fault: *fault, seed });
                    }
                }
            }
        }
        all
    }
}

fn main() -> Result<()> {
    let asked = asked()?;
    let mut record = Record::open(asked.record.as_deref())?;
    if !asked.table {
        try_cells(&asked, &mut record)?;
    }
    say(&record.table());
    say(&format!("{}.", record.sum()));
    match record.failed() {
        0 => Ok(()),
        failed => bail!("{failed} cells failed or were late"),
    }
}

fn try_cells(asked: &Asked, record: &mut Record) -> Result<()> {
    let mut current: Option<(u64, Matrix)> = None;
    let cells = asked.cells();
    for cell in cells.iter() {
        if record.has(cell, !asked.again) {
            continue;
        }
        let mut matrix = match current.take() {
            Some((seed, matrix)) if seed == cell.seed && matrix.can_try(cell.phase) => matrix,
            _ => Matrix::new(cell.seed)?,
        };
        let came = matrix.try_cell(cell).map_err(|error| format!("{error:#}"));
        match &came {
            Ok(seen) if seen.happened => eprintln!("{cell}: {:.1} s", seen.recovered.as_secs_f64()),
            Ok(_) => eprintln!("{cell}: the moment did not come"),
            Err(why) => {
                eprintln!("{cell}: FAILED: {}", why.lines().next().unwrap_or_default());
                if let Some(file) = &asked.record {
                    let name: String =
                        cell.to_string().chars().map(|c| if c.is_alphanumeric() { c } else { '-' }).collect();
                    matrix.keep_logs(&file.with_extension("failures").join(name))?;
                }
            }
        }
        // What is left of a failed cell must not disturb the next one.
        current = came.is_ok().then_some((cell.seed, matrix));
        record.note(cell, came)?;
    }
    Ok(())
}

#[allow(clippy::print_stdout, reason = "the table is this program's output")]
fn say(line: &str) {
    println!("{line}");
}
