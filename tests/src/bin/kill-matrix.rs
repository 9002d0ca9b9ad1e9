//! The whole kill matrix in one command:
//! `cargo run -p conveyor-tests --bin kill-matrix -- --kills 200 --seed 1`.
//!
//! Prints the tables of `docs/reliability.md`. Ends with an error at the first difference, naming seed and moment.

use anyhow::{Context, Result, bail};
use conveyor_tests::kill::{self, Reference};
use conveyor_tests::report::markdown;
use conveyor_tests::traffic::Mode;

struct Settings {
    kills: usize,
    seed: u64,
    rows: usize,
    /// Only crash points whose names begin so; `None` for none of them.
    points: Option<String>,
}

fn settings() -> Result<Settings> {
    let mut settings = Settings { kills: 200, seed: 1, rows: 200_000, points: Some(String::new()) };
    let mut arguments = std::env::args().skip(1);
    while let Some(flag) = arguments.next() {
        let mut value = || arguments.next().with_context(|| format!("{flag} needs a value"));
        match flag.as_str() {
            "--kills" => settings.kills = value()?.parse().context("--kills takes a number")?,
            "--seed" => settings.seed = value()?.parse().context("--seed takes a number")?,
            "--rows" => settings.rows = value()?.parse().context("--rows takes a number")?,
            "--crash-points" => settings.points = Some(value()?),
            "--no-crash-points" => settings.points = None,
            _ => bail!(
                "unknown flag {flag}; known: --kills N --seed N --rows N --crash-points PREFIX --no-crash-points"
            ),
        }
    }
    Ok(settings)
}

fn main() -> Result<()> {
    let settings = settings()?;
    let mut rows = Vec::new();
    let mut references = Vec::new();
    for mode in [Mode::Streaming, Mode::Job] {
        let reference = Reference::new(mode, settings.rows, settings.seed)?;
        eprintln!("{mode:?}: undisturbed in {:.1} s", reference.took.as_secs_f64());
        references.push((mode, reference));
    }
    for (mode, reference) in &references {
        // The streaming run is the heart of the matter; the job adds single-file sinks and the last epoch.
        let kills = if *mode == Mode::Streaming { settings.kills } else { settings.kills.div_ceil(4) };
        let began = kill::now();
        let done = kill::random_kills(reference, kills, settings.seed)?;
        rows.push(vec![
            format!("{mode:?}"),
            done.kills.to_string(),
            done.before_publishing.to_string(),
            done.rounds.to_string(),
            "0".into(),
            format!("{:.0} s", began.elapsed().as_secs_f64()),
        ]);
        eprintln!("{mode:?}: {} kills, no difference", done.kills);
    }
    let head = [
        "mode",
        "kills",
        "of them before anything was published",
        "pipelines compared",
        "rows lost or doubled",
        "time",
    ];
    println!("{}", markdown(&head, &rows));
    if let Some(prefix) = &settings.points {
        // Every crash point runs the pipeline to its end twice, so it gets less to read.
        let rows = (settings.rows / 5).max(1);
        let small = [Mode::Streaming, Mode::Job]
            .map(|mode| Reference::new(mode, rows, settings.seed).map(|reference| (mode, reference)));
        let small = small.into_iter().collect::<Result<Vec<_>>>()?;
        println!("{}", crash_points(&small, prefix)?);
    }
    Ok(())
}

/// Every crash point in both modes, at its first and at a later passing.
fn crash_points(references: &[(Mode, Reference)], prefix: &str) -> Result<String> {
    let mut rows = Vec::new();
    for point in kill::crash_points()?.into_iter().filter(|p| p.starts_with(prefix)) {
        let mut row = vec![format!("`{point}`")];
        for (mode, reference) in references {
            for count in [1, 4] {
                let died = kill::crash_at(reference, &point, count)?;
                eprintln!(
                    "{point}:{count} {mode:?}: {}",
                    if died { "died, same output" } else { "not passed" }
                );
                row.push(if died { "same output".into() } else { "not passed".into() });
            }
        }
        rows.push(row);
    }
    let head = ["crash point", "streaming, 1st passing", "streaming, 4th", "job, 1st", "job, 4th"];
    Ok(markdown(&head, &rows))
}
