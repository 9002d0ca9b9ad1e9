//! Simulates clusters: `simulate --seeds 300 --from 0`, one process a seed, and `simulate --seed 7 --verbose` for one.
//!
//! A seed decides everything: the pipeline, the order of events, chance in all libraries, and what goes wrong when. A seed
//! that fails fails again in the same way.

mod chance;
mod cluster;
mod faults;
mod log;
mod many;
mod net;
mod plan;
mod source;
mod target;
mod watch;
mod world;

use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use crate::many::Wanted;

/// What is asked for.
#[derive(Default)]
struct Arguments {
    seed: Option<u64>,
    verbose: bool,
    table: bool,
    wanted: Wanted,
}

fn arguments() -> Result<Arguments> {
    let mut found = Arguments::default();
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().with_context(|| format!("{word} needs a value"));
        match word.as_str() {
            "--seed" => found.seed = Some(value()?.parse()?),
            "--seeds" => found.wanted.seeds = value()?.parse()?,
            "--from" => found.wanted.from = value()?.parse()?,
            "--jobs" => found.wanted.jobs = value()?.parse()?,
            "--bug" => found.wanted.bug = Some(value()?),
            "--until-found" => found.wanted.until_found = true,
            "--verbose" => found.verbose = true,
            "--table" => found.table = true,
            other => bail!(
                "{other} is not known: --seeds N --from M --jobs J --bug NAME, or --seed N --verbose, or --table"
            ),
        }
    }
    Ok(found)
}

fn main() -> Result<ExitCode> {
    let arguments = arguments()?;
    if let Some(seed) = arguments.seed {
        return one(seed, &arguments);
    }
    if arguments.table {
        return many::table(&arguments.wanted);
    }
    many::run(&arguments.wanted)
}

/// Runs one seed in this process and prints how it went, as JSON.
fn one(seed: u64, arguments: &Arguments) -> Result<ExitCode> {
    if let Some(bug) = &arguments.wanted.bug
        && let Err(name) = conveyor_model::planted::plant(bug)
    {
        bail!("there is no planted bug {name}");
    }
    conveyor_model::simulation::enter(seed);
    let log = log::install();
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        before(info);
        let payload = info.payload();
        let text = payload.downcast_ref::<String>().map(String::as_str);
        world::panicked(text.or(payload.downcast_ref::<&str>().copied()).unwrap_or_default());
    }));
    let report = cluster::run(seed, arguments.verbose);
    drop(log);
    let text = serde_json::to_string(&report)?;
    let mut out = std::io::stdout().lock();
    std::io::Write::write_all(&mut out, format!("{text}\n").as_bytes())?;
    // The threads and tasks of a simulation end with the process.
    std::process::exit(i32::from(!report.violations.is_empty()));
}
