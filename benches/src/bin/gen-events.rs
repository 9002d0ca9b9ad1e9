//! `gen-events FOLDER [--bytes N] [--seed N] [--bad-every N]`: writes `events.ndjson` and `users.csv` into a folder.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

fn main() -> Result<()> {
    let mut folder = None;
    let (mut bytes, mut seed, mut bad_every) = (1_000_000_000, 1, None);
    let mut arguments = std::env::args().skip(1);
    while let Some(flag) = arguments.next() {
        let mut number = || -> Result<u64> {
            let value = arguments.next().with_context(|| format!("{flag} needs a value"))?;
            value.parse().with_context(|| format!("{flag} takes a number, not {value}"))
        };
        match flag.as_str() {
            "--bytes" => bytes = number()?,
            "--seed" => seed = number()?,
            "--bad-every" => bad_every = Some(number()?.max(1)),
            other if other.starts_with('-') => {
                bail!("unknown flag {other}; known: --bytes N --seed N --bad-every N")
            }
            other => folder = Some(PathBuf::from(other)),
        }
    }
    let folder =
        folder.context("which folder? usage: gen-events FOLDER [--bytes N] [--seed N] [--bad-every N]")?;
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let open = |name: &str| File::create(folder.join(name)).with_context(|| format!("cannot create {name}"));
    let mut out = BufWriter::with_capacity(1 << 20, open("events.ndjson")?);
    let rows = conveyor_benches::events(&mut out, bytes, seed, bad_every)?;
    out.flush().context("cannot write the events")?;
    let mut out = BufWriter::new(open("users.csv")?);
    conveyor_benches::users(&mut out)?;
    out.flush().context("cannot write the users")?;
    println!("{rows} rows");
    Ok(())
}
