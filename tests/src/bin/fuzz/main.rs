//! Fuzzing by mutation, on stable Rust and without other tools:
//! `cargo run --release -p conveyor-tests --features fuzz --bin fuzz -- --seconds 60 --seed 1 [TARGET...]`.
//!
//! Each input is a seed of the target's corpus, changed in a few places. A panic, an answer that takes longer than a second, or
//! memory that grows without bound ends the run; the input is kept in a file, and the seed repeats it. `--replay FILE TARGET`
//! feeds one such file.
//!
//! The table tells how deep the inputs went (past the header, as far as rows, to the end), and how often a decoder of
//! another project panicked and was caught.

mod files;
mod mutate;
mod panics;
mod seeds;
mod targets;
mod watch;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use conveyor_tests::kill::now;
use conveyor_tests::report::markdown;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::targets::{Answer, Depth, Target, all};
use crate::watch::Watch;

/// Longest time that one input may take.
const SLOWEST: Duration = Duration::from_secs(1);
/// Most memory of the whole process, in MiB.
const MOST_MIB: u64 = 1024;

fn main() -> Result<()> {
    let (mut seconds, mut seed, mut wanted) = (60, 1, Vec::new());
    let mut replay = None;
    let mut arguments = std::env::args().skip(1);
    while let Some(flag) = arguments.next() {
        let mut number = || -> Result<u64> {
            let value = arguments.next().with_context(|| format!("{flag} needs a value"))?;
            value.parse().with_context(|| format!("{flag} takes a number"))
        };
        match flag.as_str() {
            "--seconds" => seconds = number()?,
            "--seed" => seed = number()?,
            "--replay" => replay = Some(arguments.next().context("--replay needs a file")?),
            other if other.starts_with('-') => {
                bail!("unknown flag {other}; known: --seconds N --seed N --replay FILE")
            }
            target => wanted.push(target.to_string()),
        }
    }
    let targets = all()?;
    let known: Vec<_> = targets.iter().map(|t| t.name).collect();
    if let Some(stranger) = wanted.iter().find(|w| !known.contains(&w.as_str())) {
        bail!("unknown target {stranger}; known: {}", known.join(", "));
    }
    if let Some(file) = replay {
        let input = std::fs::read(&file).with_context(|| format!("cannot read {file}"))?;
        for target in targets.iter().filter(|t| wanted.iter().any(|w| w == t.name)) {
            let began = now();
            let Answer { depth, error } = (target.run)(&input);
            println!("{}: {depth:?} after {:?}: {}", target.name, began.elapsed(), error.unwrap_or_default());
        }
        return Ok(());
    }
    let mut rows = Vec::new();
    let caught = panics::count();
    let watch = Watch::start();
    for target in targets.iter().filter(|t| wanted.is_empty() || wanted.iter().any(|w| w == t.name)) {
        let tally = fuzz(target, Duration::from_secs(seconds), seed, &watch)?;
        let share = |from: usize| {
            let deep: u64 = tally.depths[from..].iter().sum();
            format!("{} %", deep * 100 / tally.inputs.max(1))
        };
        let places = caught.take();
        let mut row = vec![target.name.to_string(), seconds.to_string(), tally.inputs.to_string()];
        row.extend([share(1), share(2), share(3), places.values().sum::<u64>().to_string(), "0".into()]);
        rows.push(row);
        for (place, count) in places {
            eprintln!("{}: {count} panics of a decoder, caught, at {place}", target.name);
        }
    }
    let head = [
        "target",
        "seconds",
        "inputs",
        "opened",
        "gave rows",
        "read whole",
        "decoder panics caught",
        "failures",
    ];
    println!("{}", markdown(&head, &rows));
    Ok(())
}

/// What came of one target.
struct Tally {
    inputs: u64,
    /// Inputs by [`Depth`].
    depths: [u64; 4],
}

/// Feeds one target for so long.
fn fuzz(target: &Target, time: Duration, seed: u64, watch: &Watch) -> Result<Tally> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let end = now() + time;
    let mut tally = Tally { inputs: 0, depths: [0; 4] };
    for (index, whole) in target.corpus.iter().enumerate() {
        let Answer { depth, error } = (target.run)(whole);
        ensure!(depth == Depth::Whole, "{}: seed {index} is not good, {depth:?}: {error:?}", target.name);
    }
    while now() < end {
        let input = mutate::mutated(&target.corpus, target.binary, &mut random);
        let wrong = match feed(target, &input, watch) {
            Ok(depth) => {
                tally.depths[depth as usize] += 1;
                None
            }
            Err(wrong) => Some(wrong),
        };
        if let Some(wrong) = wrong {
            let kept = keep(target.name, seed, tally.inputs, &input)?;
            bail!("{}: input {} of seed {seed} {wrong}; it is kept in {kept}", target.name, tally.inputs);
        }
        tally.inputs += 1;
        if tally.inputs.is_multiple_of(256) {
            ensure!(
                resident_mib() < MOST_MIB,
                "{}: memory grew beyond {MOST_MIB} MiB by input {}",
                target.name,
                tally.inputs
            );
        }
    }
    Ok(tally)
}

/// One input: how deep it went, or what went wrong.
fn feed(target: &Target, input: &[u8], watch: &Watch) -> std::result::Result<Depth, String> {
    let mut took = Duration::MAX;
    // Another process may have had the processor meanwhile: what is slow must be slow three times.
    for _ in 0..3 {
        let began = now();
        watch.begin(target.name, input);
        let outcome = catch_unwind(AssertUnwindSafe(|| (target.run)(input)));
        watch.end();
        took = took.min(began.elapsed());
        match outcome {
            Err(_) => return Err("panicked".to_owned()),
            Ok(answer) if took <= SLOWEST => return Ok(answer.depth),
            Ok(_) => {}
        }
    }
    Err(format!("took {took:?}"))
}

fn keep(target: &str, seed: u64, number: u64, input: &[u8]) -> Result<String> {
    let kept = std::env::temp_dir().join(format!("conveyor-fuzz-{target}-{seed}-{number}"));
    std::fs::write(&kept, input).with_context(|| format!("cannot keep the input in {}", kept.display()))?;
    Ok(kept.display().to_string())
}

/// Peak memory of this process; 0 on systems without `/proc`.
fn resident_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|l| l.starts_with("VmHWM:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) / 1024
}
