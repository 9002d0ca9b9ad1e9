//! What came of the cells, line by line in a file, so that a long run goes on after an interruption; and the table of it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::{Cell, Fault, PHASES, ROLES, Seen};

/// What came of one cell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Line {
    phase: String,
    role: String,
    fault: String,
    seed: u64,
    /// Seconds from the end of the fault to the end of the job, where the output was right.
    recovered: Option<f64>,
    /// The moment came.
    happened: bool,
    /// Why it was not right, or that it was late.
    failure: Option<String>,
}

impl Line {
    fn is(&self, cell: &Cell) -> bool {
        self.phase == cell.phase.name
            && self.role == cell.role.name()
            && self.fault == cell.fault.name()
            && self.seed == cell.seed
    }

    fn word(&self) -> String {
        match (self.recovered, self.happened) {
            (Some(seconds), true) if self.failure.is_some() => format!("{seconds:.1} (late)"),
            (Some(seconds), true) => format!("{seconds:.1}"),
            (Some(_), false) => "not come".to_owned(),
            (None, _) => "FAILED".to_owned(),
        }
    }
}

/// The record of a matrix.
pub struct Record {
    path: Option<PathBuf>,
    lines: Vec<Line>,
}

impl Record {
    /// The record in a file, which need not exist; one that is not kept without a file.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn open(path: Option<&Path>) -> Result<Self> {
        let text = match path {
            Some(path) if path.exists() => {
                std::fs::read_to_string(path).context("the record cannot be read")?
            }
            _ => String::new(),
        };
        let lines = text.lines().map(serde_json::from_str).collect::<Result<_, _>>();
        Ok(Self { path: path.map(Path::to_owned), lines: lines.context("this is no record")? })
    }

    /// Whether a cell was tried and need not be tried again: its moment came, its output was right and in time. Or whatever came
    /// of it.
    pub fn has(&self, cell: &Cell, whatever: bool) -> bool {
        self.newest().any(|l| l.is(cell) && (whatever || (l.failure.is_none() && l.happened)))
    }

    /// The newest line of each cell: it takes the place of earlier ones.
    fn newest(&self) -> impl Iterator<Item = &Line> {
        let key = |l: &&Line| (l.phase.clone(), l.role.clone(), l.fault.clone(), l.seed);
        self.lines.iter().map(|l| (key(&l), l)).collect::<BTreeMap<_, _>>().into_values()
    }

    /// Cells whose last try failed.
    pub fn failed(&self) -> usize {
        self.newest().filter(|l| l.failure.is_some()).count()
    }

    /// Notes what came of a cell; what was noted of it before counts no more.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn note(&mut self, cell: &Cell, seen: Result<Seen, String>) -> Result<()> {
        let line = Line {
            phase: cell.phase.name.to_owned(),
            role: cell.role.name().to_owned(),
            fault: cell.fault.name().to_owned(),
            seed: cell.seed,
            recovered: seen.as_ref().ok().map(|s| s.recovered.as_secs_f64()),
            happened: seen.as_ref().is_ok_and(|s| s.happened),
            // What follows the first line are the ends of logs.
            failure: match seen {
                Ok(seen) => seen.is_late().then(|| "late".to_owned()),
                Err(why) => Some(why.lines().next().unwrap_or_default().to_owned()),
            },
        };
        self.lines.retain(|l| !l.is(cell));
        if let Some(path) = &self.path {
            let mut file = OpenOptions::new().create(true).append(true).open(path)?;
            writeln!(file, "{}", serde_json::to_string(&line)?)?;
        }
        self.lines.push(line);
        Ok(())
    }

    /// The table of all cells, in Markdown: seconds from the end of the fault to the end of the job, seed by seed.
    pub fn table(&self) -> String {
        let words = |phase: &str, role: &str, fault: Fault| {
            let of = |l: &&Line| {
                (l.phase.as_str(), l.role.as_str(), l.fault.as_str()) == (phase, role, fault.name())
            };
            let all: Vec<String> = self.newest().filter(of).map(Line::word).collect();
            if all.is_empty() { "-".to_owned() } else { all.join(", ") }
        };
        let mut text = String::from("| phase |");
        for role in ROLES {
            write!(text, " {} |", role.name()).expect("a string takes everything");
        }
        text.push_str(&format!("\n|---|{}\n", "---|".repeat(ROLES.len())));
        for phase in PHASES {
            write!(text, "| {} |", phase.name).expect("a string takes everything");
            for role in ROLES {
                let kill = words(phase.name, role.name(), Fault::Kill);
                let zombie = words(phase.name, role.name(), Fault::Zombie);
                write!(text, " {kill} / {zombie} |").expect("a string takes everything");
            }
            text.push('\n');
        }
        text
    }

    /// How many cells there are of each kind, as a sentence.
    pub fn sum(&self) -> String {
        let count = |wanted: fn(&Line) -> bool| self.newest().filter(|l| wanted(l)).count();
        format!(
            "{} cells tried: {} with the same output ({} of them late), in {} more the moment did not come, {} failed",
            count(|_| true),
            count(|l| l.recovered.is_some() && l.happened),
            count(|l| l.recovered.is_some() && l.happened && l.failure.is_some()),
            count(|l| l.recovered.is_some() && !l.happened),
            count(|l| l.recovered.is_none()),
        )
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::matrix::{phase_named, role_named};

    #[test]
    fn a_record_is_read_again_and_its_newest_lines_count() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("record");
        let cell = |seed| Cell {
            role: role_named("sink").unwrap(),
            phase: phase_named("applying").unwrap(),
            fault: Fault::Zombie,
            seed,
        };
        let mut record = Record::open(Some(&path)).unwrap();
        record.note(&cell(1), Err("lost a row".into())).unwrap();
        record.note(&cell(2), Ok(Seen { happened: true, recovered: Duration::from_millis(1_260) })).unwrap();
        assert!(record.has(&cell(1), true) && !record.has(&cell(1), false) && record.has(&cell(2), false));
        let row =
            |record: &Record| record.table().lines().find(|l| l.contains("applying")).unwrap().to_owned();
        assert_eq!(row(&record), "| applying | - / - | - / - | - / FAILED, 1.3 | - / - | - / - | - / - |");
        let mut again = Record::open(Some(&path)).unwrap();
        assert_eq!(row(&again), row(&record));
        again.note(&cell(1), Ok(Seen { happened: false, recovered: Duration::ZERO })).unwrap();
        let third = Record::open(Some(&path)).unwrap();
        assert_eq!(row(&third), "| applying | - / - | - / - | - / not come, 1.3 | - / - | - / - | - / - |");
        assert!(third.sum().starts_with("2 cells tried: 1 with"), "{}", third.sum());
    }
}
