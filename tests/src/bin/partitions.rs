//! Tries the cases of `conveyor_tests::partitions` and prints what was measured as a table.
//!
//! `partitions [--seeds N] [--case NAME]`

use anyhow::{Context, Result, bail};
use conveyor_tests::partitions::{CASES, Partitions};

fn main() -> Result<()> {
    let (mut seeds, mut only) = (1, None);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().with_context(|| format!("{argument} needs a value"));
        match argument.as_str() {
            "--seeds" => seeds = value()?.parse().context("--seeds takes a number")?,
            "--case" => only = Some(value()?),
            other => bail!("unknown option {other}"),
        }
    }
    say("| case | seed | new leader | end of the job |\n|---|---|---|---|");
    for seed in 1..=seeds {
        let mut partitions = Partitions::new(seed)?;
        for case in CASES.iter().filter(|c| only.as_ref().is_none_or(|o| *o == format!("{c:?}"))) {
            let seen = partitions.try_case(*case)?;
            let leader = seen.new_leader.map_or("-".to_owned(), |t| format!("{:.1} s", t.as_secs_f64()));
            say(&format!("| {case:?} | {seed} | {leader} | {:.1} s |", seen.finished.as_secs_f64()));
        }
    }
    Ok(())
}

#[allow(clippy::print_stdout, reason = "the table is this program's output")]
fn say(line: &str) {
    println!("{line}");
}
