//! Made-up events for the measurements: the same bytes for the same seed, on every machine.

use std::io::Write;

use anyhow::{Context, Result};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Users that events refer to, and rows of the lookup table.
pub const USERS: u32 = 100_000;

const EVENTS: [&str; 6] = ["view", "click", "purchase", "refund", "signup", "logout"];
const COUNTRIES: [&str; 8] = ["DE", "FR", "PT", "US", "BR", "IN", "JP", "NG"];
const PAGES: [&str; 5] = ["home", "search", "cart", "product/index", "account/settings"];
const WORDS: [&str; 10] =
    ["slow", "query", "retry", "mobile", "beta", "wide", "campaign", "returning", "visitor", "checkout"];

/// Writes newline-delimited JSON with the fields id, ts, user_id, event, amount, country, url and note until at least
/// `bytes` are written. With `bad_every`, one line in so many has an amount that is no number. Returns the rows.
///
/// # Errors
/// When the output does not take the bytes.
pub fn events(out: &mut impl Write, bytes: u64, seed: u64, bad_every: Option<u64>) -> Result<u64> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let (mut rows, mut written) = (0u64, 0u64);
    let mut line = Vec::with_capacity(512);
    while written < bytes {
        line.clear();
        let bad = bad_every.is_some_and(|every| rows % every == every - 1);
        event(&mut line, rows, bad, &mut random)?;
        out.write_all(&line).context("cannot write the events")?;
        written += line.len() as u64;
        rows += 1;
    }
    Ok(rows)
}

fn event(line: &mut Vec<u8>, id: u64, bad: bool, random: &mut ChaCha8Rng) -> Result<()> {
    let seconds = id / 1000;
    let (day, hour, minute) = (seconds / 86_400 % 28 + 1, seconds / 3600 % 24, seconds / 60 % 60);
    let user = random.random_range(0..USERS);
    let event = EVENTS[random.random_range(0..EVENTS.len())];
    let cents = random.random_range(0..100_000u32);
    let amount = if bad { "\"n/a\"".to_string() } else { format!("{}.{:02}", cents / 100, cents % 100) };
    let country = COUNTRIES[random.random_range(0..COUNTRIES.len())];
    let page = PAGES[random.random_range(0..PAGES.len())];
    let item = random.random_range(0..1_000_000u32);
    write!(
        line,
        "{{\"id\":{id},\"ts\":\"2025-01-{day:02}T{hour:02}:{minute:02}:{:02}.{:03}Z\",\"user_id\":{user},\
         \"event\":\"{event}\",\"amount\":{amount},\"country\":\"{country}\",\
         \"url\":\"https://shop.example/{page}?item={item}\",\"note\":\"",
        seconds % 60,
        id % 1000
    )?;
    for n in 0..random.random_range(1..6) {
        let space = if n == 0 { "" } else { " " };
        write!(line, "{space}{}", WORDS[random.random_range(0..WORDS.len())])?;
    }
    line.extend_from_slice(b"\"}\n");
    Ok(())
}

/// Writes the lookup table: `user_id,name,plan,city`, one row for each user.
///
/// # Errors
/// When the output does not take the bytes.
pub fn users(out: &mut impl Write) -> Result<()> {
    writeln!(out, "user_id,name,plan,city")?;
    for user in 0..USERS {
        let plan = ["free", "plus", "team"][user as usize % 3];
        let city = ["Berlin", "Paris", "Porto", "Boston", "Recife"][user as usize % 5];
        writeln!(out, "{user},User Number {user},{plan},{city}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(seed: u64, bad_every: Option<u64>) -> String {
        let mut out = Vec::new();
        events(&mut out, 20_000, seed, bad_every).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_same_seed_makes_the_same_bytes() {
        assert_eq!(made(1, None), made(1, None));
        assert_ne!(made(1, None), made(2, None));
    }

    #[test]
    fn bad_rows_come_as_often_as_asked() {
        let text = made(1, Some(10));
        let bad = text.lines().filter(|l| l.contains("\"amount\":\"n/a\"")).count();
        assert_eq!(bad, text.lines().count() / 10);
    }
}
