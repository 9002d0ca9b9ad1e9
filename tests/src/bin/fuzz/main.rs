//! Fuzzing by mutation, on stable Rust and without other tools:
//! `cargo run --release -p conveyor-tests --features fuzz --bin fuzz -- --seconds 60 --seed 1 [TARGET...]`.
//!
//! Each input is a seed of the target's corpus, changed in a few places. A panic, an answer that takes longer than a second, or
//! memory that grows without bound ends the run; the input is kept in a file, and the seed repeats it.

mod files;
mod mutate;
mod targets;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use conveyor_tests::kill::now;
use conveyor_tests::report::markdown;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::targets::{Target, all};

/// Longest time that one input may take.
const SLOWEST: Duration = Duration::from_secs(1);
/// Most memory of the whole process, in MiB.
const MOST_MIB: u64 = 1024;

fn main() -> Result<()> {
    let (mut seconds, mut seed, mut wanted) = (60, 1, Vec::new());
    let mut arguments = std::env::args().skip(1);
    while let Some(flag) = arguments.next() {
        let mut number = || -> Result<u64> {
            let value = arguments.next().with_context(|| format!("{flag} needs a value"))?;
            value.parse().with_context(|| format!("{flag} takes a number"))
        };
        match flag.as_str() {
            "--seconds" => seconds = number()?,
            "--seed" => seed = number()?,
            other if other.starts_with('-') => bail!("unknown flag {other}; known: --seconds N --seed N"),
            target => wanted.push(target.to_string()),
        }
    }
    let targets = all()?;
    let known: Vec<_> = targets.iter().map(|t| t.name).collect();
    if let Some(stranger) = wanted.iter().find(|w| !known.contains(&w.as_str())) {
        bail!("unknown target {stranger}; known: {}", known.join(", "));
    }
    let mut rows = Vec::new();
    for target in targets.iter().filter(|t| wanted.is_empty() || wanted.iter().any(|w| w == t.name)) {
        let runs = fuzz(target, Duration::from_secs(seconds), seed)?;
        rows.push(vec![target.name.to_string(), runs.to_string(), seconds.to_string(), "0".into()]);
    }
    println!("{}", markdown(&["target", "inputs", "seconds", "failures"], &rows));
    Ok(())
}

/// Feeds one target for so long; the number of inputs.
fn fuzz(target: &Target, time: Duration, seed: u64) -> Result<u64> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let end = now() + time;
    let mut runs = 0;
    while now() < end {
        let input = mutate::mutated(&target.corpus, &mut random);
        let began = now();
        let outcome = catch_unwind(AssertUnwindSafe(|| (target.run)(&input)));
        let took = began.elapsed();
        let wrong = match outcome {
            Err(_) => Some("panicked".to_string()),
            Ok(()) if took > SLOWEST => Some(format!("took {took:?}")),
            Ok(()) => None,
        };
        if let Some(wrong) = wrong {
            let kept = std::env::temp_dir().join(format!("conveyor-fuzz-{}-{seed}-{runs}", target.name));
            std::fs::write(&kept, &input)
                .with_context(|| format!("cannot keep the input in {}", kept.display()))?;
            bail!("{}: input {runs} of seed {seed} {wrong}; it is kept in {}", target.name, kept.display());
        }
        runs += 1;
        if runs % 256 == 0 {
            ensure!(
                resident_mib() < MOST_MIB,
                "{}: memory grew beyond {MOST_MIB} MiB by input {runs}",
                target.name
            );
        }
    }
    eprintln!("{}: {runs} inputs", target.name);
    Ok(runs)
}

/// Peak memory of this process; 0 on systems without `/proc`.
fn resident_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|l| l.starts_with("VmHWM:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) / 1024
}
